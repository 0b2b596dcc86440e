"""Where batches come from, and in which order.

A `Source` yields the batches of one epoch, and their order
is a function of (seed, epoch) alone. There are two sources:

- `TensorSource`: tensors moved to the device once and batched by indexing (the fast path);
- `LoaderSource`: a DataLoader, see `loaders.py`.

The ragged last batch is kept. A last batch of a single row is dropped where others are larger:
batch normalisation cannot train on it. Where ``steps_per_epoch`` asks for more batches than the
data have, the data are cycled, each cycle in a new order.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.batches import Batch, count_rows, elements_in
from lrfinder.tasks.devices import tensors_in, to_device
from lrfinder.tasks.loaders import Data, LoaderSource, Seen, as_loader
from lrfinder.tasks.own_states import OwnStates
from lrfinder.tasks.random_states import Stream, derive

SUBSET_ROWS = 256
"""Most rows of a fixed subset: 64 already tell lrs apart, and 256 cost little beside an update."""
_AT_ONCE = 16  # batches that are indexed, or put on the device, at once
_ELEMENTS_AT_ONCE = 2**22  # numbers in them, if one batch has no more
_READ_AT_ONCE = 64  # batches that are read before they are evaluated; workers share open files
_EVALUATION_ELEMENTS = 2**21  # numbers in one evaluation batch of a TensorSource
_KEPT_ELEMENTS = 2**24  # numbers of a validation loader that stay on the device
_END = object()


class Source(Protocol):
    """Batches of an epoch, on the device, in an order given by (seed, epoch)."""

    batches: int
    """Batches in one epoch."""
    drops_single_row: bool
    """Whether a last batch of one row is left out."""
    random_access: bool
    """Whether starting in the middle of an epoch costs nothing."""

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches from number `start` on."""
        ...


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
        if piece and (held + size > _ELEMENTS_AT_ONCE or len(piece) == _READ_AT_ONCE):
            yield piece
            piece, held = [], 0
        piece.append(batch)
        held += size
    if piece:
        yield piece


def tensors_of(data: Data) -> tuple[Tensor, ...] | None:
    """Tensors of a TensorDataset, or of a Subset of one; None for any other data.

    A subclass is other data: it may change its rows as they are read.
    """
    found = _tensors_and_rows(data)
    if found is None:
        return None
    tensors, rows = found
    return tensors if rows is None else _picked(tensors, rows)


def are_tensors(data: Data) -> bool:
    """Whether the data have `tensors_of`."""
    return _tensors_and_rows(data) is not None


def _tensors_and_rows(data: Data) -> tuple[tuple[Tensor, ...], Tensor | None] | None:
    """Tensors of a TensorDataset, and which of their rows a Subset has; None for all of them."""
    if type(data) is TensorDataset:
        return data.tensors, None
    inner = _tensors_and_rows(cast(Data, data.dataset)) if type(data) is Subset else None
    if inner is None:
        return None
    tensors, rows = inner
    index = torch.as_tensor(list(cast(Any, data).indices), dtype=torch.long)
    return tensors, index if rows is None else rows[index]


def _picked(tensors: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor[rows.to(tensor.device)] for tensor in tensors)


def training_source(
    data: Data,
    batch_size: int,
    device: torch.device | None = None,
    batches: int | None = None,
    seen: Seen | None = None,
) -> Source:
    """Source of shuffled training batches; `batches` overrides how many make an epoch."""
    found = _tensors_and_rows(data)
    if found is not None:
        tensors, rows = found
        own = tensors if rows is None else _picked(tensors, rows)
        return TensorSource(own, batch_size, device, batches, rows)
    return LoaderSource(as_loader(data, batch_size, shuffle=True), device, batches, seen=seen)


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
    found = _tensors_and_rows(data)
    if found is None:
        return next(iter(evaluation_batches(data, batch_size, device)))
    tensors, rows = found
    size = _evaluation_rows(tensors, batch_size)
    first = torch.arange(min(size, len(tensors[0]))) if rows is None else rows[:size]
    return to_device(_picked(tensors, first), device)


