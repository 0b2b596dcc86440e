"""Runs that begin alike, trained once until their learning rates part."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.errors import TaskFailed
from lrfinder.schedules import LiveSchedule
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.user_code import user_code
from lrfinder.training.divergence import Divergence
from lrfinder.training.records.history import History, Plan
from lrfinder.training.records.record import Record
from lrfinder.training.rehearsal import starting, stepping, watched_by
from lrfinder.training.trainers.rising import rise_by_itself
from lrfinder.training.trainers.trainer import AnyTrainer, State

Finished = Callable[[Sequence[int], History], None]
Stop = Callable[[int], str | None]
"""Why runs that are trained together end after so many updates; None where they go on."""
_ASKED_AFTER = 16
"""Most updates between two questions whether runs end."""


@dataclass
class _Branch:
    """One run in training, and the plans it stands for."""

    rows: list[int]
    """Plans whose learning rates have been the same so far."""
    lrs: Floats
    """Learning rates of the present epoch: float64[updates, groups]."""
    source: int
    """Place of the run it was forked from, in the population before."""
    divergence: Divergence
    last: dict[str, float] = field(default_factory=dict[str, float])
    """The most recent finite values of the measures."""


@dataclass
class _RunGroup:
    """The runs of one State of the trainer."""

    state: State
    branches: list[_Branch]

    @property
    def plans(self) -> int:
        return sum(len(branch.rows) for branch in self.branches)


class TreeWalk:
    """Trains populations down the tree of their forks, and writes the record."""

    def __init__(
        self,
        task: Problem,
        record: Record,
        trainer: AnyTrainer,
        batches: Iterable[Batch],
        watch: str,
        progress: Callable[[int], None] | None,
        finished: Finished | None,
        stop: Stop | None,
        at_end: Mapping[str, Iterable[Batch]],
    ) -> None:
        self._task, self._record, self._trainer = task, record, trainer
        self._capacity = trainer.capacity(task)
        self._batches, self._watch = batches, watch
        self._progress, self._finished, self._stop = progress, finished, stop
        self._at_end = at_end
        self._schedules: dict[int, LiveSchedule] = {}

    def train(self, runs: Sequence[list[int]]) -> None:
        """Train one run per list of rows, whose plans have a seed and a peak lr in common."""
        if self._stops(0, [row for rows in runs for row in rows]):
            return
        plans = [self._record.plans[rows[0]] for rows in runs]
        seeds, lrs = [plan.seed for plan in plans], [plan.lr for plan in plans]
        state = self._trainer.start(self._task, seeds, lrs)
        groups = len(state.stand_ins[0].param_groups)
        self._record.use_groups(groups)
        for rows, optimizer in zip(runs, state.stand_ins, strict=True):
            for row in rows:
                schedule = self._record.plans[row].schedule
                with user_code(starting(schedule)):
                    self._schedules[row] = schedule.start(optimizer)
        none = np.empty((0, groups))
        rise = partial(rise_by_itself, self._task, self._trainer.device, self._record.updates)
        watched = [Divergence(partial(rise, seed)) for seed in seeds]
        branches = [_Branch(rows, none, place, watched[place]) for place, rows in enumerate(runs)]
        population = _RunGroup(state, branches)
        self._evaluate(population, 0)
        self._refuse_unusable_start(population)
        self._train_from(population, 0)

    def _train_from(self, population: _RunGroup, begin: int) -> None:
        """Train a population to the end of its plans, from an epoch's first update on."""
        total, per_epoch = self._record.updates, self._record.updates_per_epoch
        for at in range(begin, total, per_epoch):
            if not population.branches:
                return
            end = min(at + per_epoch, total)
            *others, heaviest = self._part(population.branches, at, end)
            for branches in others:
                sources = [branch.source for branch in branches]
                copies = _RunGroup(self._trainer.fork(population.state, sources), branches)
                self._epoch(copies, at, end)
                self._train_from(copies, end)
            self._go_on(population, heaviest)
            self._epoch(population, at, end)
        self._evaluate_end(population)
        rows = [row for branch in population.branches for row in branch.rows]
        self._go_on(population, [])
        self._finish(rows)

    def _go_on(self, population: _RunGroup, branches: list[_Branch]) -> None:
        """Make the population that of the branches, which come from its runs."""
        sources = [branch.source for branch in branches]
        if sources != list(range(len(population.branches))):
            population.state = self._trainer.select(population.state, sources)
        population.branches = branches

    def _part(self, branches: Sequence[_Branch], begin: int, end: int) -> list[list[_Branch]]:
        """Fork runs whose plans part in this epoch; who goes on together, the heaviest last."""
        forked = [
            part
            for place, branch in enumerate(branches)
            for part in self._fork(branch, place, end - begin)
        ]
        if len(forked) <= self._capacity:
            return [forked]
        forked.sort(key=lambda branch: len(branch.rows))
        first = len(forked) % self._capacity
        cuts = [0, *range(first or self._capacity, len(forked) + 1, self._capacity)]
        return [forked[a:b] for a, b in pairwise(cuts)]

    def _fork(self, branch: _Branch, place: int, updates: int) -> Iterator[_Branch]:
        """The branch, or one for each of the different lr rows that its plans have next."""
        parts: dict[bytes, _Branch] = {}
        for row in branch.rows:
            with user_code(stepping(self._record.plans[row].schedule)):
                lrs = self._schedules[row].epoch(updates, branch.last.get(self._watched(row)))
            if lrs.tobytes() not in parts:
                divergence = copy.copy(branch.divergence)
                parts[lrs.tobytes()] = _Branch([], lrs, place, divergence, dict(branch.last))
            parts[lrs.tobytes()].rows.append(row)
        yield from parts.values()

    def _epoch(self, population: _RunGroup, begin: int, end: int) -> None:
        """Train updates begin..end-1."""
        ends = {*self._record.evaluated_between(begin, end), end}
        if self._stop is not None:
            ends |= {*range(begin + _ASKED_AFTER, end, _ASKED_AFTER)}
        for a, b in pairwise([begin, *sorted(ends)]):
            if population.branches:
                lrs = [branch.lrs[a - begin : b - begin] for branch in population.branches]
                self._advance(population, a, np.stack(lrs))
            if population.branches and b in self._record.column:
                self._evaluate(population, b)
            rows = [row for branch in population.branches for row in branch.rows]
            if b < self._record.updates and rows and self._stops(b, rows):
                self._go_on(population, [])
                self._finish(rows)

    def _stops(self, made: int, rows: Sequence[int]) -> bool:
        """Whether the runs of these rows end after so many updates."""
        why = None if self._stop is None else self._stop(made)
        if why is not None:
            self._record.add_stopped(rows, why)
            self._count(len(rows) * (self._record.updates - made))
        return why is not None

    def _advance(self, population: _RunGroup, first: int, lrs: Floats) -> None:
        """Make the updates first, first+1, ... by the lrs float64[branches, updates, groups]."""
        branches, record = population.branches, self._record
        losses = self._trainer.advance(population.state, lrs)
        if first == 0 and not np.isfinite(losses[:, 0]).all():
            raise TaskFailed(_unusable("loss", losses[:, 0], self._seeds(branches)))
        diverged: dict[int, int] = {}
        for place, branch in enumerate(branches):
            record.add_updates(branch.rows, first, lrs[place], losses[place])
            at = branch.divergence.add(losses[place])
            if at is not None:
                diverged[place] = at
        self._count(losses.shape[1] * population.plans)
        self._drop(population, diverged, first + losses.shape[1])

    def _evaluate(self, population: _RunGroup, at: int) -> None:
        """Record the measures of all runs after so many updates."""
        record = self._record
        measured = self._trainer.evaluate(population.state, self._batches)
        broken: dict[int, int] = {}
        for place, branch in enumerate(population.branches):
            for name, values in measured.items():
                record.measures[name][branch.rows, record.column[at]] = values[place]
                if np.isfinite(values[place]):
                    branch.last[name] = float(values[place])
            if at > 0 and not np.isfinite(measured["loss"][place]):
                broken[place] = at - 1
        self._drop(population, broken, at)

    def _evaluate_end(self, population: _RunGroup) -> None:
        """Record the loss of all runs on the further batches, as far as it can be computed."""
        if not population.branches:
            return
        try:
            for name, batches in self._at_end.items():
                losses = self._trainer.evaluate(population.state, batches)["loss"]
                for branch, loss in zip(population.branches, losses, strict=True):
                    self._record.at_end[name][branch.rows] = loss
        except TaskFailed:  # of batches that the task did not make itself
            return

    def _drop(self, population: _RunGroup, diverged: dict[int, int], done: int) -> None:
        """End the runs at the given places, which diverged at those updates, of `done` made."""
        if not diverged:
            return
        ended: list[int] = []
        raised = population.state.raised
        for place, at in diverged.items():
            rows = population.branches[place].rows
            self._record.diverged_at[rows] = at
            if place in raised:
                self._record.add_raised(rows, at, raised[place])
            ended += rows
        keep = [place for place in range(len(population.branches)) if place not in diverged]
        population.branches = [population.branches[place] for place in keep]
        population.state = self._trainer.select(population.state, keep)
        self._count(len(ended) * (self._record.updates - done))
        self._finish(ended)

    def _finish(self, rows: list[int]) -> None:
        """Hand out plans that are complete."""
        for row in rows:
            del self._schedules[row]
        if rows and self._finished is not None:
            self._finished(rows, self._record.history(rows))

    def _count(self, updates: int) -> None:
        """Tell that so many updates, of all plans, have been made or need not be."""
        if self._progress is not None:
            self._progress(updates)

    def _refuse_unusable_start(self, population: _RunGroup) -> None:
        rows = [branch.rows[0] for branch in population.branches]
        watched = {self._watched(row) for branch in population.branches for row in branch.rows}
        for name in ("loss", *sorted(watched - {"loss"})):
            start = self._record.measures[name][rows, 0]
            if not np.isfinite(start).all():
                raise TaskFailed(_unusable(name, start, self._seeds(population.branches)))

    def _watched(self, row: int) -> str:
        """Measure by which a plan's schedule is stepped."""
        return watched_by(self._record.plans[row].schedule, self._watch, self._task)

    def _seeds(self, branches: Sequence[_Branch]) -> list[int]:
        return [self._record.plans[branch.rows[0]].seed for branch in branches]


