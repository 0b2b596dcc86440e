"""Suggestions at several batch sizes, or lengths of training, and how the lr goes with them.

The lr at each value is measured. Between the values they are joined by a line of log lr against
log value, weighted by their intervals, whose slope has an error of its own. Beyond the values
nothing is said: a rule such as lr ~ batch size holds up to a batch size that differs from task to
task, and is wrong by far past it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from lrfinder.range_tests.rules.rule import LEVEL
from lrfinder.range_tests.rules.suggestion import Suggestion

Over = Literal["batch_size", "epochs"]


@dataclass(frozen=True)
class Slope:
    """Exponent of the lr in the value, with the bounds of its 90% interval."""

    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """What is suggested at several values of one thing."""

    over: Over
    values: tuple[int, ...]
    suggestions: tuple[Suggestion, ...]

    @property
    def slope(self) -> Slope | None:
        """How the lr goes with the value; None with fewer than two lrs that have an interval."""
        known = [
            (value, one.lr, one.low, one.high)
            for value, one in zip(self.values, self.suggestions, strict=True)
            if one.lr is not None and one.low is not None and one.high is not None
        ]
        return None if len(known) < 2 else _slope(known)

    def said(self) -> list[str]:
        """How the lr goes with the value, and how far that holds, in sentences."""
        name = self.over.replace("_", " ")
        measured = [
            value
            for value, one in zip(self.values, self.suggestions, strict=True)
            if one.lr is not None
        ]
        slope = self.slope
        if slope is None:
            return [f"how the lr goes with the {name} is not known: fewer than two lrs were found"]
        low, high = min(measured), max(measured)
        reach = f"from {low} to {high} the lr goes as {name}^{slope.slope:.2f}"
        apart = "" if slope.low > 0 or slope.high < 0 else "; that is not told apart from one lr"
        return [
            f"{reach} (90% interval {slope.low:.2f} to {slope.high:.2f}){apart}",
            f"below {low} and above {high} nothing is said: measure there "
            f"(--{self.over.replace('batch_size', 'batch-sizes')})",
        ]


def _slope(known: Sequence[tuple[int, float, float, float]]) -> Slope:
    """Weighted least squares; where lrs scatter by more than their intervals say, by that."""
    x, y, low, high = np.log(np.array(known, dtype=float)).T
    normal = float(special.ndtri((1 + LEVEL) / 2))
    weights = 1 / np.maximum((high - low) / (2 * normal), 1e-3) ** 2
    centre = float((weights * x).sum() / weights.sum())
    spread = float((weights * (x - centre) ** 2).sum())
    slope = float((weights * (x - centre) * y).sum() / spread)
    rest = y - (weights * y).sum() / weights.sum() - slope * (x - centre)
    freedom = len(known) - 2
    more = 1.0 if not freedom else max(1.0, float((weights * rest**2).sum()) / freedom)
    half = normal * math.sqrt(more / spread)
    return Slope(slope, slope - half, slope + half)
