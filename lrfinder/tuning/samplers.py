"""Which sampler a family is searched with."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from lrfinder.tuning.space import Space

FINE = 1.5
"""Ratio within which the lrs beside the best constant one are tried: a halved and a doubled one are
parted once."""

MakeSampler = Callable[[Space, int, int], BaseSampler]
"""Return a family's sampler, from its space, the trials to try before it, and a seed."""


def sampler_for(space: Space, startup: int, seed: int) -> BaseSampler:
    """Return TPE, Optuna's default; where nothing but the lr is searched, one that brackets it.

    Optuna's Gaussian process finds no better schedules within the spread, and takes 30 to 80 ms a
    trial for 1 to 2: see studies/sampler.md.
    """
    if space.only_lr:
        return BracketSampler(seed)
    return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup)


class BracketSampler(BaseSampler):
    """Searches the lr alone: outwards from the best at the edge of what was tried, else beside it.

    Outwards by the ratio of the two outermost lrs, but at most to the bound; beside it in the
    middle of the wider gap.
    """

    def __init__(self, seed: int) -> None:
        self._random = RandomSampler(seed=seed % 2**32)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is drawn together with anything else."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn together with anything else."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 (a value of the parameter)
        """The next lr; any other parameter at random."""
        if param_name == "lr" and isinstance(param_distribution, FloatDistribution):
            told, asked = _tried(study)
            lr = next_lr(told, asked, param_distribution.low, param_distribution.high)
            if lr is not None:
                return lr
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def next_lr(
    told: Sequence[tuple[float, float]], asked: Sequence[float], low: float, high: float
) -> float | None:
    """Return the lr to try after (value, lr), lower values being better, and others without one.

    None where nothing is told yet, or the best has no room beside it.

    >>> round(next_lr([(1.0, 0.1), (2.0, 0.05), (0.5, 0.2)], [], 0.01, 10.0), 12)
    0.4
    >>> round(next_lr([(0.5, 0.1), (2.0, 0.05), (1.0, 0.4)], [], 0.01, 10.0), 12)
    0.2
    """
    if not told:
        return None
    lrs = sorted({lr for _, lr in told} | set(asked))
    best = _best_lr(told)
    if len(lrs) == 1:
        return None
    if best == lrs[-1] and best < high:
        return min(high, best * best / lrs[-2])
    if best == lrs[0] and best > low:
        return max(low, best * best / lrs[1])
    pairs = [pair for pair in pairwise(lrs) if best in pair]
    below, above = max(pairs, key=lambda pair: pair[1] / pair[0])
    middle = math.sqrt(below * above)
    return middle if below < middle < above and above / below > 1.001 else None


def lacking(
    told: Sequence[tuple[float, float]], low: float, high: float, ratio: float = math.inf
) -> int:
    """How many lrs beside the best one of (value, lr) are to be tried next, at once.

    0 where it lies between two others, or at a bound of its range, and those are no further from
    it than this ratio; one where it is at the edge of what was tried.

    >>> lacking([(1.0, 0.1), (2.0, 0.05), (0.5, 0.2)], 0.01, 10.0, 1.5)
    1
    >>> [lacking([(0.5, 0.1), (2.0, 0.05), (1.0, 0.2)], 0.01, 10.0, most) for most in (1.5, 2.5)]
    [2, 0]
    """
    if not told:
        return 1
    best = _best_lr(told)
    below = max((lr for _, lr in told if lr < best), default=None)
    above = min((lr for _, lr in told if lr > best), default=None)
    if (below is None and best > low) or (above is None and best < high):
        return 1
    wide = below is not None and best > ratio * below, above is not None and above > ratio * best
    return sum(wide)


def settled(told: Sequence[tuple[float, float]], low: float, high: float) -> bool:
    """Whether the best lr of (value, lr) lies between two others or at a bound of its range.

    >>> settled([(1.0, 0.1), (2.0, 0.05), (0.5, 0.2)], 0.01, 10.0)
    False
    """
    return not lacking(told, low, high)


def scouted(
    told: Sequence[tuple[float, float]], first: int, most: int, low: float, high: float
) -> int | None:
    """How many of (value, lr), in turn, had the best lr between two others or at a bound.

    At least the `first` ones, and at most `most`; None where it takes more than there are.

    >>> scouted([(1.0, 0.1), (2.0, 0.05), (0.5, 0.2), (0.7, 0.4)], 3, 5, 0.01, 10.0)
    4
    """
    for count in range(min(first, most), min(len(told), most) + 1):
        if count == most or settled(told[:count], low, high):
            return count
    return None


def _best_lr(told: Sequence[tuple[float, float]]) -> float:
    return min(told)[1]


def _tried(study: optuna.Study) -> tuple[list[tuple[float, float]], list[float]]:
    """(value, lr) of trials that ended, the lower the better; lrs of those in training."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    told: list[tuple[float, float]] = []
    asked: list[float] = []
    for trial in study.get_trials(deepcopy=False):
        lr = trial.params.get("lr")
        if lr is None or trial.state == TrialState.FAIL:
            continue
        if trial.state == TrialState.COMPLETE:
            lost = bool(trial.user_attrs.get("diverged"))
            told.append((math.inf if lost else sign * float(trial.values[0]), float(lr)))
        else:
            asked.append(float(lr))
    return told, asked
