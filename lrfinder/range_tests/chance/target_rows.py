"""Where the rows of targets lie, and the targets with their rows in another order."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lrfinder.tasks.data.batches import alike, is_plain, map_leaves

Dims = list[int | None] | None
"""Of every leaf of a target, the dimension that its rows lie in; None for a list of rows."""


def has_rows(targets: Sequence[Any], rows: Sequence[int]) -> bool:
    """Whether the targets have a dimension of so many elements."""
    try:
        row_dims(targets, rows)
    except ValueError:
        return False
    return True


def row_dims(targets: Sequence[Any], rows: Sequence[int]) -> Dims:
    """The dimensions of rows that all targets have in common; ValueError where there are none.

    What is no array, in a target of several parts, stays where it is.
    """
    columns = zip(*map(_leaves, targets), strict=True)  # a leaf of every target
    known = [_common_dims(column, rows) for column in columns]
    if any(known) and all(dims is None or dims for dims in known):
        return [None if dims is None else min(dims) for dims in known]
    if all(
        isinstance(target, list | tuple) and is_plain(target) and len(cast(list[Any], target)) == n
        for target, n in zip(targets, rows, strict=True)
    ):
        return None
    raise ValueError("the targets have no dimension of rows")


def _common_dims(leaves: Sequence[Any], rows: Sequence[int]) -> set[int] | None:
    """Dimensions of as many elements as there are rows; None for what is no array."""
    if not any(isinstance(leaf, Tensor | np.ndarray) for leaf in leaves):
        return None
    found = [
        {k for k, size in enumerate(leaf.shape) if size == count} if is_dense(leaf) else set[int]()
        for leaf, count in zip(leaves, rows, strict=True)
    ]
    return set.intersection(*found)


def is_dense(leaf: Any) -> bool:  # noqa: ANN401
    """Whether it is an array whose elements lie side by side."""
    if isinstance(leaf, Tensor):
        return leaf.layout is torch.strided and not leaf.is_nested
    return isinstance(leaf, np.ndarray)


def reordered(target: Any, dims: Dims, order: Tensor) -> Any:  # noqa: ANN401
    """The target with its rows in the order."""
    if dims is None:
        rows = [target[k] for k in order.tolist()]
        return rows if isinstance(target, list) else tuple(rows)
    left = iter(dims)

    def taken(leaf: Any) -> Any:  # noqa: ANN401
        return taken_rows(leaf, next(left), order)

    return map_leaves(taken, target)


def taken_rows(leaf: Any, dim: int | None, order: Tensor) -> Any:  # noqa: ANN401
    """The leaf with the rows of this dimension in the order; as it is where it has none."""
    if dim is None:
        return leaf
    if isinstance(leaf, Tensor):
        return leaf.index_select(dim, order.to(leaf.device))
    return leaf.take(order.numpy(), axis=dim)


def rows_like(target: Any, dims: Dims, k: int) -> int:  # noqa: ANN401
    """How many rows of a target are like row k."""
    if dims is None:
        return sum(alike(target[k], row) for row in target)
    same: Any = True
    for leaf, dim in zip(_leaves(target), dims, strict=True):
        if dim is not None:
            rows = (
                torch.movedim(leaf, dim, 0)
                if isinstance(leaf, Tensor)
                else np.moveaxis(leaf, dim, 0)
            )
            equal = rows == rows[k]
            equal = equal.cpu().numpy() if isinstance(equal, Tensor) else equal
            same = same & equal.all(axis=tuple(range(1, equal.ndim)))
    return int(np.sum(same))


def shape_of(target: Any) -> object:  # noqa: ANN401
    """What targets have in common that can stand for each other."""
    leaves = _leaves(target)
    arrays = [leaf for leaf in leaves if isinstance(leaf, Tensor | np.ndarray)]
    return type(target), len(leaves), tuple((tuple(a.shape), str(a.dtype)) for a in arrays)


def _leaves(target: Any) -> list[Any]:  # noqa: ANN401
    """What a target of plain parts holds."""
    found: list[Any] = []
    map_leaves(found.append, target)
    return found
