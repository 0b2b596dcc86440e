"""What one family's study searches: its parameters, and the peak lr on a log scale."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FixedTrial

from lrfinder.errors import InvalidArgument, LRFinderError
from lrfinder.schedules import Budget, Family, Schedule
from lrfinder.schedules.families.family import Trial
from lrfinder.schedules.spec import warmup_steps
from lrfinder.tasks.user_code import user_code
from lrfinder.types import Direction, Per

WARMUP = "warmup"
"""Name of the parameter that is the warm-up in scheduler steps, where it is searched."""


@dataclass(frozen=True)
class Space:
    """What one family's study searches: the lr range and the budget of the family's parameters."""

    family: Family
    lr_low: float
    lr_high: float
    """Range of the peak lr, searched on a log scale; equal bounds fix it."""
    lr_default: float
    """The lr at which the family's default parameters are tried first."""
    epochs: int
    updates_per_epoch: int
    per: Per = "epoch"
    warmup_epochs: float = 0.0
    lowest_lr: Callable[[float], float] = float
    """The smallest lr of a parameter group where this peak lr is asked for."""
    direction: Direction = "minimize"
    lr_spread: float = 2.0
    """The default parameters are tried at the default lr over this and times this next."""
    warmup_searched: bool = False
    """Whether the length of the warm-up is searched, up to a fifth of the scheduler steps."""

    def __post_init__(self) -> None:
        if not 0 < self.lr_low <= self.lr_default <= self.lr_high < math.inf:
            raise InvalidArgument(
                "0 < low <= default <= high must hold for the lr range, but got "
                f"(low={self.lr_low:g}, default={self.lr_default:g}, high={self.lr_high:g})"
            )
        if self.warmup_epochs > 0 and not self.family.warmup:
            raise InvalidArgument(
                f"{self.family.name} rises by itself and takes no warm-up, but got "
                f"warmup {self.warmup_epochs:g}; leave one of them out"
            )
        _ = self.warmup  # refuses one that is not shorter than the training

    @property
    def warmup(self) -> int:
        """Warm-up in scheduler steps, at least one where there is any."""
        per_batch = self.per == "batch" and not self.family.by_measure
        per_epoch = self.updates_per_epoch if per_batch else 1
        return warmup_steps(self.warmup_epochs, self.epochs, per_epoch)

    @property
    def longest_warmup(self) -> int:
        """Scheduler steps of the longest warm-up that is searched; 0 where none is."""
        if not self.warmup_searched:
            return 0
        steps = self.budget.steps
        return max(0, min(max(1, steps // 5), steps - self.family.min_steps))

    @property
    def budget(self) -> Budget:
        """What the family's parameters are searched for."""
        return self._budget(self.warmup)

    def _budget(self, warmup: int) -> Budget:
        per_epoch = self.updates_per_epoch if self.per == "batch" else 1
        if self.family.by_measure:
            per_epoch = 1
        return Budget(
            steps=self.epochs * per_epoch - warmup,
            steps_per_epoch=per_epoch,
            lowest_lr=self.lowest_lr(self.lr_low),
            direction=self.direction,
        )

    def ask(self, trial: Trial) -> tuple[float, Schedule]:
        """Peak lr and schedule of a trial."""
        trial.suggest_categorical("schedule", [self.family.name])
        lr = _written(trial.suggest_float("lr", self.lr_low, self.lr_high, log=True))
        warmup, longest = self.warmup, self.longest_warmup
        if longest:
            warmup = trial.suggest_int(WARMUP, 0, longest)
        with self._own_code():
            params = self.family.space(trial, self._budget(warmup))
        plain = {k: _written(v) if isinstance(v, float) else v for k, v in params.items()}
        return lr, Schedule(self.family, plain, self.per, warmup)

    @property
    def default_schedule(self) -> Schedule | None:
        """The schedule that is tried first; None where the family leaves that to the sampler."""
        try:
            return self.ask(_DefaultsTrial(self.first_trials()[0]))[1]
        except _NoDefaultError:
            return None

    @property
    def example(self) -> Schedule:
        """The schedule that is tried first, or else one with the lowest values."""
        return self.default_schedule or self.ask(_RecordingTrial())[1]

    def check_budget(self) -> None:
        """Raise InvalidArgument for a budget in which the family cannot decay."""
        with self._own_code():
            self.family.defaults(self.budget)

    def _own_code(self) -> AbstractContextManager[None]:
        return user_code(f"searching the schedule {self.family.name}")

    def first_trials(self) -> list[dict[str, Any]]:
        """Parameters to try first: the defaults at the default lr, at a lower and at a higher one.

        The lower and the higher one are left out where the range has no room for them. Where the
        warm-up is searched, the higher one has one: that is what a warm-up is for.
        """
        at, low, high = self.lr_default, self.lr_low, self.lr_high
        lower, higher = max(low, at / self.lr_spread), min(high, at * self.lr_spread)
        longest = self.longest_warmup
        first = self._defaults(self.warmup)
        tried = [(at, 0, params) for params in first]
        if lower != at:
            tried.append((lower, 0, first[0]))
        if higher != at or longest:
            warmup = -(-longest // 2)
            tried.append((higher, warmup, self._defaults(warmup or self.warmup)[0]))
        name, searched = self.family.name, longest > 0
        return [
            {"schedule": name, "lr": lr, **({WARMUP: warmup} if searched else {}), **params}
            for lr, warmup, params in tried
        ]

    def _defaults(self, warmup: int) -> list[dict[str, Any]]:
        with self._own_code():
            return [dict(params) for params in self.family.defaults(self._budget(warmup))] or [{}]

    def moved(self, factor: float) -> "Space":
        """The space whose defaults are tried at so many times the lr, within the range."""
        lr = min(self.lr_high, max(self.lr_low, self.lr_default * factor))
        return replace(self, lr_default=lr)

    @property
    def only_lr(self) -> bool:
        """Whether the family has nothing to search but the lr."""
        return not self.family.conditional and not self.searched()

    def searched(self) -> dict[str, str]:
        """Each parameter that is searched beside the lr, with its kind, or with its choices.

        Where parameters depend on each other, those that the lowest values of the others lead to.
        """
        asked = _RecordingTrial()
        self.ask(asked)
        return {
            name: str(list(d.choices)) if isinstance(d, CategoricalDistribution) else _kind(d)
            for name, d in sorted(asked.distributions.items())
            if name not in ("lr", "schedule")
        }

    def all_trials(self, most: int) -> list[dict[str, Any]] | None:
        """Every point of a discrete space of at most `most` points; None for any other space."""
        if self.family.conditional or self.longest_warmup:
            return None
        asked = _RecordingTrial()
        self.ask(asked)
        axes = {name: _values(d) for name, d in asked.distributions.items()}
        sizes = [math.inf if values is None else len(values) for values in axes.values()]
        if math.prod(sizes) > most:
            return None
        points = product(*(values for values in axes.values() if values is not None))
        return [dict(zip(axes, point, strict=True)) for point in points]


def asked_now(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a stored trial as a space asks for them; multistep once had always two drops.

    >>> asked_now({"milestone_1": 3, "milestone_2": 7})["drops"]
    2
    """
    old = "milestone_2" in params and "drops" not in params
    return {**params, "drops": 2} if old else dict(params)


class _NoDefaultError(LRFinderError):
    """A searched parameter has no default."""


class _DefaultsTrial:
    """Stands in for a trial, and answers with a family's defaults."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self._trial = FixedTrial(defaults)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        return self._answer(self._trial.suggest_categorical, name, choices)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._answer(self._trial.suggest_int, name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._answer(self._trial.suggest_float, name, low, high, step=step, log=log)

    def _answer(self, suggest: Callable[..., Any], *given: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            return suggest(*given, **options)
        except ValueError as error:
            raise _NoDefaultError from error


@dataclass
class _RecordingTrial:
    """Stands in for a trial to see which parameters a space asks for; answers the lowest value."""

    distributions: dict[str, BaseDistribution] = field(default_factory=dict[str, BaseDistribution])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        self.distributions[name] = CategoricalDistribution(choices)
        return choices[0]

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log, step=step)
        return low

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log, step=step)
        return low


def _kind(distribution: BaseDistribution) -> str:
    return "whole number" if isinstance(distribution, IntDistribution) else "number"


def _written(value: float) -> float:
    """The value to 12 digits, so that what is trained can be pasted without rounding noise."""
    return float(f"{value:.12g}")


def _values(distribution: BaseDistribution) -> Sequence[Any] | None:
    """Every value of a discrete distribution; None for a continuous one."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    if isinstance(distribution, FloatDistribution) and distribution.single():
        return [distribution.low]
    return None
