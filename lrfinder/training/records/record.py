"""The arrays of a History while they are written."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lrfinder.arrays import Floats, Ints
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.problem import Problem
from lrfinder.training.records.history import History, Plan
from lrfinder.training.records.memory import check_memory
from lrfinder.training.trainers.trainer import AnyTrainer


class Record:
    """What each plan's run did so far; nan where nothing was done yet, or the run has ended."""

    def __init__(
        self,
        task: Problem,
        plans: Sequence[Plan],
        trainer: AnyTrainer,
        updates: int | None,
        evaluate_every: int | Literal["epoch"],
        at_end: Sequence[str] = (),
    ) -> None:
        self.plans = tuple(plans)
        self.updates_per_epoch = task.data(trainer.device).updates_per_epoch
        self.updates: int = task.epochs * self.updates_per_epoch if updates is None else updates
        """Length of every run."""
        every = self.updates_per_epoch if evaluate_every == "epoch" else evaluate_every
        for name, value in (("updates", self.updates), ("evaluate_every", every)):
            if value < 1:
                raise InvalidArgument(f"{name} must be at least 1, but got {value}")
        check_memory(len(plans), self.updates, self.updates // every + 1, len(task.measures))
        self.evaluated_at: Ints = np.unique([*range(0, self.updates, every), self.updates])
        self.column = {at: place for place, at in enumerate(self.evaluated_at.tolist())}
        """Place of an evaluation in `evaluated_at`, by the updates made before it."""
        self.lr: Floats = np.full((len(plans), self.updates, 1), np.nan)
        self.train_loss: Floats = np.full((len(plans), self.updates), np.nan)
        shape = (len(plans), len(self.evaluated_at))
        self.measures: dict[str, Floats] = {k: np.full(shape, np.nan) for k in task.measures}
        self.at_end: dict[str, Floats] = {k: np.full(len(plans), np.nan) for k in at_end}
        self.diverged_at: Ints = np.full(len(plans), -1)
        self.trained: Ints = np.zeros(len(plans), dtype=np.int64)
        self.raised: list[str | None] = [None] * len(plans)
        self.stopped: list[str | None] = [None] * len(plans)

    def use_groups(self, groups: int) -> None:
        """Make room for the learning rates of so many parameter groups."""
        if self.lr.shape[2] != groups:
            self.lr = np.full((*self.train_loss.shape, groups), np.nan)

    def evaluated_between(self, begin: int, end: int) -> list[int]:
        """Evaluations after more than `begin` and fewer than `end` updates."""
        first, last = np.searchsorted(self.evaluated_at, [begin + 1, end])
        return self.evaluated_at[first:last].tolist()

    def add_updates(self, rows: Sequence[int], first: int, lrs: Floats, losses: Floats) -> None:
        """Write updates of one run, shared by the plans of `rows`.

        `lrs` is float64[updates, groups], `losses` float64[updates]. Updates after a loss that is
        not finite were not made.
        """
        lost = ~np.isfinite(losses)
        made = np.cumsum(lost) - lost == 0
        span = slice(first, first + len(losses))
        self.train_loss[rows, span] = losses
        self.lr[rows, span] = np.where(made[:, None], lrs, np.nan)
        self.trained[rows[0]] += int(made.sum())

    def add_raised(self, rows: Sequence[int], at: int, message: str) -> None:
        """Write what the task raised at an update of one run, shared by the plans of `rows`."""
        lr = np.nanmax(self.lr[rows[0], at])
        for row in rows:
            self.raised[row] = f"at lr {lr:.3g} {message}"

    def add_stopped(self, rows: Sequence[int], why: str) -> None:
        """Write why the runs of these rows end before their end."""
        for row in rows:
            self.stopped[row] = why

    def history(self, rows: Sequence[int]) -> History:
        """Return what the runs of these rows did."""
        index = list(rows)
        return History(
            plans=tuple(self.plans[row] for row in index),
            lr=self.lr[index],
            train_loss=self.train_loss[index],
            measures={name: values[index] for name, values in self.measures.items()},
            evaluated_at=self.evaluated_at,
            diverged_at=self.diverged_at[index],
            trained=self.trained[index],
            updates_per_epoch=self.updates_per_epoch,
            raised=tuple(self.raised[row] for row in index),
            stopped=tuple(self.stopped[row] for row in index),
            at_end={name: values[index] for name, values in self.at_end.items()},
        )
