"""What a search comes to: the trials of each family that ended, and the best of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import LRFinderError
from lrfinder.schedules import Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.tasks.fields.measures import measure_column
from lrfinder.tasks.user_code import user_code
from lrfinder.training.records.history import History
from lrfinder.tuning.samplers import MakeSampler
from lrfinder.tuning.second_looks import SecondLook, stages
from lrfinder.tuning.space import Space
from lrfinder.tuning.storages.facts import rounded

TrialDone = Callable[[str, int, History], None]


@dataclass(frozen=True)
class TrialResult:
    """One trial of a study that ended."""

    number: int
    recipe: Recipe
    """What it tried."""
    params: Mapping[str, Any]
    """What was searched, as the dashboard shows it."""
    value: float
    """Stored objective: the mean over seeds of the final measure, or of the start if better."""
    diverged: bool
    updates: int
    again: SecondLook | None = None
    """What it came to on other seeds, if it was among the best."""

    @property
    def mean(self) -> float:
        """Its value, with those of other seeds where there are any."""
        return self.mean_with(0 if self.again is None else self.again.runs)

    @property
    def looks(self) -> int:
        """Other seeds that it was trained on."""
        return 0 if self.again is None else self.again.runs

    def mean_with(self, seeds: int) -> float:
        """Its value, with those of so many other seeds."""
        others = () if self.again is None else self.again.values[:seeds]
        return (self.value + sum(others)) / (1 + len(others))

    def lost_with(self, seeds: int) -> bool:
        """Whether it diverged on any of so many other seeds."""
        return self.again is not None and any(self.again.lost[:seeds])

    @property
    def lr(self) -> float:
        """Its peak learning rate."""
        return self.recipe.lr

    @property
    def schedule(self) -> Schedule:
        """Its schedule, warm-up included."""
        return self.recipe.schedule


@dataclass(frozen=True)
class FamilyResult:
    """What a family's study found."""

    space: Space
    study_name: str
    trials: tuple[TrialResult, ...]
    """COMPLETE trials, in order of their numbers."""
    failed: int
    """Trials that were interrupted or whose task raised."""
    exhausted: bool
    """Whether the trials are every point of a discrete space."""
    by_hand: int = 0
    """Trials that somebody else put into the study; they are not counted."""

    @property
    def best(self) -> TrialResult | None:
        """The best trial that did not diverge, the earliest of equals; None if all did.

        Where the best few were trained on other seeds, that of the best mean among those that were
        trained on most of them.
        """
        held = [one for one in self._usable if not one.lost_with(one.looks)]
        most = max((one.looks for one in held), default=0)
        left = [one for one in held if one.looks == most]
        return min(left, key=lambda trial: self._sign * trial.mean, default=None)

    def contenders(self, seeds: int) -> list[tuple[TrialResult, int]]:
        """The trials that are to be trained on other seeds next, and on how many of these in all.

        The best first; none where every stage has been gone through. The trials tell all of it, so
        that a search that goes on looks at none twice.
        """
        left, made = self._usable, 0
        for stage in stages(self.space.family.name, len(left), seeds):
            left = [one for one in left if not one.lost_with(made)]
            left = sorted(left, key=lambda one: self._sign * one.mean_with(made))[: stage.trials]
            waiting = [(one, stage.seeds) for one in left if one.looks < stage.seeds]
            if waiting:
                return waiting
            made = stage.seeds
        return []

    @property
    def _usable(self) -> list[TrialResult]:
        return [trial for trial in self.trials if not trial.diverged]

    @property
    def _sign(self) -> int:
        """By what a value is multiplied so that lower is better."""
        return 1 if self.space.direction == "minimize" else -1


@dataclass(frozen=True)
class Conditions:
    """What is the same for all studies of a search."""

    task: str
    """Name of the task."""
    trials: int
    """COMPLETE trials that a study is to reach, on average; so many points are enumerated."""
    seeds: tuple[int, ...]
    """Training seeds of every trial."""
    seed: int
    """Of the samplers."""
    measure: str
    metrics: tuple[str, ...]
    """Metrics of the task, in their order."""
    trial_done: TrialDone | None
    sampler: MakeSampler

    def recorded(self, space: Space) -> dict[str, Any]:
        """What a study of this space holds of them: one of others is not gone on with."""
        return {
            "task": self.task,
            "epochs": space.epochs,
            "updates_per_epoch": space.updates_per_epoch,
            "seeds": list(self.seeds),
            "measure": measure_column(self.measure),
            "direction": space.direction,
            "lr_range": [rounded(space.lr_low), rounded(space.lr_high)],
            "per": space.per,
            "warmup_epochs": "search" if space.warmup_searched else space.warmup_epochs,
            "metrics": list(self.metrics),
            "searched": _searched(space),
        }


def _searched(space: Space) -> dict[str, str] | None:
    """What is searched; None where a family of the task's own does not say it beforehand."""
    try:
        with user_code("asking for a schedule's parameters"):
            return space.searched()
    except LRFinderError:  # it may be asked by a real trial, or raise where it is asked
        return None
