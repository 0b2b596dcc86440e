"""Batches of a DataLoader, in an order that is a function of (seed, epoch).

A loader is iterated under random states of its own, so that neither the global random states nor
the generators of its parts move (`tasks/state/own_states.py`). A batch that is None, as a collate
function gives it where it has thrown all rows away, is skipped and counted.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.devices import to_device
from lrfinder.tasks.state.own_states import OwnStates
from lrfinder.tasks.state.random_states import derive

Data = Dataset[Any] | DataLoader[Any]
_MOST_SKIPPED = 1000
"""Batches in a row that may be None: an endless stream of them has no other end."""
MOST_UNSIZED = 4096
"""Batches of validation data without a length, which may have no end either."""
_END = object()


@dataclass
class Seen:
    """How many batches were read, and how many of them were None."""

    batches: int = 0
    none: int = 0


class LoaderSource:
    """Batches of a DataLoader, iterated without moving any random state of the caller.

    A source that is `whole` is for evaluation: one iteration, every row of it.
    """

    random_access = False

    def __init__(
        self,
        loader: DataLoader[Any],
        device: torch.device | None = None,
        batches: int | None = None,
        *,
        whole: bool = False,
        seen: Seen | None = None,
    ) -> None:
        self.loader = _without_persistent_workers(loader)
        self._device = device
        self._whole = whole
        self.seen = seen or Seen()
        """What was read, here and wherever the same `seen` was given."""
        length = loader_length(loader)
        self.drops_single_row = not whole and _last_batch_is_single(loader)
        self._per_cycle = None if length is None else length - self.drops_single_row
        if self._per_cycle == 0:
            raise InvalidArgument(no_batch_message(loader))
        if batches is None and self._per_cycle is None and not whole:
            raise InvalidArgument(
                "training data without a length need Task(steps_per_epoch=...), but got None"
            )
        self.batches = batches if batches is not None else self._per_cycle or 0

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches from number `start` on; the earlier ones are drawn and dropped.

        An iteration that ends early is followed by another; one without a batch is an error.
        """
        wanted = None if self._whole else self.batches
        yield from islice(self._cycles(seed, epoch), start, wanted)

    def _cycles(self, seed: int, epoch: int) -> Iterator[Batch]:
        cycle = 0
        while True:
            before, empty = replace(self.seen), True
            for batch in self.cycle(derive(seed, "order", epoch, cycle)):
                empty = False
                yield batch
            if empty:
                raise InvalidArgument(_nothing_message(self.loader, before, self.seen))
            if self._whole:
                return
            cycle += 1

    def cycle(self, seed: int) -> Iterator[Batch]:
        """Yield the batches of one iteration of the loader, in the order that the seed gives."""
        states = OwnStates(self.loader, seed, set_epoch=not self._whole)
        with states.active():
            iterator = iter(self.loader)
        taken = in_a_row = 0
        while self._per_cycle is None or taken < self._per_cycle:
            with states.active():
                batch = next(iterator, _END)
            if batch is _END:
                return
            taken += 1
            self._check_end(taken)
            self.seen.batches += 1
            in_a_row = in_a_row + 1 if batch is None else 0
            if batch is not None:
                yield to_device(batch, self._device)
                continue
            self.seen.none += 1
            if in_a_row == _MOST_SKIPPED:
                raise InvalidArgument(_all_none_message(in_a_row))

    def _check_end(self, taken: int) -> None:
        if self._whole and self._per_cycle is None and taken > MOST_UNSIZED:
            raise InvalidArgument(
                "validation data without a length must end, but gave more than "
                f"{MOST_UNSIZED:,} batches; give them a __len__, and only so many batches are read"
            )


def loader_length(loader: DataLoader[Any]) -> int | None:
    """Batches in one iteration of the loader, or None where it has no length."""
    try:
        return len(loader)
    except TypeError:
        return None


def rows_of_epoch(data: Data) -> int | None:
    """Rows that one iteration of the data goes through; None where that is not known."""
    if isinstance(data, DataLoader):
        streamed = isinstance(data.dataset, IterableDataset)
        rows: Any = None if streamed else data.dataset if data.batch_size is None else data.sampler
    else:
        rows = None if isinstance(data, IterableDataset) else data
    try:
        return len(rows) or None
    except TypeError:
        return None


def sample_counts(data: Data, batch_size: int, batches: int) -> list[int] | None:
    """Samples in each of the first batches of the data; None where these are not known."""
    loader = isinstance(data, DataLoader)
    size, rows = data.batch_size if loader else batch_size, rows_of_epoch(data)
    if size is None or rows is None:
        return None if size is None else [size] * batches
    return [min(size, max(rows - k * size, 0)) for k in range(batches)]


def as_loader(data: Data, batch_size: int, *, shuffle: bool) -> DataLoader[Any]:
    """The loader, or one for a data set."""
    if isinstance(data, DataLoader):
        return data
    streamed = isinstance(data, IterableDataset)
    return DataLoader(data, batch_size=batch_size, shuffle=None if streamed else shuffle)


def no_batch_message(loader: DataLoader[Any]) -> str:
    """One line that says why the loader has no batch."""
    try:
        rows: int | str = len(cast(Any, loader.dataset))
    except TypeError:
        rows = "an unknown number of"
    return (
        f"a DataLoader must give at least one batch, but got none from {rows} rows "
        f"(batch_size={loader.batch_size}, drop_last={loader.drop_last}); "
        "give it more rows or a smaller batch_size"
    )


def _nothing_message(loader: DataLoader[Any], before: Seen, after: Seen) -> str:
    """One line for an iteration that gave nothing, by what was read before and after it."""
    if after.none > before.none:
        return _all_none_message(after.none - before.none)
    if before.batches:
        return (
            "a DataLoader must give its batches at every iteration, but gave none after the first "
            f"{before.batches:,}: its data can be read once only, as those of a generator; "
            "write a data set whose __iter__ begins anew at every call"
        )
    return no_batch_message(loader)


def _all_none_message(none: int) -> str:
    return (
        "a DataLoader must give batches, but the only ones that it gave "
        f"({none:,}) were None; return a batch from its collate_fn"
    )


def _without_persistent_workers(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader, or a twin of it: persistent workers share one iterator, with its random state."""
    if not loader.persistent_workers:
        return loader
    twin = copy.copy(loader)
    vars(twin).update(persistent_workers=False, _iterator=None)  # setattr refuses the first
    return twin


def _last_batch_is_single(loader: DataLoader[Any]) -> bool:
    size, length = loader.batch_size, loader_length(loader)
    if size is None or size < 2 or loader.drop_last or length is None:
        return False
    if isinstance(loader.dataset, IterableDataset):
        return False
    rows = len(cast(Any, loader.sampler))
    return rows > 1 and rows % size == 1
