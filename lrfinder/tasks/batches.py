"""What a batch is: any nesting of tuples, lists and mappings, with tensors among its leaves.

Its rows are the first dimension of its first tensor, unless the task counts them itself. On its way
to a device a list becomes a tuple and a mapping a dict; a named tuple stays what it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lrfinder.errors import InvalidArgument

Batch = tuple[Any, ...] | dict[str, Any]


def to_device(batch: Any, device: torch.device | None) -> Any:  # noqa: ANN401 (any nesting)
    """Return the batch with its tensors on the device; lists become tuples."""

    def moved(leaf: Any) -> Any:  # noqa: ANN401
        return leaf.to(device) if isinstance(leaf, Tensor) and device is not None else leaf

    return map_leaves(moved, batch)


def map_leaves(function: Callable[..., Any], *batches: Any) -> Any:  # noqa: ANN401 (any nesting)
    """Apply a function to the leaves of batches of one structure; returns that structure.

    Raises ValueError where the batches are not alike: other types, keys or lengths.
    """
    first, *others = batches
    if not isinstance(first, Mapping | tuple | list):
        return function(*batches)
    if any(type(other) is not type(first) for other in others):
        raise ValueError("batches must be of one type")
    if isinstance(first, Mapping):
        keys = cast(Mapping[str, Any], first).keys()
        if any(other.keys() != keys for other in others):
            raise ValueError("batches must have the same keys")
        return {key: map_leaves(function, *(batch[key] for batch in batches)) for key in keys}
    parts = [map_leaves(function, *column) for column in zip(*batches, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def first_tensor(batch: Any) -> Tensor | None:  # noqa: ANN401
    """Return the first tensor found in the batch, depth first, or None."""
    return next((leaf for leaf in _leaves(batch) if isinstance(leaf, Tensor)), None)


def count_rows(batch: Batch) -> int:
    """Rows of the batch: the first dimension of its first tensor."""
    tensor = first_tensor(batch)
    if tensor is None or tensor.ndim == 0:
        raise InvalidArgument(
            f"a batch must hold a tensor with a row dimension, but got {_outline(batch)}; "
            "give Task(rows=...) a function that counts the rows of a batch"
        )
    return tensor.shape[0]


def _leaves(batch: Any) -> list[Any]:  # noqa: ANN401 (any nesting)
    """What a batch holds, depth first."""
    found: list[Any] = []
    map_leaves(found.append, batch)
    return found


def elements_in(batch: Batch) -> int:
    """Numbers and characters in the batch; anything else counts as one."""
    return sum(
        leaf.numel() if isinstance(leaf, Tensor) else len(leaf) if isinstance(leaf, str) else 1
        for leaf in _leaves(batch)
    )


def first_rows(batch: Any, rows: int, of: int) -> Any:  # noqa: ANN401 (any nesting)
    """The batch with all tensors of `of` rows cut to their first `rows`."""

    def cut(leaf: Any) -> Any:  # noqa: ANN401
        has_rows = isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == of
        return leaf[:rows] if has_rows else leaf

    return map_leaves(cut, batch)


def _outline(batch: Any) -> str:  # noqa: ANN401
    if isinstance(batch, Mapping):
        names = ", ".join(map(str, cast(Mapping[str, Any], batch)))
        return f"a dict with {names or 'nothing'}"
    if isinstance(batch, tuple | list):
        parts = cast(Sequence[Any], batch)
        return f"a {type(parts).__name__} of {len(parts)}: {[type(p).__name__ for p in parts]}"
    return f"a {type(batch).__name__}"
