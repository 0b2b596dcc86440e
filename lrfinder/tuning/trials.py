"""The trials of a study: in training, and ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from lrfinder.schedules import Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.tasks.measures import measure_column
from lrfinder.training.history import History, Outcome
from lrfinder.tuning.samplers import MakeSampler
from lrfinder.tuning.space import Space

_MOST_REPORTED = 12
_SIGNIFICANT = 6  # digits of a stored value; more do not fit the dashboard's cards
TrialDone = Callable[[str, int, History], None]


_LOOKED_AT_AGAIN = 3
"""Trials of a family that are trained on other seeds, at most."""
_MOST_SECOND_SEEDS = 4
_REFERENCE = "constant"
"""The family that all others are compared with; its lr is chosen on more seeds than theirs."""


@dataclass(frozen=True)
class SecondLook:
    """What a trial came to on other seeds."""

    value: float
    """Mean over them."""
    diverged: bool
    """Whether it did on any of them."""
    updates: int
    runs: int = 1
    """How many seeds they were."""


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
        if self.again is None:
            return self.value
        return (self.value + self.again.runs * self.again.value) / (1 + self.again.runs)

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

        Where the best few were trained on other seeds, that of the best mean among them.
        """
        held = [one for one in self._usable if one.again is not None and not one.again.diverged]
        others = [one for one in self._usable if one.again is None]
        return min(held or others, key=lambda trial: self._sign * trial.mean, default=None)

    @property
    def contenders(self) -> list[TrialResult]:
        """The trials that are to be trained on other seeds, the best first."""
        in_order = sorted(self._usable, key=lambda trial: self._sign * trial.value)
        return in_order[: second_looks(self.space.family.name, len(in_order))]

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


def second_looks(family: str, trials: int) -> int:
    """How many of so many trials of a family are trained on other seeds: half, but not one alone.

    Three of the constant lr, as soon as there are two to choose from.

    >>> [second_looks("step", n) for n in (1, 2, 3, 4, 5, 20)]
    [0, 0, 2, 2, 3, 3]
    >>> [second_looks("constant", n) for n in (1, 2, 3, 4, 5, 20)]
    [0, 2, 3, 3, 3, 3]
    """
    if family == _REFERENCE:
        return min(_LOOKED_AT_AGAIN, trials) if trials > 1 else 0
    return min(_LOOKED_AT_AGAIN, (trials + 1) // 2) if trials > 2 else 0


def count_of_second_seeds(trials: int) -> int:
    """On how many further seeds the best few of a search are trained; see `other_seeds`.

    `trials` is how many each family has on average: where they are few, so are these.

    >>> [count_of_second_seeds(trials) for trials in (1, 3, 6, 10, 100)]
    [1, 1, 3, 4, 4]
    """
    return max(1, min(_MOST_SECOND_SEEDS, trials // 2))


def other_seeds(family: str, seeds: Sequence[int]) -> list[int]:
    """Of these seeds those on which the best few of a family are trained.

    All for the constant lr, by which a decay is judged: chosen on two noisy runs it would be a poor
    one, and any decay shown to be better. The first for any other family.

    >>> other_seeds("constant", [7, 8, 9]), other_seeds("step", [7, 8, 9])
    ([7, 8, 9], [7])
    """
    return list(seeds) if family == _REFERENCE else list(seeds[:1])


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
