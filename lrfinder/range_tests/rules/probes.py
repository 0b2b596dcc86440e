"""Short runs at a constant lr, which settle what a growing lr cannot: the second half of the rule.

A growing lr spends a few updates at every lr, so its curve tells where the loss begins to fall and
where training breaks, and little about what a hundred updates at one lr would do. So a few runs at
a constant lr follow: at half the centre of the fall, at 2 and at 8 times it; and, fourfold beyond
whichever end is best, at further lrs, until the best is inside. What they say about a training that
is longer than they are is read off in `longer_training.py`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lrfinder.arrays import Floats, Ints
from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.defaults import FEWEST_PROBES
from lrfinder.training.records.history import History

_LOWEST, _RATIO = 0.5, 4.0  # first lr over the centre of the fall, and between neighbouring lrs
LEAST_EVIDENCE = 3.5
"""Of learning, in deviations over permuted targets (`Probe.evidence`)."""
_ROUNDING = 1e-6  # share of the loss below which a deviation says nothing
_SHORTEST, _LONGEST, _SHARE = 120, 200, 0.1  # updates of a probe, and their share of the training


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
    halfway: float = math.nan
    """Mean loss over the last quarter of its first half; nan where not recorded."""
    scatter: float = math.nan
    """Standard deviation of one evaluation around its neighbours, of those from halfway on."""
    lowest: float = math.nan
    """Lowest loss on the way, averaged over three evaluations; nan where not recorded."""
    lowest_at: int | None = None
    """Update at which the loss was lowest."""
    train_loss: float = math.nan
    """Mean loss of its training batches over the last quarter of its updates.

    nan where it diverged, and where another loss than theirs is evaluated."""

    @property
    def evidence(self) -> float:
        """How far the loss lies below what it is with exchanged targets, in their deviations.

        nan where that is not known, and where the criterion does not look at the targets.
        """
        gap, rounding = self.permuted - self.loss, _ROUNDING * abs(self.loss)
        if max(abs(gap), self.permuted_deviation) <= _ROUNDING * rounding:
            return math.nan
        return gap / max(self.permuted_deviation, rounding, 1e-300)


def probe_updates(budget: int) -> int:
    """Updates of a probe for a training of so many: a tenth, 120 to 200, and no more than it has.

    >>> probe_updates(60), probe_updates(500), probe_updates(1500), probe_updates(9000)
    (60, 120, 150, 200)
    """
    return min(budget, max(_SHORTEST, min(_LONGEST, round(_SHARE * budget))))


def check_probes(probes: int) -> None:
    """Raise InvalidArgument for a number of probes that settles nothing."""
    check_count("probes", probes, low=0)
    if 0 < probes < FEWEST_PROBES:
        raise InvalidArgument(f"probes must be 0 or at least {FEWEST_PROBES}, but got {probes}")


def made_probes(history: History, *, comparable: bool) -> list[Probe]:
    """Return what the runs of a history, at constant lrs and all of one length, came to.

    Args:
        history: the runs.
        comparable: whether the loss that is evaluated is the one that is trained on.
    """
    at, updates = history.evaluated_at, int(history.evaluated_at[-1])
    trained = history.train_loss[:, int(0.75 * updates) :].mean(axis=1)
    made: list[Probe] = []
    for plan, losses, train_loss, diverged_at in zip(
        history.plans, history.measures["loss"], trained, history.diverged_at, strict=True
    ):
        ended = math.nan if diverged_at >= 0 else losses[at > 0.75 * updates].mean()
        halfway = losses[(at > 0.375 * updates) & (at <= 0.5 * updates)]
        lowest, lowest_at = _lowest(at, losses)
        made.append(
            Probe(
                plan.seed,
                plan.lr,
                updates,
                loss=float(ended),
                halfway=float(halfway.mean()) if halfway.size else math.nan,
                scatter=_scatter(losses[at > 0.375 * updates]),
                lowest=lowest,
                lowest_at=lowest_at,
                train_loss=float(train_loss) if comparable and diverged_at < 0 else math.nan,
            )
        )
    return made


def _scatter(losses: Floats) -> float:
    """The deviation of one loss around its neighbours; nan where there are too few."""
    if len(losses) < 4 or not np.isfinite(losses).all():
        return math.nan
    return 1.4826 / 2**0.5 * float(np.median(np.abs(np.diff(losses))))


def _lowest(at: Ints, losses: Floats) -> tuple[float, int | None]:
    """The lowest mean of three evaluations after the first, and at which update it was."""
    if len(losses) < 4 or not np.isfinite(losses).all():
        return math.nan, None
    means = np.convolve(losses[1:], np.ones(3) / 3, mode="valid")
    k = int(np.argmin(means))
    return float(means[k]), int(at[k + 2])


def first_lrs(centre: float) -> list[float]:
    """The lrs to try first, for a centre of the fall."""
    return [centre * _LOWEST * _RATIO**k for k in range(FEWEST_PROBES)]


def further_lr(probes: Sequence[Probe]) -> float | None:
    """The lr beyond the end of the range that is best; None where the best is inside."""
    ordered = sorted(probes, key=lambda probe: probe.lr)
    losses = finite(np.array([probe.loss for probe in ordered]), np.inf)
    best = int(np.argmin(losses))
    if best == 0:
        return ordered[0].lr / _RATIO
    return ordered[-1].lr * _RATIO if best == len(losses) - 1 else None


def unknown_above(probes: Sequence[Sequence[Probe]], budget: int | None) -> float | None:
    """The highest lr tried, where nothing is known of the training at higher ones; else None.

    That is so where the probes of most seeds did best at their highest lr, and where they are
    shorter than usual for the training: an lr that breaks it may not break them.
    """
    highest = [max(probe.lr for probe in own) for own in probes]
    further = [further_lr(own) or 0.0 for own in probes]
    open_above = sum(lr > top for lr, top in zip(further, highest, strict=True))
    cut_short = budget is not None and probes[0][0].updates < probe_updates(budget)
    return max(highest) if cut_short or 2 * open_above > len(probes) else None


def level(start: float, probes: Sequence[Probe]) -> float:
    """The loss that a fall is measured from: what is reached without anything of the inputs.

    It is the loss at the start or, where that is lower, the lowest with exchanged targets: from a
    start far above the best constant prediction, finding that prediction is no learning.
    """
    return min([start, *(p.permuted for p in probes if np.isfinite(p.evidence))])


def lowest_lr(probes: Sequence[Probe]) -> Probe:
    """The probe whose weights are nearest to those that it started from."""
    return min(probes, key=lambda probe: probe.lr)


def nothing_left(start: float, probes: Sequence[Probe]) -> bool:
    """Whether the weights knew the targets before, and no probe learnt more of them.

    At the lowest lr they are next to those of the start: there the loss and that of the start lie
    far below what it is with exchanged targets. A fall that is a rounding error of that gap is
    none.
    """
    first = lowest_lr(probes)
    gap = first.permuted - start
    known = first.evidence >= LEAST_EVIDENCE and gap >= LEAST_EVIDENCE * first.permuted_deviation
    lowest = min((p.loss for p in probes if np.isfinite(p.loss)), default=np.inf)
    return known and not start - lowest > _ROUNDING * gap


def finite(losses: Floats, other: float) -> Floats:
    """The losses, with another value for those that are not finite."""
    return np.where(np.isfinite(losses), losses, other)


def finite_losses(probes: Iterable[Probe]) -> list[float]:
    """Losses of the runs that did not diverge; of none, one that is no fall."""
    return [p.loss for p in probes if np.isfinite(p.loss)] or [np.inf]
