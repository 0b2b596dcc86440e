"""What a population of runs did: learning rates, losses, measures, and where runs diverged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from lrfinder.arrays import Floats, Ints
from lrfinder.checks import shown_value
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.tasks.fields.measures import evaluated, measure_column
from lrfinder.types import Direction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Plan:
    """What one run does: its peak learning rate, its schedule and its seed."""

    lr: float
    schedule: Schedule
    seed: int

    def __post_init__(self) -> None:
        Recipe(self.lr, self.schedule)  # refuses what nothing trains with
        if not isinstance(self.seed, Integral):
            got = shown_value(self.seed)
            raise InvalidArgument(f"seed must be a whole number, but got {got}")

    @property
    def recipe(self) -> Recipe:
        """The lr and the schedule, which plans of several seeds have in common."""
        return Recipe(self.lr, self.schedule)


@dataclass(frozen=True)
class Outcome:
    """How one run ended, as a study stores it."""

    value: float
    """The final measure, or the one before training where that is better or the run diverged."""
    final: float
    """The measure after the last update, or of the best epoch where that counts; nan where the run
    diverged."""
    start: float
    """The measure before the first update."""
    diverged: bool


@dataclass(frozen=True)
class History:
    """Record of runs that were trained by `fit`; nan where a run had ended."""

    plans: tuple[Plan, ...]
    lr: Floats
    """Learning rate used for each update: float64[runs, updates, groups]."""
    train_loss: Floats
    """Loss of each update's batch, before the update: float64[runs, updates]."""
    measures: Mapping[str, Floats]
    """Evaluations by name ("loss" and the task's metrics): float64[runs, evaluations]."""
    evaluated_at: Ints
    """Updates made before each evaluation: int64[evaluations]; the first is 0."""
    diverged_at: Ints
    """Update at which a run diverged, or -1: int64[runs]."""
    trained: Ints
    """Updates made for a run and not for an earlier one, with which it shares them: int64[runs]."""
    updates_per_epoch: int
    raised: tuple[str | None, ...] = ()
    """What the task raised in a run that has diverged by it, with the lr; else None."""
    stopped: tuple[str | None, ...] = ()
    """Why a run was ended before its end, without having diverged; else None."""
    at_end: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    """Loss after the last update on further batches, by name: float64[runs].

    nan where a run diverged, or its loss on them cannot be computed.
    """

    @property
    def updates_asked(self) -> int:
        """Updates of all runs, had each been trained to its end alone."""
        return self.train_loss.size

    @property
    def updates_trained(self) -> int:
        """Updates that were made; those that runs share count once."""
        return int(self.trained.sum())

    def only(self, run: int) -> "History":
        """Return the history of one run."""
        return replace(
            self,
            plans=self.plans[run : run + 1],
            lr=self.lr[run : run + 1],
            train_loss=self.train_loss[run : run + 1],
            measures={name: values[run : run + 1] for name, values in self.measures.items()},
            diverged_at=self.diverged_at[run : run + 1],
            trained=self.trained[run : run + 1],
            raised=self.raised[run : run + 1],
            stopped=self.stopped[run : run + 1],
            at_end={name: values[run : run + 1] for name, values in self.at_end.items()},
        )

    @staticmethod
    def joined(parts: Sequence["History"]) -> "History":
        """Histories of equal length as one, run after run."""
        names = parts[0].measures
        return replace(
            parts[0],
            plans=tuple(plan for part in parts for plan in part.plans),
            lr=np.concatenate([part.lr for part in parts]),
            train_loss=np.concatenate([part.train_loss for part in parts]),
            measures={k: np.concatenate([part.measures[k] for part in parts]) for k in names},
            diverged_at=np.concatenate([part.diverged_at for part in parts]),
            trained=np.concatenate([part.trained for part in parts]),
            raised=tuple(message for part in parts for message in part.raised),
            stopped=tuple(why for part in parts for why in part.stopped),
            at_end={k: np.concatenate([part.at_end[k] for part in parts]) for k in parts[0].at_end},
        )

    def outcomes(self, measure: str = "loss", direction: Direction = "minimize") -> list[Outcome]:
        """Return how each run ended: never nan or infinite in `value`.

        For "best_loss", and "best_" before a metric, the best evaluation after the first counts.
        """
        better = min if direction == "minimize" else max
        name = evaluated(measure, self.measures)
        found: list[Outcome] = []
        for run, at in zip(self.measures[name], self.diverged_at, strict=True):
            start, final = float(run[0]), float(run[-1])
            lost = bool(at >= 0) or not np.isfinite(final)
            if name != measure:
                final = better((float(v) for v in run[1:] if np.isfinite(v)), default=final)
            value = start if lost else better(start, final)
            found.append(Outcome(value, float("nan") if lost else final, start, lost))
        return found

    def frame(self) -> "pd.DataFrame":
        """One row per run and evaluation.

        Columns: run, seed, schedule, peak_lr, update, epoch, lr (largest of the groups at the last
        update before the evaluation), train_loss (mean since the previous evaluation), and the
        measures ("loss" under the name valid_loss).
        """
        import pandas as pd

        frames = [self._frame_of(run) for run in range(len(self.plans))]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _frame_of(self, run: int) -> "pd.DataFrame":
        import pandas as pd

        plan = self.plans[run]
        spans = list(zip(self.evaluated_at[:-1], self.evaluated_at[1:], strict=True))
        top = self.lr[run].max(axis=-1)
        columns: dict[str, object] = {
            "run": run,
            "seed": plan.seed,
            "schedule": plan.schedule.family.name,
            "peak_lr": plan.lr,
            "update": self.evaluated_at,
            "epoch": self.evaluated_at / self.updates_per_epoch,
            "lr": [np.nan, *(top[b - 1] for _, b in spans)],
            "train_loss": [np.nan, *(self.train_loss[run, a:b].mean() for a, b in spans)],
        }
        columns |= {measure_column(k): values[run] for k, values in self.measures.items()}
        return pd.DataFrame(columns).dropna(subset=["valid_loss"])


def note_on_raised(messages: Sequence[str]) -> str:
    """One line on what the task raised in runs that have diverged by it.

    >>> note_on_raised(["at lr 10 ValueError: math domain error"])
    'the task raised in 1 run, which counts as diverged: at lr 10 ValueError: math domain error'
    """
    count = len(messages)
    runs = "run, which counts" if count == 1 else "runs, which count"
    more = ", for one" if len(set(messages)) > 1 else ""
    return f"the task raised in {count} {runs} as diverged{more}: {messages[0]}"
