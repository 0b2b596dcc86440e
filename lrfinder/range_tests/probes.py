"""Short runs at a constant lr, which settle what a growing lr cannot: the second half of the rule.

A growing lr spends a few updates at every lr, so its curve tells where the loss begins to fall and
where training breaks, and little about what a hundred updates at one lr would do. So a few runs at
a constant lr follow: at half the centre of the fall, at 2 and at 8 times it; and, where the end of
that range is clearly best, at one lr beyond it. The lrs are then averaged (geometrically), weighted
by ``exp(-(loss - lowest) / (0.08 (start - lowest)))``: lrs that do equally well count equally, and
noise in a flat valley moves the answer little.

A short run prefers a higher lr than a long one: the average is multiplied by

    min(1, (updates of a probe / budget)^0.63),    budget = updates of a training, at most 300,

a half for 100 updates and a long training. Past 300 updates the best lr of small trainings moves
little; exponent and bound were measured on trainings of 60 to 1140 (studies/leaderboard/RULES.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LOWEST, _RATIO = 0.5, 4.0  # first lr over the centre of the fall, and between neighbouring lrs
_CLEAR = 0.02  # share of the fall by which a loss is clearly lower
_ROUNDING = 1e-6  # share of the loss below which a deviation says nothing
_LONG = 300  # updates from which on the best lr moves little
_ALIKE = 0.08  # share of the fall that lowers an lr's weight by a factor e


@dataclass(frozen=True)
class Probe:
    """A short run at a constant lr."""

    seed: int
    lr: float
    updates: int
    loss: float
    """Mean loss over the last quarter of its updates; nan where it diverged."""
    permuted: float = math.nan
    """The same with the targets exchanged: mean over several ways to do so."""
    permuted_deviation: float = math.nan
    """Standard deviation over those ways; nan, like their mean, where it is not known."""

    @property
    def evidence(self) -> float:
        """How far the loss lies below what it is with exchanged targets, in their deviations.

        nan where that is not known, and where the criterion does not look at the targets.
        """
        gap, rounding = self.permuted - self.loss, _ROUNDING * abs(self.loss)
        if max(abs(gap), self.permuted_deviation) <= _ROUNDING * rounding:
            return math.nan
        return gap / max(self.permuted_deviation, rounding, 1e-300)

    def share_learnt(self, start: float) -> float:
        """Share of the fall from the start that is lost when targets are exchanged."""
        return (self.permuted - self.loss) / (start - self.loss)


def first_lrs(centre: float, most: int) -> list[float]:
    """The lrs to try first, for a centre of the fall."""
    return [centre * _LOWEST * _RATIO**k for k in range(min(most, 3))]


def further_lr(start: float, probes: Sequence[Probe]) -> float | None:
    """The lr beyond the end of the range that is clearly best; None where it is inside."""
    if len(probes) < 2:
        return None
    ordered = sorted(probes, key=lambda probe: probe.lr)
    losses = _bounded(start, ordered)
    best = int(np.argmin(losses))
    margin = _CLEAR * (start - losses[best])
    if best == 0 and (losses[1] - losses[0] > margin or not margin > 0):
        return ordered[0].lr / _RATIO
    if best == len(losses) - 1 and losses[-2] - losses[-1] > margin > 0:
        return ordered[-1].lr * _RATIO
    return None


def favoured(start: float, probes: Sequence[Probe], budget: int | None = None) -> float | None:
    """The lr that the probes of one seed favour for a run of `budget` updates, None for a long one.

    None where no loss fell.
    """
    losses = _bounded(start, probes)
    drop = start - losses.min() if len(losses) else 0.0
    if not drop > 0:
        return None
    weights = np.exp(-(losses - losses.min()) / (_ALIKE * drop))
    logs = np.log([probe.lr for probe in probes])
    return float(np.exp(weights @ logs / weights.sum())) * back_off(probes[0].updates, budget)


def back_off(updates: int, budget: int | None = None) -> float:
    """Best lr of a run of `budget` updates, None for a long one, over that of a run of `updates`.

    >>> round(back_off(100), 2), round(back_off(100, 1000), 2), round(back_off(100, 200), 2)
    (0.5, 0.5, 0.65)
    >>> back_off(300), back_off(100, 60)
    (1.0, 1.0)
    """
    return min(1.0, (updates / min(budget or _LONG, _LONG)) ** 0.63)


def _bounded(start: float, probes: Sequence[Probe]) -> np.ndarray:
    """Losses; one of a run that diverged counts as far above the start as the best fell below."""
    losses = np.array([probe.loss for probe in probes], dtype=float)
    lowest = np.min(losses[np.isfinite(losses)], initial=start)
    worst = start + (start - lowest)
    return np.where(np.isfinite(losses), np.minimum(losses, worst), worst)