def _unusable(measure: str, values: Floats, seeds: list[int]) -> str:
    row = int(np.argmin(np.isfinite(values)))
    return (
        f"the {measure} is {values[row]} before the first update (seed {seeds[row]}); "
        "check the data for nan and the scale of inputs, targets and initial weights"
    )


def may_share(plans: Sequence[Plan]) -> bool:
    """Whether some plans have a seed and a peak lr in common."""
    return len({(plan.seed, plan.lr) for plan in plans}) < len(plans)


def together(
    plans: Sequence[Plan], capacity: int, *, shared: bool = True
) -> Iterator[list[list[int]]]:
    """Runs to start together, each the rows of its plans; one plan each where they are not shared.

    No more plans than the capacity, but at least one run; the runs of a seed are kept together
    where they fit, so that one reading of its data feeds them all.
    """
    seeds: dict[int, dict[object, list[int]]] = {}
    for row, plan in enumerate(plans):
        run = plan.lr if shared else row
        seeds.setdefault(plan.seed, {}).setdefault(run, []).append(row)
    group: list[list[int]] = []
    room = capacity
    for by_lr in seeds.values():
        of_seed = sum(map(len, by_lr.values()))
        if room < of_seed <= capacity:
            room = 0  # they fit together, but not here
        for rows in by_lr.values():
            if group and len(rows) > room:
                yield group
                group, room = [], capacity
            group.append(rows)
            room -= len(rows)
    if group:
        yield group
