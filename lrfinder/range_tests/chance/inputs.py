"""Whether rows have inputs of their own, without which nothing can be learnt of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfinder.range_tests.chance.target_rows import is_dense, taken_rows
from lrfinder.tasks.data.batches import Batch, alike, leaves_of
from lrfinder.tasks.data.devices import tensors_in
from lrfinder.tasks.data.targets import Place


def inputs_differ(
    batches: Sequence[Batch], places: Sequence[Place | None], rows: Sequence[int]
) -> bool:
    """Whether anything beside the targets differs between rows, or between batches."""
    triples = zip(batches, places, rows, strict=True)
    one = sum(rows) == 1  # what differs inside of it may be rows of another dimension
    rests = [(_without(batch, place), 0 if one else count) for batch, place, count in triples]
    first = rests[0][0]
    return any(_varies(rest, count) or not alike(first, rest) for rest, count in rests)


def _without(batch: Batch, place: Place | None) -> list[Any]:
    """The leaves of a batch but for its target; of an object its tensors, where it has any."""
    try:
        rest = batch if place is None else place.put(batch, None)
    except Exception:  # of the batch's own class
        rest = batch
    return [part for leaf in leaves_of(rest) for part in tensors_in(leaf) or [leaf]]


def _varies(leaves: Sequence[Any], rows: int) -> bool:
    """Whether any of the leaves of a batch differs between its rows."""
    words = {leaf for leaf in leaves if isinstance(leaf, str | bytes)}
    return len(words) > 1 or any(
        _array_varies(leaf, rows)
        if isinstance(leaf, Tensor | np.ndarray)
        else not isinstance(leaf, str | bytes | int | float | None)
        for leaf in leaves
    )


def _array_varies(array: Any, rows: int) -> bool:  # noqa: ANN401
    """Whether it differs between its rows, or at all where it has none."""
    if not is_dense(array):
        return True
    dims = [k for k, size in enumerate(array.shape) if size == rows]
    whole = array.reshape(-1)
    if not dims:
        return bool((whole != whole[:1]).any())
    first = torch.zeros(rows, dtype=torch.long)
    return any(bool((array != taken_rows(array, dim, first)).any()) for dim in dims)
