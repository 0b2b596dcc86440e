"""Validation batches: all of them, or a fixed subset; the same ones at every call."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.tasks.data.batches import Batch, count_rows, elements_in
from lrfinder.tasks.data.devices import tensors_in, to_device
from lrfinder.tasks.data.loaders import Data, LoaderSource, Seen, as_loader
from lrfinder.tasks.data.sources.tensors import picked, tensors_and_rows, tensors_of
from lrfinder.tasks.data.sources.training import ELEMENTS_AT_ONCE, Source
from lrfinder.tasks.state.own_states import OwnStates
from lrfinder.tasks.state.random_states import Stream, derive

SUBSET_ROWS = 256
"""Most rows of a fixed subset: 64 already tell lrs apart, and 256 cost little beside an update."""
_READ_AT_ONCE = 64  # batches that are read before they are evaluated; workers share open files
_EVALUATION_ELEMENTS = 2**21  # numbers in one evaluation batch of a TensorSource
_KEPT_ELEMENTS = 2**24  # numbers of a validation loader that stay on the device
_END = object()


def evaluation_batches(
    data: Data, batch_size: int, device: torch.device | None, seen: Seen | None = None
) -> Iterable[Batch]:
    """All batches of a validation set, in a fixed order; can be iterated again and again."""
    tensors = tensors_of(data)
    if tensors is None:
        return _Fixed(_whole_source(data, batch_size, device, seen))
    size = _evaluation_rows(tensors, batch_size)
    moved = to_device(tensors, device)
    return [tuple(t[i : i + size] for t in moved) for i in range(0, len(moved[0]), size)]


def first_evaluation_batch(data: Data, batch_size: int, device: torch.device | None) -> Batch:
    """The first of the `evaluation_batches`; of tensors no other rows are put on the device."""
    found = tensors_and_rows(data)
    if found is None:
        return next(iter(evaluation_batches(data, batch_size, device)))
    tensors, rows = found
    size = _evaluation_rows(tensors, batch_size)
    first = torch.arange(min(size, len(tensors[0]))) if rows is None else rows[:size]
    return to_device(picked(tensors, first), device)


def fixed_subset(
    data: Data,
    batch_size: int,
    device: torch.device | None,
    rows_of: Callable[[Any], float] = count_rows,
    seen: Seen | None = None,
) -> list[Batch]:
    """Return a fixed probe, the same at every call.

    Of tensors it is 256 rows, drawn evenly over the data set by a fixed seed. Batches of a loader
    are not cut: its first ones are taken until they hold 256 rows.
    """
    found = tensors_and_rows(data)
    if found is not None:
        tensors, rows = found
        count = len(tensors[0]) if rows is None else len(rows)
        generator = torch.Generator().manual_seed(derive(0, "probe"))
        order = torch.randperm(count, generator=generator)[:SUBSET_ROWS]
        return [to_device(picked(tensors, order if rows is None else rows[order]), device)]
    source = _whole_source(data, batch_size, device, seen)
    probe: list[Batch] = []
    held = 0
    for batch in islice(source.epoch(derive(0, "probe"), 0), SUBSET_ROWS):
        probe.append(_out_of_shared_memory(batch))
        held += rows_of(batch)
        if held >= SUBSET_ROWS:
            break
    return probe


def first_of_subset(data: Data, batch_size: int, device: torch.device | None) -> Batch:
    """Read the first batch of the `fixed_subset` of data that are not tensors."""
    return next(_whole_source(data, batch_size, device, None).epoch(derive(0, "probe"), 0))


def in_pieces(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """The batches in lists that may lie on the device at once, in the same order.

    Reading them moves no global random state, whatever they are.
    """
    piece: list[Batch] = []
    held = 0
    for batch in batches if isinstance(batches, list | _Fixed) else _read_apart(batches):
        if batch is None:
            continue
        size = elements_in(batch)
        if piece and (held + size > ELEMENTS_AT_ONCE or len(piece) == _READ_AT_ONCE):
            yield piece
            piece, held = [], 0
        piece.append(batch)
        held += size
    if piece:
        yield piece


def _whole_source(
    data: Data, batch_size: int, device: torch.device | None, seen: Seen | None
) -> LoaderSource:
    return LoaderSource(as_loader(data, batch_size, shuffle=False), device, whole=True, seen=seen)


def _evaluation_rows(tensors: Sequence[Tensor], batch_size: int) -> int:
    row = sum(t[:1].numel() for t in tensors)
    return max(batch_size, min(1024, _EVALUATION_ELEMENTS // max(row, 1)))


class _Fixed:
    """One epoch of a source, the same at every iteration; kept from the first one if not large."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self._read() if self._kept is None else iter(self._kept)

    def _read(self) -> Iterator[Batch]:
        batches: list[Batch] = []
        held = 0
        for batch in self._source.epoch(derive(0, "evaluation"), 0):
            held += elements_in(batch)
            if held <= _KEPT_ELEMENTS:
                batches.append(_out_of_shared_memory(batch))
            else:
                batches.clear()
            yield batch
        if held <= _KEPT_ELEMENTS:
            self._kept = batches


def _read_apart(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches, drawn from random states of their own that are the same at every call."""
    seed = derive(0, "evaluation")
    is_loader = isinstance(batches, DataLoader)
    states = OwnStates(batches, seed, set_epoch=False) if is_loader else Stream(seed)
    with states.active():
        iterator = iter(batches)
    while True:
        with states.active():
            batch = next(iterator, _END)
        if batch is _END:
            return
        yield batch


def _out_of_shared_memory(batch: Batch) -> Batch:
    """The batch, or a copy where it comes from a worker process: each holds an open file."""
    shared = any(t.device.type == "cpu" and t.is_shared() for t in tensors_in(batch))
    return copy.deepcopy(batch) if shared else batch
