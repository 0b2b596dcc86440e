"""What a batch is.

A batch is whatever a loader gives: tensors, nestings of them in tuples, lists, mappings and
dataclasses, packed sequences, graphs, anything. It is handed on as it came, of the same class. Only
None is no batch: it is skipped, and a note says how many there were.

- *Rows*, the weight of a batch's means, are what `Task.rows` counts; by default the first dimension
  of its first tensor, of a packed sequence its sequences, and of lists of samples their length.
- *Cutting*: a batch that a loader made is never cut, since its rows may lie in any dimension. Only
  batches of plain tensors are, by the first dimension.
- *Moving* to a device: see `devices.py`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.devices import tensors_in

Batch = Any


def count_rows(batch: Batch) -> int:
    """Rows of the batch: the first dimension of its first tensor, its packed sequences or samples.

    Lists of samples are a list of dicts, or lists of one length of which one is of dicts, as images
    and their boxes are, whose tensors have no first dimension in common.
    """
    samples = _samples(batch)
    if samples:
        return samples
    first = next((x for x in leaves_of(batch) if isinstance(x, Tensor | PackedSequence)), None)
    if isinstance(first, PackedSequence):
        return int(first.batch_sizes[0])
    if first is None or first.ndim == 0:
        raise InvalidArgument(
            f"a batch must hold a tensor with a row dimension, but got {outline(batch)}; "
            "give Task(rows=...) a function that counts the rows of a batch"
        )
    return first.size(0)


def _samples(batch: Batch) -> int:
    """Length of the lists of samples that a batch consists of; 0 where it does not."""
    if not isinstance(batch, list | tuple) or not batch:
        return 0
    parts = cast(Sequence[Any], batch)
    lists: Sequence[Any] = [parts] if all(isinstance(p, Mapping) for p in parts) else parts
    if not all(isinstance(part, list | tuple) and part for part in lists):
        return 0
    length = len(lists[0])
    of_dicts = any(all(isinstance(one, Mapping) for one in part) for part in lists)
    if not of_dicts or any(len(part) != length for part in lists):
        return 0
    firsts = {x.shape[:1] for x in leaves_of(batch) if isinstance(x, Tensor)}
    return length if len(firsts) > 1 else 0


def elements_in(batch: Batch) -> int:
    """Numbers and characters in the batch; anything else counts as one."""
    return sum(map(_elements, leaves_of(batch)))


def map_leaves(function: Callable[..., Any], *batches: Batch) -> Batch:
    """Apply a function to the leaves of plain batches of one structure; returns that structure.

    Plain are tuples, named tuples, lists and dicts; an object of any other class is a leaf. Raises
    ValueError where the batches are not alike: other types, keys or lengths.
    """
    first, *others = batches
    if not is_plain(first):
        return function(*batches)
    if any(type(other) is not type(first) for other in others):
        raise ValueError("batches must be of one type")
    if isinstance(first, dict):
        keys = cast("dict[Any, Any]", first).keys()
        if any(other.keys() != keys for other in others):
            raise ValueError("batches must have the same keys")
        return {key: map_leaves(function, *(batch[key] for batch in batches)) for key in keys}
    parts = [map_leaves(function, *column) for column in zip(*batches, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)


def is_plain(batch: Batch) -> bool:
    """Whether the batch is a tuple, a named tuple, a list or a dict, and of no subclass of them."""
    named = isinstance(batch, tuple) and hasattr(batch, "_fields")
    return type(batch) in (tuple, list, dict) or (named and type(batch).__bases__ == (tuple,))


def alike(a: Batch, b: Batch) -> bool:
    """Whether two batches hold the same numbers and words, as far as can be seen."""
    pairs = list(zip(leaves_of(a), leaves_of(b), strict=False))
    same_length = len(pairs) == len(leaves_of(a)) == len(leaves_of(b))
    return same_length and all(_same(x, y) for x, y in pairs)


def outline(batch: Batch) -> str:
    """The kind of a batch in a few words."""
    if isinstance(batch, Mapping):
        names = ", ".join(map(str, cast(Mapping[Any, Any], batch)))
        return f"a {type(cast(object, batch)).__name__} with {names or 'nothing'}"
    if isinstance(batch, tuple | list):
        parts = cast(Sequence[Any], batch)
        return f"a {type(parts).__name__} of {len(parts)}: {[type(p).__name__ for p in parts[:8]]}"
    return f"a {type(batch).__name__}"


def leaves_of(batch: Batch) -> list[Any]:
    """What a batch holds, depth first."""
    return list(_walk(batch))


def _walk(batch: Batch) -> Iterator[Any]:
    if isinstance(batch, Mapping):
        parts: Any = cast(Mapping[Any, Any], batch).values()
    elif isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence):
        parts = batch
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        parts = [getattr(batch, f.name) for f in dataclasses.fields(batch)]
    else:
        yield batch
        return
    for part in parts:
        yield from _walk(part)


def _elements(leaf: Any) -> int:  # noqa: ANN401 (whatever a batch holds)
    if isinstance(leaf, str | bytes):
        return len(leaf)
    if isinstance(leaf, np.ndarray):
        return int(leaf.size)
    return max(1, sum(tensor.numel() for tensor in tensors_in(leaf)))


def _same(a: Any, b: Any) -> bool:  # noqa: ANN401
    """Whether two leaves are equal; what cannot be compared is taken for equal."""
    if isinstance(a, str | bytes | bool | int | float | np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b, equal_nan=_has_nan(a))
    ours, theirs = tensors_in(a), tensors_in(b)
    return len(ours) == len(theirs) and all(map(_same_tensor, ours, theirs))


def _has_nan(value: Any) -> bool:  # noqa: ANN401
    return np.asarray(value).dtype.kind in "fc"


def _same_tensor(a: Tensor, b: Tensor) -> bool:
    if a.layout is not torch.strided or b.layout is not torch.strided or a.is_nested or b.is_nested:
        return a.layout is b.layout
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())
