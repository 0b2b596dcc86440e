"""Where batches come from, and in which order.

A `Source` yields the batches of one epoch, and their order
is a function of (seed, epoch) alone. There are two sources:

- `TensorSource`: tensors moved to the device once and batched by indexing (the fast path);
- `LoaderSource`: a DataLoader, iterated under random states of its own, so that neither the global
  random states nor the loader's generators move.

The ragged last batch is kept. A last batch of a single row is dropped where others are larger:
batch normalisation cannot train on it. Where ``steps_per_epoch`` asks for more batches than the
data have, the data are cycled, each cycle in a new order.
"""

import copy
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.batches import Batch, elements_in, first_rows, first_tensor, to_device
from lrfinder.tasks.random_states import Stream, derive

Data = Dataset[Any] | DataLoader[Any]
SUBSET_ROWS = 256
"""Most rows of a fixed subset: 64 already tell lrs apart, and 256 cost little beside an update."""
_AT_ONCE = 16  # batches that are indexed, or put on the device, at once
_ELEMENTS_AT_ONCE = 2**22  # numbers in them, if one batch has no more
_READ_AT_ONCE = 64  # batches that are read before they are evaluated; workers share open files
_EVALUATION_ELEMENTS = 2**21  # numbers in one evaluation batch of a TensorSource
_KEPT_ELEMENTS = 2**24  # numbers of a validation loader that stay on the device


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
    if type(data) is TensorDataset:
        return data.tensors
    if type(data) is Subset:
        inner = tensors_of(cast(Data, data.dataset))
        if inner is not None:
            index = torch.as_tensor(list(data.indices), dtype=torch.long)
            return tuple(tensor[index.to(tensor.device)] for tensor in inner)
    return None


def training_source(
    data: Data,
    batch_size: int,
    device: torch.device | None = None,
    batches: int | None = None,
) -> Source:
    """Source of shuffled training batches; `batches` overrides how many make an epoch."""
    tensors = tensors_of(data)
    if tensors is not None:
        return TensorSource(tensors, batch_size, device, batches)
    return LoaderSource(_as_loader(data, batch_size, shuffle=True), device, batches)


