"""Rules that read an initial learning rate off the curves of a range test.

Every rule reads the *loss against log lr* of one seed, smoothed symmetrically (a one-sided average
would shift it to the right), up to where the run diverged. Adding a constant to the loss or scaling
it changes nothing. The suggestion is the geometric mean of the seeds' own answers; its interval is
Student's t on log lr over the seeds.

The rule that is used: a tenth of the lr at which the loss of the fixed probe is lowest. A back-off
from the minimum is steadier than the steepest slope, and erring low costs less than erring high.
Where the curves carry no such minimum the verdict is "inconclusive", with the reason and what to
do. Beside it stand the common rules, read off the training loss of each batch as other finders do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lrfinder.schedules import Schedule

Floats = NDArray[np.float64]
Verdict = Literal["suggested", "inconclusive"]

RULE = "probe minimum/10"
LEVEL = 0.9
"""Confidence level of a suggestion's interval."""

_FEWEST_POINTS = 8
_ROUNDING = 1e-12  # share of the loss's size that is taken for rounding errors
_LEAST_SIGNAL = 4.0  # drop of the loss over its scatter around the smooth curve
_WIDEST_INTERVAL = 100.0  # high / low beyond which the seeds are said to disagree


@dataclass(frozen=True)
class Suggestion:
    """An initial learning rate with an interval, or the reason why there is none."""

    lr: float | None
    """None exactly when the verdict is "inconclusive"."""
    low: float | None
    high: float | None
    """Bounds of the interval over seeds (90%); None where there is no lr or a single seed."""
    verdict: Verdict
    reason: str
    rule: str = RULE
    alternatives: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    """What other common rules read off the same curves."""
    diverged_at: float | None = None
    """Median over seeds of the lr at which training diverged; None where most runs did not."""
    schedule: str = "constant"
    optimizer: str = ""
    batch_size: int | None = None
    """What the suggestion is valid for; batch_size counts the rows of one update."""

    def __repr__(self) -> str:
        lrs = {name: getattr(self, name) for name in ("lr", "low", "high")}
        numbers = (f"{k}={v if v is None else format(v, '.3g')}" for k, v in lrs.items())
        return f"Suggestion({', '.join(numbers)}, verdict={self.verdict!r}, reason={self.reason!r})"

    def _repr_html_(self) -> str:
        from lrfinder import display

        return display.suggestion(self)

    def for_schedule(
        self,
        schedule: Schedule,
        updates: int,
        updates_per_epoch: int,
        lr_ratios: Sequence[float] = (1.0,),
    ) -> "Suggestion":
        """Move a suggestion for a constant lr to the peak lr of a schedule over a run's updates.

        lr, low and high are multiplied by `peak_multiplier` of the schedule's shape; among
        parameter groups, whose lrs are in these ratios, that is the largest lr of each update. An
        inconclusive suggestion stays as it is, and so does one for plateau, whose shape is not
        known before training.
        """
        factor = 1.0
        if not schedule.family.by_measure:
            steps = updates if schedule.per == "batch" else -(-updates // updates_per_epoch)
            shape = schedule.rows(lr_ratios, steps).max(axis=1) / (max(lr_ratios) or 1.0)
            repeats = 1 if schedule.per == "batch" else updates_per_epoch
            factor = peak_multiplier(np.repeat(shape, repeats)[:updates])
        return replace(
            self,
            lr=None if self.lr is None else self.lr * factor,
            low=None if self.low is None else self.low * factor,
            high=None if self.high is None else self.high * factor,
            schedule=str(schedule),
        )


def suggest(
    lr: Floats,
    loss: Floats,
    train_loss: Floats,
    start: Floats,
    *,
    optimizer: str = "",
    batch_size: int | None = None,
) -> Suggestion:
    """Read an initial lr off the curves of a range test.

    Args:
        lr: learning rate of each step, growing: float64[steps].
        loss: loss after each step, nan from where a seed's run diverged: float64[seeds, steps].
        train_loss: loss of each step's batch before its update: float64[seeds, steps].
        start: loss before the first step: float64[seeds].
        optimizer, batch_size: what the answer is valid for.
    """
    curves = [_usable(lr, row, first) for row, first in zip(loss, start, strict=True)]
    batch_curves = [_usable(lr, row, row[0]) for row in train_loss]
    unknown = Suggestion(
        None,
        None,
        None,
        "inconclusive",
        reason="",
        alternatives={name: _mean(rule, batch_curves) for name, rule in COMMON_RULES.items()},
        diverged_at=_edge(lr, loss),
        optimizer=optimizer,
        batch_size=batch_size,
    )
    lrs = np.array([_minimum(curve) / 10 for curve in curves if _is_long_enough(curve)])
    problem = _problem(lr, curves, lrs)
    if problem is not None:
        return replace(unknown, reason=problem)
    low, centre, high = _interval(lrs)
    seeds = "1 seed" if len(lrs) == 1 else f"{len(lrs)} seeds"
    drop = np.median([curve.drop for curve in curves])
    return replace(
        unknown,
        lr=centre,
        low=low if len(lrs) > 1 else None,
        high=high if len(lrs) > 1 else None,
        verdict="suggested",
        reason=f"a tenth of the lr of the lowest loss over {seeds} (it fell by {drop:.3g} there)",
    )


def peak_multiplier(shape: Floats) -> float:
    """Best peak lr of a decay over the best constant lr, predicted without training.

    `shape` is the schedule's lr at every update of the run, in units of its peak: float64[updates];
    zeros are left out. From the convergence bound of Defazio et al. 2023 (arXiv 2310.07831), as
    Schaipp et al. 2025 (arXiv 2501.18965) use it to move an lr between schedules, with all gradient
    norms equal. With S = sum(e) the bound is minimised by a peak proportional to sqrt(t1/(t2+t3)),

        t1 = 1/(2 S),    t2 = sum(e^2)/(2 S),
        t3 = 1/2 sum_{k<T-1} e_k / sum_{t>k} e_t * sum_{t>=k} e_t^2 / sum_{t>=k} e_t.

    It moves a learning rate; it does not say which schedule is best.

    >>> import numpy as np
    >>> round(peak_multiplier(1 - np.arange(400) / 400), 2)
    2.73
    >>> peak_multiplier(np.ones(400))
    1.0
    """
    used = shape[shape > 0]
    return _best_peak(used) / _best_peak(np.ones(len(used)))


def _best_peak(e: Floats) -> float:
    total = e.sum()
    tail, tail_squares = np.cumsum(e[::-1])[::-1], np.cumsum((e**2)[::-1])[::-1]
    t1, t2 = 1 / (2 * total), tail_squares[0] / (2 * total)
    t3 = 0.5 * np.sum(e[:-1] / tail[1:] * tail_squares[:-1] / tail[:-1])
    return float(np.sqrt(t1 / (t2 + t3)))


@dataclass(frozen=True)
class _Curve:
    """The usable part of one seed's curve."""

    lr: Floats
    loss: Floats
    """Smoothed."""
    drop: float
    """How far the smoothed loss falls below the start."""
    scatter: float
    """Standard deviation of the raw loss around the smoothed one, up to the minimum.

    Never less than what rounding makes of a loss of that size.
    """
    diverged: bool

    @property
    def lowest(self) -> int:
        return int(np.argmin(self.loss))


def _usable(lr: Floats, loss: Floats, start: float) -> _Curve:
    finite = np.isfinite(loss)
    end = len(loss) if finite.all() else int(np.argmin(finite))
    if end == 0 or not np.isfinite(start):
        return _Curve(lr[:0], loss[:0], 0.0, 0.0, diverged=True)
    raw = loss[:end]
    capped = np.minimum(raw, start + (start - raw.min()).clip(min=np.ptp(raw[:_FEWEST_POINTS])))
    smooth = smoothed(capped, len(loss) / 50)
    before = slice(0, int(np.argmin(smooth)) + 1)
    residuals = np.abs(capped - smooth)[before]
    scatter = 1.4826 * float(np.median(residuals))
    return _Curve(
        lr[:end],
        smooth,
        start - smooth.min(),
        max(scatter, _ROUNDING * float(np.abs(capped).max())),
        end < len(loss),
    )


def smoothed(values: Floats, width: float) -> Floats:
    """Symmetric Gaussian average over neighbouring points; `width` is its deviation in points."""
    index = np.arange(len(values))
    weights = np.exp(-0.5 * ((index[:, None] - index) / max(width, 1e-9)) ** 2)
    return weights @ values / weights.sum(axis=1)


def _minimum(curve: _Curve) -> float:
    """Lr of the lowest loss, between the points by a parabola through the lowest three."""
    i = curve.lowest
    if not 0 < i < len(curve.lr) - 1:
        return float(curve.lr[i])
    left, lowest, right = curve.loss[i - 1 : i + 2]
    bend = left - 2 * lowest + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    neighbour = curve.lr[i + 1] if shift > 0 else curve.lr[i - 1]
    return float(curve.lr[i] * (neighbour / curve.lr[i]) ** abs(shift))


def _steepest(curve: _Curve) -> float:
    """Lr of the steepest descent of the loss against log lr."""
    slope = np.gradient(curve.loss, np.log(curve.lr))
    return float(curve.lr[np.argmin(slope[: curve.lowest + 1])])


def _valley(curve: _Curve) -> float:
    """Lr in the middle of the longest descent, as in fastai's default rule.

    The longest descent is the longest strictly decreasing subsequence of the losses.
    """
    length = np.ones(len(curve.loss), dtype=int)
    first = np.arange(len(curve.loss))
    for i in range(1, len(curve.loss)):
        candidates = np.where(curve.loss[:i] > curve.loss[i], length[:i], 0)
        best = int(np.argmax(candidates))
        if candidates[best] > 0:
            length[i], first[i] = candidates[best] + 1, first[best]
    last = int(np.argmax(length))
    return float(curve.lr[first[last] + (last - first[last]) // 2])


COMMON_RULES: Mapping[str, Callable[[_Curve], float]] = {
    "minimum/10": lambda curve: _minimum(curve) / 10,
    "steepest": _steepest,
    "valley": _valley,
}
"""Other rules by name: each reads one seed's smoothed curve and gives an lr."""


def _is_long_enough(curve: _Curve) -> bool:
    return len(curve.lr) >= _FEWEST_POINTS


def _mean(rule: Callable[[_Curve], float], curves: Sequence[_Curve]) -> float | None:
    """Geometric mean of a rule's answers over seeds; None where the curves are too short."""
    logs = [np.log(rule(curve)) for curve in curves if _is_long_enough(curve)]
    return float(np.exp(np.mean(logs))) if logs else None


def _interval(lrs: Floats) -> tuple[float, float, float]:
    """Lower bound, geometric mean and upper bound: Student's t on log lr."""
    logs = np.log(lrs)
    half = 0.0
    if len(logs) > 1:
        error = logs.std(ddof=1) / np.sqrt(len(logs))
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1) * error)
    low, centre, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return float(low), float(centre), float(high)


def _edge(lr: Floats, loss: Floats) -> float | None:
    """Median over seeds of the first lr without a loss, where most seeds have one."""
    ends = np.where(np.isfinite(loss).all(axis=1), np.inf, lr[np.argmin(np.isfinite(loss), axis=1)])
    edge = float(np.median(ends))
    return edge if np.isfinite(edge) else None


def _problem(lr: Floats, curves: Sequence[_Curve], lrs: Floats) -> str | None:
    """Why the curves do not say an lr, and what to do; None where they do."""
    short = sum(not _is_long_enough(c) for c in curves)
    if short:
        return (
            f"{short} of {len(curves)} runs ended within {_FEWEST_POINTS} steps; "
            "check the data for nan, lower --min-lr or take more --steps"
        )
    if not np.median([curve.drop for curve in curves]) > 0:
        return (
            f"the loss never fell below where it started, from lr {lr[0]:.3g} on; "
            "lower --min-lr, or check that the model learns at all"
        )
    signal = float(np.median([c.drop / max(c.scatter, 1e-300) for c in curves]))
    if not signal >= _LEAST_SIGNAL:
        return (
            f"the loss fell by no more than {max(signal, 0):.1f} times its noise; "
            "take more --steps or --seeds, or grow the lr per epoch (--every epoch)"
        )
    at_end = sum(not c.diverged and c.lowest >= len(c.lr) - 2 for c in curves)
    if at_end > len(curves) / 2:
        return f"the loss still falls at the largest lr tested ({lr[-1]:.3g}); raise --max-lr"
    low, centre, high = _interval(lrs)
    if centre < lr[0]:
        return f"the loss is lowest near the smallest lr tested ({lr[0]:.3g}); lower --min-lr"
    if not high / low <= _WIDEST_INTERVAL:
        return (
            f"the seeds disagree (their 90% interval is {low:.2g} to {high:.2g}); "
            "take more --seeds or --steps, or grow the lr per epoch (--every epoch)"
        )
    edges = [float(c.lr[-1]) for c in curves if c.diverged]
    if edges and not centre < min(edges):
        return (
            f"one seed diverged at {min(edges):.2g}, below what the others suggest "
            f"({centre:.2g}); take more --seeds"
        )
    return None
