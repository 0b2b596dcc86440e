"""Training batches, in an order given by (seed, epoch)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch, elements_in
from lrfinder.tasks.data.devices import to_device
from lrfinder.tasks.data.loaders import Data, LoaderSource, Seen, as_loader
from lrfinder.tasks.data.sources.tensors import picked, tensors_and_rows
from lrfinder.tasks.state.random_states import derive

_AT_ONCE = 16  # batches that are indexed, or put on the device, at once
ELEMENTS_AT_ONCE = 2**22  # numbers in them, if one batch has no more


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


def training_source(
    data: Data,
    batch_size: int,
    device: torch.device | None = None,
    batches: int | None = None,
    seen: Seen | None = None,
) -> Source:
    """Source of shuffled training batches; `batches` overrides how many make an epoch."""
    found = tensors_and_rows(data)
    if found is not None:
        tensors, rows = found
        own = tensors if rows is None else picked(tensors, rows)
        return TensorSource(own, batch_size, device, batches, rows)
    return LoaderSource(as_loader(data, batch_size, shuffle=True), device, batches, seen=seen)


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
    return max(1, min(_AT_ONCE, ELEMENTS_AT_ONCE // max(elements, 1)))
