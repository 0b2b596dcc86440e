"""Batches: what they hold, how they are counted and moved."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lrfinder.errors import InvalidArgument

Batch = tuple[Any, ...] | dict[str, Any]


def to_device(batch: Any, device: torch.device | None) -> Any:  # noqa: ANN401 (any nesting)
    """Return the batch with its tensors on the device; lists become tuples."""
    if isinstance(batch, Tensor):
        return batch if device is None else batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = cast(Sequence[Any], batch)
        return _tuple_like(batch, (to_device(value, device) for value in parts))
    return batch


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


def _leaves(batch: Any) -> Iterator[Any]:  # noqa: ANN401 (any nesting)
    """What a batch holds, depth first."""
    if isinstance(batch, Mapping):
        for value in cast(Mapping[str, Any], batch).values():
            yield from _leaves(value)
    elif isinstance(batch, tuple | list):
        for value in cast(Sequence[Any], batch):
            yield from _leaves(value)
    else:
        yield batch


def elements_in(batch: Batch) -> int:
    """Numbers and characters in the batch; anything else counts as one."""
    return sum(
        leaf.numel() if isinstance(leaf, Tensor) else len(leaf) if isinstance(leaf, str) else 1
        for leaf in _leaves(batch)
    )


def first_rows(batch: Any, rows: int, of: int) -> Any:  # noqa: ANN401 (any nesting)
    """The batch with all tensors of `of` rows cut to their first `rows`."""
    if isinstance(batch, Tensor):
        return batch[:rows] if batch.ndim > 0 and len(batch) == of else batch
    if isinstance(batch, dict):
        parts = cast(dict[str, Any], batch)
        return {key: first_rows(value, rows, of) for key, value in parts.items()}
    if isinstance(batch, tuple):
        parts = cast(tuple[Any, ...], batch)
        return _tuple_like(batch, (first_rows(value, rows, of) for value in parts))
    return batch


def _tuple_like(batch: Any, values: Iterable[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    """The values as a tuple, or as the batch's own named tuple."""
    return type(batch)(*values) if hasattr(batch, "_fields") else tuple(values)


def _outline(batch: Any) -> str:  # noqa: ANN401
    if isinstance(batch, Mapping):
        names = ", ".join(map(str, cast(Mapping[str, Any], batch)))
        return f"a dict with {names or 'nothing'}"
    if isinstance(batch, tuple | list):
        parts = cast(Sequence[Any], batch)
        return f"a {type(parts).__name__} of {len(parts)}: {[type(p).__name__ for p in parts]}"
    return f"a {type(batch).__name__}"
