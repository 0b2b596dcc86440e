"""Batches whose targets change places, for the permutation test of a range test.

Targets change places along the dimension of rows of their batch. Where they have none, or batches
are small, whole targets change places between batches of one shape; never anything along time. The
batches are copied and not rebuilt (`tasks/data/targets.py`).

Where no target is found, where too few of them can change places, and where rows have the same
inputs, of which nothing can be learnt, there is no exchange, and the reason says why.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lrfinder.range_tests.chance.inputs import inputs_differ
from lrfinder.range_tests.chance.target_rows import (
    has_rows,
    reordered,
    row_dims,
    rows_like,
    shape_of,
)
from lrfinder.tasks.data.batches import Batch, alike
from lrfinder.tasks.data.loaders import rows_of_epoch, sample_counts
from lrfinder.tasks.data.sources import SUBSET_ROWS, are_tensors
from lrfinder.tasks.data.targets import Place, place_of
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import user_code

OWN, DRAWN = "own", "drawn"
PERMUTED = tuple(f"permuted {k}" for k in range(16))
"""Names of the sets of batches: as they are, with targets drawn with replacement, exchanged."""
NO_TARGET = "no target was found in the batches; Task(target=...) names it"
NONE_AT_ALL = "the task says that it has no target"
FEW_ROWS = (
    "it takes 32 rows to evaluate, but got {}; give more validation data or, where rows lie in "
    "another dimension, as the nodes of a graph, Task(rows=...) that counts them"
)
ALIKE = "nearly all targets are alike; it takes 8 rows with other targets than most"
SMALL = "the batches are too small; it takes 8 rows in a batch, or 8 batches of one shape"
NO_ROWS = (
    "no dimension of the targets is as long as their batch has rows; it takes Task(rows=...) that "
    "counts them, or 8 batches of one shape"
)
NOT_COPIED = (
    "no copy of a batch can be given other targets; it takes a batch whose parts can be set"
)
OWN_BATCHES = "a loop keeps its batches to itself, so that no targets can be exchanged"
SAME_INPUTS = "the inputs are the same in every row"
_FEWEST_ROWS = 32  # of all batches; with fewer, learning is not told from chance
_FEWEST_TO_EXCHANGE = 8  # rows of a batch, or batches of one shape
_FEWEST_UNLIKE = 8  # rows whose targets are not what most rows of their batch have
_MOST_ALIKE = 0.75  # of the batches of one shape
_CANDIDATES = 5  # for the target that most others are like


@dataclass(frozen=True)
class Unchecked:
    """Why targets were not exchanged, and what to do."""

    why: str


@dataclass(frozen=True)
class Exchange:
    """Batches, and their targets as they are dealt out among them."""

    batches: Sequence[Batch]
    _places: Sequence[Place]
    _deal: "Callable[[_Order], Iterator[Any]]"

    @property
    def sets(self) -> dict[str, Iterable[Batch]]:
        """The batches to evaluate a model on, by name; made when they are read."""
        permuted = {name: _Dealt(self, partial(_cycle, k)) for k, name in enumerate(PERMUTED)}
        return {OWN: self.batches, DRAWN: _Dealt(self, _drawn), **permuted}

    def dealt(self, order: "_Order") -> Iterator[Batch]:
        """Yield the batches with their targets in another order."""
        for batch, place, target in zip(self.batches, self._places, self._deal(order), strict=True):
            yield place.put(batch, target)


def exchange(task: Problem, batches: Iterable[Batch]) -> Exchange | Unchecked:
    """The batches whose targets can change places, or why too few of them can.

    Raises InvalidArgument where the task names a target that a batch does not have.
    """
    if isinstance(task, Loop):
        return Unchecked(OWN_BATCHES)
    if task.target is False:
        return Unchecked(NONE_AT_ALL)
    batches = list(batches)
    with user_code("looking for the targets"):
        places = [place_of(batch, task.target) for batch in batches]
        rows = [int(task.count(batch)) for batch in batches]
    if not inputs_differ(batches, places, rows):
        return Unchecked(SAME_INPUTS)
    found = [place for place in places if place is not None]
    if len(found) < len(batches):
        return Unchecked(NO_TARGET)
    if not all(map(_can_be_put, batches, found)):
        return Unchecked(NOT_COPIED)
    targets = [place.of(batch) for batch, place in zip(batches, found, strict=True)]
    rows = _counted(targets, rows, _samples(task, batches))
    if sum(rows) < _FEWEST_ROWS:
        return Unchecked(FEW_ROWS.format(sum(rows)))
    for way in (_by_rows(targets, rows), _by_batches(targets, rows)):
        exchanged = sum(rows[k] for k in way.batches)
        if exchanged >= _FEWEST_ROWS and exchanged > sum(rows) / 2:
            taken = way.batches
            return Exchange([batches[k] for k in taken], [found[k] for k in taken], way.deal)
    return Unchecked(_why_none(targets, rows))


def _samples(task: Task, batches: Sequence[Batch]) -> list[int] | None:
    """How many samples of the data set each batch was made of; None where that is not known."""
    data = task.train if task.valid is None else task.valid
    if are_tensors(data):  # the whole subset is one batch
        rows = rows_of_epoch(data) or 0
        return [min(SUBSET_ROWS, rows)] if len(batches) == 1 else None
    return sample_counts(data, task.batch_size, len(batches))


def _counted(targets: Sequence[Any], rows: list[int], samples: list[int] | None) -> list[int]:
    """Rows as the task counts them, or samples where the targets lie along these alone.

    They do where the task counts something else, as the tokens of a text.
    """
    if samples is None or has_rows(targets, rows) or not has_rows(targets, samples):
        return rows
    return samples


def _why_none(targets: Sequence[Any], rows: Sequence[int]) -> str:
    """Why neither rows nor whole targets can change places, where there are rows enough."""
    groups = _of_one_shape(targets, rows)
    in_groups = sum(rows[k] for group in groups if len(group) >= _FEWEST_TO_EXCHANGE for k in group)
    if in_groups > sum(rows) / 2:
        return ALIKE
    if not has_rows(targets, rows):
        return NO_ROWS
    large = sum(count for count in rows if count >= _FEWEST_TO_EXCHANGE)
    return ALIKE if large > sum(rows) / 2 else SMALL


_Order = Callable[[int], Tensor]
"""Which of so many targets comes at each place: int64[targets]."""


def _cycle(number: int, count: int) -> Tensor:
    """A random order in which no target keeps its place."""
    generator = torch.Generator().manual_seed(number)
    chain = torch.randperm(count, generator=generator)
    order = torch.empty_like(chain)
    order[chain] = chain.roll(1)
    return order


def _drawn(count: int) -> Tensor:
    """Targets drawn with replacement."""
    generator = torch.Generator().manual_seed(len(PERMUTED))
    return torch.randint(count, (count,), generator=generator)


@dataclass(frozen=True)
class _Dealt:
    """The batches of an exchange with their targets in an order, made at each iteration."""

    exchange: Exchange
    order: _Order

    def __iter__(self) -> Iterator[Batch]:
        return self.exchange.dealt(self.order)


@dataclass(frozen=True)
class _Way:
    """Which batches can be dealt other targets, by number, and how."""

    batches: Sequence[int]
    deal: Callable[[_Order], Iterator[Any]]


def _by_rows(targets: Sequence[Any], rows: Sequence[int]) -> _Way:
    """Exchange among the rows of each batch."""
    try:
        dims = row_dims(targets, rows)
    except ValueError:  # they have no rows
        return _Way([], lambda order: iter(()))
    unlike = [
        _unlike(count, partial(rows_like, target, dims)) if count >= _FEWEST_TO_EXCHANGE else 0
        for target, count in zip(targets, rows, strict=True)
    ]
    enough = sum(unlike) >= _FEWEST_UNLIKE
    taken = [number for number, others in enumerate(unlike) if others and enough]

    def deal(order: _Order) -> Iterator[Any]:
        for number in taken:
            yield reordered(targets[number], dims, order(rows[number]))

    return _Way(taken, deal)


def _by_batches(targets: Sequence[Any], rows: Sequence[int]) -> _Way:
    """Exchange whole targets among the batches of one shape."""
    groups = _of_one_shape(targets, rows)

    def like(group: list[int], k: int) -> int:
        return sum(alike(targets[group[k]], targets[number]) for number in group)

    used = [
        group
        for group in groups
        if len(group) >= _FEWEST_TO_EXCHANGE
        and _unlike(len(group), partial(like, group)) >= (1 - _MOST_ALIKE) * len(group)
    ]
    taken = sorted(number for group in used for number in group)

    def deal(order: _Order) -> Iterator[Any]:
        source = {
            number: group[k]
            for group in used
            for number, k in zip(group, order(len(group)).tolist(), strict=True)
        }
        for number in taken:
            yield targets[source[number]]

    return _Way(taken, deal)


def _of_one_shape(targets: Sequence[Any], rows: Sequence[int]) -> list[list[int]]:
    """The numbers of the batches whose targets are of one shape, and that have as many rows."""
    groups: dict[object, list[int]] = defaultdict(list)
    for number, (target, count) in enumerate(zip(targets, rows, strict=True)):
        groups[count, shape_of(target)].append(number)
    return list(groups.values())


def _can_be_put(batch: Batch, place: Place) -> bool:
    try:
        target = place.of(batch)
        return place.of(place.put(batch, target)) is target
    except Exception:  # of the batch's own class
        return False


def _unlike(count: int, like: Callable[[int], int]) -> int:
    """How many of so many targets are not the one that most others are like."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(count, generator=generator)[:_CANDIDATES].tolist()
    return count - max(map(like, chosen))