def _whole_source(
    data: Data, batch_size: int, device: torch.device | None, seen: Seen | None
) -> LoaderSource:
    return LoaderSource(as_loader(data, batch_size, shuffle=False), device, whole=True, seen=seen)


def _evaluation_rows(tensors: Sequence[Tensor], batch_size: int) -> int:
    row = sum(t[:1].numel() for t in tensors)
    return max(batch_size, min(1024, _EVALUATION_ELEMENTS // max(row, 1)))


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
    found = _tensors_and_rows(data)
    if found is not None:
        tensors, rows = found
        count = len(tensors[0]) if rows is None else len(rows)
        generator = torch.Generator().manual_seed(derive(0, "probe"))
        order = torch.randperm(count, generator=generator)[:SUBSET_ROWS]
        return [to_device(_picked(tensors, order if rows is None else rows[order]), device)]
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


class TensorSource:
    """Batches cut from tensors that lie on the device, in a new random order every epoch."""

    random_access = True

    def __init__(
        self,
        tensors: Sequence[Tensor],
        batch_size: int,
        device: torch.device | None = None,
        batches: int | None = None,
        numbers: Tensor | None = None,
    ) -> None:
        """`numbers` are those of the rows in the data set, where it has others too."""
        rows = len(tensors[0])
        self._numbers = numbers
        if rows == 0:
            raise InvalidArgument("training data must have a row, but got 0 rows")
        self._tensors: tuple[Tensor, ...] = to_device(tuple(tensors), device)
        self._batch_size = batch_size
        self._at_once = _batches_at_once(batch_size * sum(t[:1].numel() for t in tensors))
        self.drops_single_row = batch_size > 1 and rows > 1 and rows % batch_size == 1
        self._per_cycle = -(-rows // batch_size) - self.drops_single_row
        self.batches = self._per_cycle if batches is None else batches

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches from number `start` on."""
        while start < self.batches:
            cycle, position = divmod(start, self._per_cycle)
            order = self._order(seed, epoch, cycle)
            end = min(self._per_cycle, position + self.batches - start)
            for first in range(position, end, self._at_once):
                yield from self._gather(order, first, min(first + self._at_once, end))
            start += end - position

    def row_numbers(self, seed: int, epoch: int, batch: int) -> list[int]:
        """Numbers, in the data set, of the rows of one batch of an epoch."""
        cycle, position = divmod(batch, self._per_cycle)
        first = position * self._batch_size
        rows = self._order(seed, epoch, cycle)[first : first + self._batch_size].cpu()
        return (rows if self._numbers is None else self._numbers[rows]).tolist()

    def _gather(self, order: Tensor, first: int, end: int) -> Iterator[Batch]:
        """Batches first..end-1 of a cycle, with one indexing for all of them."""
        size = self._batch_size
        rows = order[first * size : end * size]
        yield from zip(*(tensor[rows].split(size) for tensor in self._tensors), strict=True)

    def _order(self, seed: int, epoch: int, cycle: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(seed, "order", epoch, cycle))
        order = torch.randperm(len(self._tensors[0]), generator=generator)
        return order.to(self._tensors[0].device)


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


class Feed:
    """The batches of one seed, handed out in pieces; a DataLoader is iterated once per epoch."""

    def __init__(self, source: Source, seed: int) -> None:
        self._source = source
        self._seed = seed
        self._epoch = -1
        self._next = 0
        self._iterator: Iterator[Batch] = iter(())
        self.at_once = 1
        """Batches that may be taken at once; 1 until one was seen."""

    def take(self, epoch: int, start: int, count: int) -> list[Batch]:
        """Return batches start..start+count-1 of the epoch; going back starts the epoch again."""
        if (epoch, start) != (self._epoch, self._next):
            self._iterator = self._source.epoch(self._seed, epoch, start)
            self._epoch = epoch
        batches = list(islice(self._iterator, count))
        self._next = start + len(batches)
        if batches:
            self.at_once = _batches_at_once(elements_in(batches[0]))
        return batches


def _batches_at_once(elements: int) -> int:
    """How many batches of so many numbers are worth holding together."""
    return max(1, min(_AT_ONCE, _ELEMENTS_AT_ONCE // max(elements, 1)))


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
