"""The trials of a study: in training, and ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from lrfinder.schedules import Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.tasks.fields.measures import measure_column
from lrfinder.training.records.history import History, Outcome
from lrfinder.tuning.samplers import MakeSampler
from lrfinder.tuning.space import Space

_MOST_REPORTED = 12
_SIGNIFICANT = 6  # digits of a stored value; more do not fit the dashboard's cards
TrialDone = Callable[[str, int, History], None]


_REFERENCE = "constant"
"""The family that all others are compared with; its lr is chosen on more seeds than theirs."""


class Stage(NamedTuple):
    """The best so many trials of a family are trained on so many other seeds in all."""

    trials: int
    seeds: int


_STAGES = (Stage(3, 1),)
_OF_REFERENCE = (Stage(5, 1), Stage(3, 3), Stage(2, 7))
"""Of the constant lr: with the seed of the search on 2, 4 and 8; see studies/constant_lr.md."""
MOST_STAGES = len(_OF_REFERENCE)


@dataclass(frozen=True)
class SecondLook:
    """What a trial came to on other seeds."""

    values: tuple[float, ...]
    """On each of them; what it had before training where it diverged."""
    lost: tuple[bool, ...]
    """On which of them it diverged."""
    updates: int

    @property
    def value(self) -> float:
        """Mean over them."""
        return sum(self.values) / len(self.values)

    @property
    def diverged(self) -> bool:
        """Whether it did on any of them."""
        return any(self.lost)

    @property
    def runs(self) -> int:
        """How many seeds they were."""
        return len(self.values)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> "SecondLook":
        """What a study holds of it; an older one holds the mean alone."""
        count = len(facts["seeds"])
        values = facts.get("values", [facts.get("value")] * count)
        lost = facts.get("lost", [facts.get("diverged", False)] * count)
        return cls(tuple(map(float, values)), tuple(lost), int(facts["updates"]))

    def facts(self, seeds: Sequence[int]) -> dict[str, Any]:
        """What a study holds of it."""
        values = [rounded(value) for value in self.values]
        lost, updates = list(self.lost), self.updates
        return {"seeds": list(seeds), "values": values, "lost": lost, "updates": updates}


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


def stages(family: str, trials: int, seeds: int) -> list[Stage]:
    """How the best of so many trials of a family are trained on these other seeds, in turn.

    The best three on one of them, but no more than half, and not one alone. The constant lr, by
    which a decay is judged, on all: chosen on two noisy runs it would be a poor one, and any decay
    shown to be better. The worse ones do not go on, so that few runs choose among many lrs.

    >>> [stages("step", n, 7) for n in (2, 3, 20)]
    [[], [Stage(trials=2, seeds=1)], [Stage(trials=3, seeds=1)]]
    >>> [tuple(stage) for stage in stages("constant", 10, 7)]
    [(5, 1), (3, 3), (2, 7)]
    >>> [tuple(stage) for stage in stages("constant", 3, 2)]
    [(3, 1), (3, 2)]
    """
    is_reference = family == _REFERENCE
    if trials < (2 if is_reference else 3):
        return []
    most = trials if is_reference else (trials + 1) // 2
    planned = _OF_REFERENCE if is_reference else _STAGES
    cut = [Stage(min(most, stage.trials), min(seeds, stage.seeds)) for stage in planned]
    return [stage for k, stage in enumerate(cut) if stage.seeds > (cut[k - 1].seeds if k else 0)]


def second_looks(family: str, trials: int, seeds: int) -> int:
    """Runs of the best of so many trials on other seeds.

    >>> second_looks("step", 10, 7), second_looks("constant", 10, 7)
    (3, 19)
    """
    found, before = 0, 0
    for stage in stages(family, trials, seeds):
        found += stage.trials * (stage.seeds - before)
        before = stage.seeds
    return found


def count_of_second_seeds(trials: int) -> int:
    """On how many further seeds the best of a search are trained at most; see `stages`.

    `trials` is how many each family has on average: where they are few, so are these.

    >>> [count_of_second_seeds(trials) for trials in (1, 3, 4, 6, 10, 100)]
    [1, 1, 2, 3, 7, 7]
    """
    return min(_OF_REFERENCE[-1].seeds, max(1, trials // 2, trials - 3))


def is_own(trial: FrozenTrial) -> bool:
    """Whether a trial that ended was trained here, and not put into the study by hand."""
    return {"diverged", "updates"} <= trial.user_attrs.keys()


def counts(trial: FrozenTrial) -> bool:
    """Whether the sampler may learn from a trial that ended."""
    return trial.state == TrialState.FAIL or is_own(trial)


def asked_params(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was enqueued with, and what it had drawn."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def trial_facts(history: History, outcomes: Sequence[Outcome], objective: str) -> dict[str, Any]:
    """User attributes of a trial: means over its seeds; None where a run diverged."""
    facts: dict[str, Any] = {
        "diverged": any(outcome.diverged for outcome in outcomes),
        f"{objective} before training": rounded(np.mean([outcome.start for outcome in outcomes])),
        "updates": history.updates_trained,
        "seeds": [plan.seed for plan in history.plans],
    }
    raised = [message for message in history.raised if message is not None]
    if raised:
        facts["raised"] = raised[0]
    for name, values in history.measures.items():
        final = values[:, -1].mean()
        facts[f"final {measure_column(name)}"] = rounded(final) if np.isfinite(final) else None
    return facts


def reported_epochs(evaluations: int) -> list[int]:
    """Evaluations that are reported to the storage, about evenly spaced: the ends, at most 12.

    On SQLite each costs half a millisecond. All of them stand in curves.csv.

    >>> reported_epochs(4), len(reported_epochs(1000)), reported_epochs(1000)[-1]
    ([0, 1, 2, 3], 12, 999)
    """
    places = np.linspace(0, evaluations - 1, min(evaluations, _MOST_REPORTED))
    return places.round().astype(int).tolist()


def overhead(trials: float, evaluations: int) -> float:
    """Seconds that the storage and the sampler take for so many trials of a family.

    Measured with SQLite on a core at about 2.5 GHz: 15 ms a trial, half a millisecond for every
    point that it reports, and an ask that grows by 10 us with every trial that TPE looks at.
    """
    per_trial = 0.015 + 0.0005 * len(reported_epochs(evaluations)) + 0.00001 * trials / 2
    return trials * per_trial


def rounded(value: float | np.floating[Any]) -> float:
    """The value to the digits that the dashboard has room for."""
    return float(f"{value:.{_SIGNIFICANT}g}")