def evaluation_batches(data: Data, batch_size: int, device: torch.device | None) -> Iterable[Batch]:
    """All batches of a validation set, in a fixed order; can be iterated again and again."""
    tensors = tensors_of(data)
    if tensors is None:
        return _Fixed(LoaderSource(_as_loader(data, batch_size, shuffle=False), device, whole=True))
    row = sum(t[:1].numel() for t in tensors)
    size = max(batch_size, min(1024, _EVALUATION_ELEMENTS // max(row, 1)))
    moved = to_device(tensors, device)
    return [tuple(t[i : i + size] for t in moved) for i in range(0, len(moved[0]), size)]


def fixed_subset(data: Data, batch_size: int, device: torch.device | None) -> list[Batch]:
    """Return a fixed probe: at most 256 rows, the same at every call.

    Rows of tensors are drawn evenly over the data set by a fixed seed; of a DataLoader the first
    batches are taken until they hold 256 rows.
    """
    tensors = tensors_of(data)
    if tensors is not None:
        order = torch.randperm(
            len(tensors[0]), generator=torch.Generator().manual_seed(derive(0, "probe"))
        )[:SUBSET_ROWS]
        return [to_device(tuple(t[order.to(t.device)] for t in tensors), device)]
    source = LoaderSource(_as_loader(data, batch_size, shuffle=False), device, whole=True)
    probe: list[Batch] = []
    missing = SUBSET_ROWS
    for batch in source.epoch(derive(0, "probe"), 0):
        tensor = first_tensor(batch)
        rows = batch_size if tensor is None or tensor.ndim == 0 else len(tensor)
        probe.append(first_rows(batch, missing, rows) if rows > missing else batch)
        missing -= rows
        if missing <= 0:
            break
    return probe


class TensorSource:
    """Batches cut from tensors that lie on the device, in a new random order every epoch."""

    random_access = True

    def __init__(
        self,
        tensors: Sequence[Tensor],
        batch_size: int,
        device: torch.device | None = None,
        batches: int | None = None,
    ) -> None:
        rows = len(tensors[0])
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

    def _gather(self, order: Tensor, first: int, end: int) -> Iterator[Batch]:
        """Batches first..end-1 of a cycle, with one indexing for all of them."""
        size = self._batch_size
        rows = order[first * size : end * size]
        yield from zip(*(tensor[rows].split(size) for tensor in self._tensors), strict=True)

    def _order(self, seed: int, epoch: int, cycle: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(seed, "order", epoch, cycle))
        order = torch.randperm(len(self._tensors[0]), generator=generator)
        return order.to(self._tensors[0].device)


class LoaderSource:
    """Batches of a DataLoader, iterated without moving any random state of the caller.

    A source that is `whole` is for evaluation: one iteration, every row of it, of any length.
    """

    random_access = False

    def __init__(
        self,
        loader: DataLoader[Any],
        device: torch.device | None = None,
        batches: int | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self._loader = _without_persistent_workers(loader)
        self._device = device
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
        wanted = self.batches or None
        yield from islice(self._cycles(seed, epoch), start, wanted)

    def _cycles(self, seed: int, epoch: int) -> Iterator[Batch]:
        cycle = 0
        while True:
            empty = True
            for batch in self._one_cycle(derive(seed, "order", epoch, cycle)):
                empty = False
                yield batch
            if empty:
                raise InvalidArgument(no_batch_message(self._loader))
            if not self.batches:
                return
            cycle += 1

    def _one_cycle(self, seed: int) -> Iterator[Batch]:
        stream = Stream(seed)
        generators = [_GeneratorState(g, seed) for g in _generators(self._loader)]
        with _swapped(stream, generators):
            iterator = iter(self._loader)
        taken = 0
        while self._per_cycle is None or taken < self._per_cycle:
            with _swapped(stream, generators):
                batch = next(iterator, None)
            if batch is None:
                return
            taken += 1
            yield to_device(batch, self._device)


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


def loader_length(loader: DataLoader[Any]) -> int | None:
    """Batches in one iteration of the loader, or None where it has no length."""
    try:
        return len(loader)
    except TypeError:
        return None


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


def same_order_every_time(source: Source) -> bool:
    """Whether the first batch is the same for two seeds: a training set that is never shuffled."""
    if source.batches < 2:
        return False
    first, second = (next(source.epoch(derive(0, "order check", i), 0)) for i in range(2))
    a, b = first_tensor(first), first_tensor(second)
    return a is not None and b is not None and a.shape == b.shape and bool((a == b).all())


def _batches_at_once(elements: int) -> int:
    """How many batches of so many numbers are worth holding together."""
    return max(1, min(_AT_ONCE, _ELEMENTS_AT_ONCE // max(elements, 1)))


def _read_apart(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches, drawn from random states of their own that are the same at every call."""
    stream = Stream(derive(0, "evaluation"))
    with stream.active():
        iterator = iter(batches)
    while True:
        with stream.active():
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


def _out_of_shared_memory(batch: Batch) -> Batch:
    """The batch, or a copy where it comes from a worker process: each holds an open file."""
    tensor = first_tensor(batch)
    shared = tensor is not None and tensor.device.type == "cpu" and tensor.is_shared()
    return copy.deepcopy(batch) if shared else batch


def _without_persistent_workers(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader, or a twin of it: persistent workers share one iterator, with its random state."""
    if not loader.persistent_workers:
        return loader
    twin = copy.copy(loader)
    vars(twin).update(persistent_workers=False, _iterator=None)  # setattr refuses the first
    return twin


def _as_loader(data: Data, batch_size: int, *, shuffle: bool) -> DataLoader[Any]:
    if isinstance(data, DataLoader):
        return data
    streamed = isinstance(data, IterableDataset)
    return DataLoader(data, batch_size=batch_size, shuffle=None if streamed else shuffle)


def _last_batch_is_single(loader: DataLoader[Any]) -> bool:
    size, length = loader.batch_size, loader_length(loader)
    if size is None or size < 2 or loader.drop_last or length is None:
        return False
    if isinstance(loader.dataset, IterableDataset):
        return False
    rows = len(cast(Any, loader.sampler))
    return rows > 1 and rows % size == 1


class _GeneratorState:
    """The state that a generator of the user's has while a source draws from it."""

    def __init__(self, generator: torch.Generator, seed: int) -> None:
        self.generator = generator
        outside = generator.get_state()
        self.state = generator.manual_seed(seed).get_state()
        generator.set_state(outside)


def _generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    """All generators that iterating the loader may draw from, each once."""
    owners: list[Any] = [loader, loader.sampler, loader.batch_sampler]
    owners.append(getattr(loader.batch_sampler, "sampler", None))
    found = {id(g): g for o in owners if (g := getattr(o, "generator", None)) is not None}
    return list(found.values())


@contextmanager
def _swapped(stream: Stream, generators: list[_GeneratorState]) -> Generator[None]:
    outside = [g.generator.get_state() for g in generators]
    for g in generators:
        g.generator.set_state(g.state)
    try:
        with stream.active():
            yield
    finally:
        for g, state in zip(generators, outside, strict=True):
            g.state = g.generator.get_state()
            g.generator.set_state(state)
