"""Train a population of plans: the one training function of the project.

`fit` turns every plan into rows of learning rates and hands them to a trainer, epoch by epoch:

    plans ─ groups no larger than the trainer's capacity ─> start
        each epoch:  schedule -> lr rows ─> advance ─> losses ─> diverged? drop the run
                     at evaluation points: evaluate ─> measures ─> next epoch's schedules (plateau)
    finished groups are handed out at once

The learning rates come from live torch schedulers; nothing else in the project steps them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Literal

import numpy as np

from lrfinder.data import Batch
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.task import Task
from lrfinder.training.divergence import Divergence
from lrfinder.training.history import Floats, History, Ints, Plan
from lrfinder.training.sequential import SequentialTrainer
from lrfinder.training.trainer import Trainer

Finished = Callable[[Sequence[int], History], None]


def fit(
    task: Task,
    plans: Sequence[Plan],
    *,
    updates: int | None = None,
    evaluate_every: int | Literal["epoch"] = "epoch",
    on: Iterable[Batch] | None = None,
    watch: str = "loss",
    trainer: Trainer | None = None,
    progress: Callable[[int], None] | None = None,
    finished: Finished | None = None,
) -> History:
    """Train one run per plan and record what happened.

    Args:
        task: the problem; runs are built fresh from their seeds.
        plans: peak lr, schedule and seed of each run.
        updates: length of every run; by default the task's epochs.
        evaluate_every: evaluate after each epoch, or every so many updates; also before the first
            update and after the last.
        on: batches to evaluate on, by default the task's validation set.
        watch: the measure that adaptive schedules (plateau) are given after each epoch.
        trainer: what trains; by default the sequential trainer on the model's own device.
        progress: called with the number of updates that have been made since the last call.
        finished: called with the rows of runs that are complete, and their own History.

    Raises InvalidArgument for lengths below 1 or a missing validation set, and TaskFailed when the
    task's code raises, or its loss or the watched measure is not finite before the first update.
    """
    trainer = trainer or SequentialTrainer()
    if watch not in task.measures:
        raise InvalidArgument(f"watch must be one of {task.measures}, but got {watch!r}")
    record = _Record(task, plans, trainer, updates, evaluate_every)
    batches = _validation(task, trainer) if on is None else on
    for rows in _groups(plans, trainer.capacity(task)):
        group = _Group(task, record, rows, trainer, batches, watch, progress)
        group.train()
        if finished is not None:
            finished(rows, record.history(rows))
    return record.history(range(len(plans)))


class _Record:
    """The arrays of a History while they are written."""

    def __init__(
        self,
        task: Task,
        plans: Sequence[Plan],
        trainer: Trainer,
        updates: int | None,
        evaluate_every: int | Literal["epoch"],
    ) -> None:
        self.plans = tuple(plans)
        self.updates_per_epoch = task.data(trainer.device).updates_per_epoch
        total = task.epochs * self.updates_per_epoch if updates is None else updates
        every = self.updates_per_epoch if evaluate_every == "epoch" else evaluate_every
        for name, value in (("updates", total), ("evaluate_every", every)):
            if value < 1:
                raise InvalidArgument(f"{name} must be at least 1, but got {value}")
        self.evaluated_at: Ints = np.unique([*range(0, total, every), total])
        self.column = {at: place for place, at in enumerate(self.evaluated_at.tolist())}
        """Place of an evaluation in `evaluated_at`, by the updates made before it."""
        self.lr: Floats = np.full((len(plans), total, 1), np.nan)
        self.train_loss: Floats = np.full((len(plans), total), np.nan)
        shape = (len(plans), len(self.evaluated_at))
        self.measures: dict[str, Floats] = {k: np.full(shape, np.nan) for k in task.measures}
        self.diverged_at: Ints = np.full(len(plans), -1)

    def use_groups(self, groups: int) -> None:
        """Make room for the learning rates of so many parameter groups."""
        if self.lr.shape[2] != groups:
            self.lr = np.full((*self.train_loss.shape, groups), np.nan)

    def evaluated_between(self, begin: int, end: int) -> list[int]:
        """Evaluations after more than `begin` and fewer than `end` updates."""
        first, last = np.searchsorted(self.evaluated_at, [begin + 1, end])
        return self.evaluated_at[first:last].tolist()

    def history(self, rows: Sequence[int]) -> History:
        index = list(rows)
        return History(
            plans=tuple(self.plans[row] for row in index),
            lr=self.lr[index],
            train_loss=self.train_loss[index],
            measures={name: values[index] for name, values in self.measures.items()},
            evaluated_at=self.evaluated_at,
            diverged_at=self.diverged_at[index],
            updates_per_epoch=self.updates_per_epoch,
            updates_asked=len(index) * self.train_loss.shape[1],
            updates_trained=int(np.isfinite(self.lr[index, :, 0]).sum()),
        )


class _Group:
    """Runs that are trained together; they write into their rows of the record."""

    def __init__(
        self,
        task: Task,
        record: _Record,
        rows: Sequence[int],
        trainer: Trainer,
        batches: Iterable[Batch],
        watch: str,
        progress: Callable[[int], None] | None,
    ) -> None:
        plans = [record.plans[row] for row in rows]
        self._record, self._trainer, self._batches = record, trainer, batches
        self._watch, self._progress = watch, progress
        self._alive = list(rows)
        self._state = trainer.start(task, [p.seed for p in plans], [p.lr for p in plans])
        record.use_groups(self._state.base_lrs.shape[1])
        starts = zip(rows, plans, self._state.base_lrs.tolist(), strict=True)
        self._schedules = {row: plan.schedule.start(base) for row, plan, base in starts}
        self._divergence = {row: Divergence() for row in rows}
        self._last: dict[int, float] = {}
        """The most recent finite measure that is watched, after an update."""

    def train(self) -> None:
        """Train every run to the end, or to where it diverges."""
        self._evaluate(0)
        self._refuse_unusable_start()
        total, per_epoch = self._record.train_loss.shape[1], self._record.updates_per_epoch
        for begin in range(0, total, per_epoch):
            if self._alive:
                self._epoch(begin, min(begin + per_epoch, total))

    def _epoch(self, begin: int, end: int) -> None:
        """Train updates begin..end-1, one epoch or the part of it that is asked for."""
        lrs = {
            row: self._schedules[row].epoch(end - begin, self._last.get(row)) for row in self._alive
        }
        for a, b in pairwise([begin, *self._record.evaluated_between(begin, end), end]):
            if self._alive:
                self._advance(a, np.stack([lrs[row][a - begin : b - begin] for row in self._alive]))
            if self._alive and b in self._record.column:
                self._evaluate(b)

    def _advance(self, first: int, lrs: Floats) -> None:
        """Make the updates first, first+1, ... by the lrs float64[alive, updates, groups]."""
        record, rows = self._record, self._alive
        losses = self._trainer.advance(self._state, lrs)
        made = np.cumsum(~np.isfinite(losses), axis=1) - ~np.isfinite(losses) == 0
        span = slice(first, first + losses.shape[1])
        record.train_loss[rows, span] = losses
        record.lr[rows, span] = np.where(made[:, :, None], lrs, np.nan)
        if first == 0 and not np.isfinite(losses[:, 0]).all():
            seeds = [record.plans[row].seed for row in rows]
            raise TaskFailed(_unusable("loss", losses[:, 0], seeds))
        if self._progress is not None:
            self._progress(losses.size)
        found = {row: self._divergence[row].add(new) for row, new in zip(rows, losses, strict=True)}
        self._drop({row: at for row, at in found.items() if at is not None}, span.stop)

    def _evaluate(self, at: int) -> None:
        """Record the measures of all living runs after so many updates."""
        record = self._record
        measured = self._trainer.evaluate(self._state, self._batches)
        for name, values in measured.items():
            record.measures[name][self._alive, record.column[at]] = values
        if at > 0:
            watched = zip(self._alive, measured[self._watch].tolist(), strict=True)
            self._last.update({row: value for row, value in watched if np.isfinite(value)})
            broken = [
                row
                for row, loss in zip(self._alive, measured["loss"], strict=True)
                if not np.isfinite(loss)
            ]
            self._drop(dict.fromkeys(broken, at - 1), at)

    def _drop(self, diverged: dict[int, int], done: int) -> None:
        """End the runs that diverged at the given updates, after `done` updates."""
        if not diverged:
            return
        for row, at in diverged.items():
            self._record.diverged_at[row] = at
        keep = [place for place, row in enumerate(self._alive) if row not in diverged]
        if self._progress is not None:
            self._progress(len(diverged) * (self._record.train_loss.shape[1] - done))
        self._alive = [self._alive[place] for place in keep]
        self._state = self._trainer.select(self._state, keep)

    def _refuse_unusable_start(self) -> None:
        seeds = [self._record.plans[row].seed for row in self._alive]
        for name in ("loss", self._watch):
            start = self._record.measures[name][self._alive, 0]
            if not np.isfinite(start).all():
                raise TaskFailed(_unusable(name, start, seeds))


def _unusable(measure: str, values: Floats, seeds: list[int]) -> str:
    row = int(np.argmin(np.isfinite(values)))
    return (
        f"the {measure} is {values[row]} before the first update (seed {seeds[row]}); "
        "check the data for nan and the scale of inputs, targets and initial weights"
    )


def _groups(plans: Sequence[Plan], capacity: int) -> Iterator[list[int]]:
    """Rows to train together: neighbours of one seed, as many as the trainer takes."""
    for _, rows in groupby(range(len(plans)), key=lambda row: plans[row].seed):
        members = list(rows)
        for first in range(0, len(members), capacity):
            yield members[first : first + capacity]


def _validation(task: Task, trainer: Trainer) -> Iterable[Batch]:
    valid = task.data(trainer.device).valid
    if valid is None:
        raise InvalidArgument(
            "training runs are compared on a validation set, but got none; give Task(valid=...)"
        )
    return valid
