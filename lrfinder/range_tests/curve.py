"""The record of a range test, raw and per seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.rules.longer_training import proneness
from lrfinder.range_tests.rules.probes import Probe
from lrfinder.range_tests.rules.rule import suggest
from lrfinder.range_tests.rules.suggestion import Suggestion, for_schedules
from lrfinder.schedules import Schedule
from lrfinder.schedules.spec import schedule_of_training
from lrfinder.types import Every, Growth, Per

if TYPE_CHECKING:
    import pandas as pd

NO_EFFECT = (
    "the lr has no effect: runs at different lrs are the same, bit by bit; the optimizer sets its "
    "own lr, or the loss does not use the model that it is given"
)
SEEDS_ALIKE = (
    "all seeds train alike, bit by bit: the task seeds itself, or nothing in it is random, "
    "so that seeds show no spread"
)

AGAINST = (
    "one of the loop's optimizers raises the training loss that another lowers, as in a GAN, so "
    "that it is no measure of progress; call training.measure with one that is"
)
ON_TRAINING = (
    "read off the training loss, for nothing else is measured: the interval is widened by x2 at "
    "both ends"
)
ON_TRAINING_FACTOR = 2.0
"""Factor by which both ends of an interval are widened that was read off the training loss.

Measured by `studies/training_loss_interval.py`.
"""
UNCHECKED = "not checked against noise"
"""What is said of an lr that pure noise for targets might have given, too; why follows."""


@dataclass(frozen=True)
class Curve:
    """Loss against a growing learning rate, per seed; nan from where a seed's run diverged.

    A *step* is one update, or one epoch where the lr grows per epoch.
    """

    lr: Floats
    """Learning rate of each step: float64[steps]."""
    loss: Floats
    """Loss after each step, on the probe or (per epoch) the validation set: [seeds, steps]."""
    train_loss: Floats
    """Loss of each step's batch before its update, or its epoch's mean: float64[seeds, steps]."""
    start: Floats
    """Loss before the first step: float64[seeds]."""
    metrics: Mapping[str, Floats]
    """Metrics after each step, by name: float64[seeds, steps]."""
    seeds: tuple[int, ...]
    every: Every
    growth: Growth
    optimizer: str
    batch_size: int | None
    """Rows that one update sees; None where a DataLoader does not say."""
    updates: int
    """Updates that were trained, over all seeds."""
    wall_seconds: float
    probes: tuple[Probe, ...] = ()
    """Runs at a constant lr that followed the sweep."""
    updates_per_step: int = 1
    budget: int | None = None
    """Updates of a whole training of the task."""
    asked: tuple[float, float] | None = None
    """The range of lrs that was asked for, where it was too narrow and was widened."""
    lr_matters: bool = True
    """Whether runs at different lrs differ; they do not where the optimizer sets its own lr."""
    cut: bool = False
    """Whether a timeout ended the sweep at the last of these lrs."""
    notes: tuple[str, ...] = ()
    """What happened on the way, in one line each."""
    of_training: bool = False
    """Whether every loss is that of training batches, for want of anything else to measure."""
    lr_scale: float = 1.0
    """What the optimizer's own lr is, over the lr that it is asked to be built for."""
    repeats: bool = True
    """Whether the training data are a set of rows, as far as that is known, that all epochs see."""
    against: bool = False
    """Whether one optimizer of a loop raises the training loss that is read, where it is alone."""
    unchecked: str | None = None
    """Why no run was checked against noise, by exchanging targets; None where one was."""
    updates_per_epoch: int | None = None
    """Updates of one epoch of the task; None where it is not known."""
    weights: int | None = None
    """Numbers that the optimizer trains; None where it is not known."""

    def __repr__(self) -> str:
        seeds = f"{len(self.seeds)} seed{'s'[: len(self.seeds) != 1]}"
        lrs = f"lr {self.lr[0]:.3g} to {self.lr[-1]:.3g}" if self.lr.size else "no lr"
        return f"Curve({seeds}, {len(self.lr)} steps, {lrs}, growing every {self.every})"

    def _repr_html_(self) -> str:
        import lrfinder

        return lrfinder.html(self)

    @property
    def mean(self) -> Floats:
        """Mean loss over the seeds; nan from where the first of them diverged: float64[steps]."""
        return self.loss.mean(axis=0)

    @property
    def seeds_alike(self) -> bool:
        """Whether all of several seeds trained alike, bit by bit."""
        rows = np.column_stack([self.start, self.train_loss, self.loss])
        return len(rows) > 1 and all(np.array_equal(rows[0], row, equal_nan=True) for row in rows)

    @property
    def diverged_at(self) -> Floats:
        """Lr of each seed's first step without a loss; nan where it has all: float64[seeds]."""
        lost = ~np.isfinite(self.loss)
        return np.where(lost.any(axis=1), self.lr[np.argmax(lost, axis=1)], np.nan)

    def suggest(
        self,
        schedule: Schedule | str | None = None,
        *,
        epochs: int | None = None,
        warmup: float = 0.0,
        per: Per = "epoch",
        lr_ratios: Sequence[float] | Optimizer = (1.0,),
    ) -> Suggestion:
        """Initial lr, with interval, verdict and reason, and what it would be for other schedules.

        Seeds that train alike, bit by bit, count as one.

        Args:
            schedule: what the lr is the peak of: a Schedule, or a text like "cosine" or
                "step,step_size=30,gamma=0.1"; by default a constant lr.
            epochs: length of the training; by default the task's.
            warmup: epochs of linear warm-up before a schedule that is a text.
            per: how often a schedule that is a text is stepped.
            lr_ratios: of the parameter groups, or an optimizer that was built for lr 1; they count
                where the groups go different ways.

        Raises InvalidArgument where the curve does not know how many updates an epoch has.
        """
        curve = self if epochs is None else self._of_length(epochs)
        found = curve._suggest()
        asked = curve._asked_schedule(schedule, warmup, per)
        if curve.budget is None or curve.updates_per_epoch is None:
            return found
        return for_schedules(found, asked, curve.budget, curve.updates_per_epoch, per, lr_ratios)

    def _of_length(self, epochs: int) -> "Curve":
        """The same test, read for a training of so many epochs."""
        check_count("epochs", epochs)
        return replace(self, budget=epochs * self._known_epoch())

    def _known_epoch(self) -> int:
        if self.updates_per_epoch is None:
            raise InvalidArgument(
                "epochs and schedules need the updates of an epoch, which this curve does not "
                "know; run the range test again"
            )
        return self.updates_per_epoch

    def _asked_schedule(
        self, schedule: Schedule | str | None, warmup: float, per: Per
    ) -> Schedule | None:
        if isinstance(schedule, Schedule) and warmup:
            raise InvalidArgument(
                f"warmup is part of a Schedule, but got both; write Schedule(..., warmup={warmup})"
            )
        if isinstance(schedule, Schedule) or (schedule is None and not warmup):
            return schedule
        length, budget = self._known_epoch(), self.budget or 0
        return schedule_of_training(
            schedule or "constant",
            epochs=max(1, budget // length),
            updates_per_epoch=length,
            per=per,
            warmup=warmup,
        )

    def _suggest(self) -> Suggestion:
        """For a constant lr."""
        count = 1 if self.seeds_alike else len(self.seeds)
        seeds = self.seeds[:count]
        probes = [[probe for probe in self.probes if probe.seed == seed] for seed in seeds]
        found = suggest(
            self.lr,
            self.loss[:count],
            self.train_loss[:count],
            self.start[:count],
            probes=probes if self.probes else (),
            updates_per_step=self.updates_per_step,
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            budget=self.budget,
            prone=self.prone,
        )
        found = replace(found, lr_scale=self.lr_scale)
        nothing = {"lr": None, "low": None, "high": None, "verdict": "inconclusive"}
        if not self.lr_matters:
            return replace(found, **nothing, diverged_at=None, reason=NO_EFFECT)
        if self.against:
            return replace(found, **nothing, reason=AGAINST)
        if found.turned_up_at is not None:
            found = replace(found, over_fitted=self._over_fits(found.turned_up_at))
        if self.cut and found.lr is None:
            short = f"the sweep came no farther than lr {self.lr[-1]:.3g}; give it more time"
            found = replace(found, reason=short)
        if self.of_training and found.low is not None and found.high is not None:
            wider = {"low": found.low / ON_TRAINING_FACTOR, "high": found.high * ON_TRAINING_FACTOR}
            found = replace(found, **wider)
        return replace(found, reason=" ".join([found.reason, *self._remarks(found)]))

    @property
    def prone(self) -> float:
        """How prone the training is to memorise its rows; 0 where these are not known."""
        epoch, rows, weights = self.updates_per_epoch, self.batch_size, self.weights
        if not (epoch and rows and weights and self.budget and self.repeats):
            return 0.0
        return proneness(weights, rows * epoch, self.budget / epoch)

    def _over_fits(self, turned_up_at: int) -> bool | None:
        """Whether a loss that turned up after so many updates shows over-fitting; None if unknown.

        That of training batches does not, nor any before a row was seen twice.
        """
        if self.of_training:
            return False
        if not self.repeats:
            return None
        return turned_up_at > (self.updates_per_epoch or 0)

    def _remarks(self, found: Suggestion) -> list[str]:
        remarks: list[str] = []
        if self.asked is not None:
            low, high = self.asked
            remarks.append(f"(lrs of {low:.3g} to {high:.3g} were too narrow a range)")
        if self.seeds_alike:
            remarks.append(f"({SEEDS_ALIKE})")
        if found.lr is not None and self.of_training:
            remarks.append(f"({ON_TRAINING})")
        if found.lr is not None and self.unchecked is not None:
            remarks.append(f"({UNCHECKED}: {self.unchecked})")
        remarks += [f"({note})" for note in self.notes]
        return remarks

    def frame(self) -> "pd.DataFrame":
        """One row per seed and step: seed, step, lr, loss, train_loss and the metrics.

        Step -1 is before the first step. Losses are nan after a divergence.
        """
        import pandas as pd

        return pd.concat([self._frame_of(k) for k in range(len(self.seeds))], ignore_index=True)

    def _frame_of(self, k: int) -> "pd.DataFrame":
        import pandas as pd

        steps = len(self.lr)
        columns: dict[str, object] = {
            "seed": self.seeds[k],
            "step": np.arange(-1, steps),
            "lr": np.concatenate([[np.nan], self.lr]),
            "loss": np.concatenate([[self.start[k]], self.loss[k]]),
            "train_loss": np.concatenate([[np.nan], self.train_loss[k]]),
        }
        for name, values in self.metrics.items():
            columns[name] = np.concatenate([[np.nan], values[k]])
        return pd.DataFrame(columns)
