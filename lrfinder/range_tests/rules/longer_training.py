"""What short runs at a few constant lrs say about a training that is longer than they are.

The lrs of the probes are averaged (geometrically), weighted by

    exp(-(loss - lowest) / hypot(0.08 (level - lowest), scatter))

so that lrs that do equally well, as far as the scatter of the loss between evaluations lets one
tell, count equally, and noise in a flat valley moves the answer little; the level is the loss
without anything learnt of the inputs (`probes.level`). That is the lr that a run of n updates
favours. The best lr of a longer run is lower, by a power of its length that
differs from task to task: near 0 where the loss falls on and on, 1 where the training has seen its
lowest loss after a fixed distance, lr x updates (over-fitting, fine-tuning). The probes show it
themselves: by how far the favoured lr has moved from n / 2 to n updates; by how fast the best
probe's loss still falls, as a share of the whole fall for each factor e of the updates; and by how
far it has begun to over-fit:

    lr = favoured(n) * (n / budget)^exponent
    shown = 0.6 + 0.25 log2(favoured(n / 2) / favoured(n)) - (rate of the fall)
            + 1.5 (over-fitting) + prone, within [0, 1.2]
    exponent = (L shown + 0.5 * 0.6) / (L + 0.5),  L = log(budget / n)

Over-fitting is the share of the fall by which the best probe's loss is lower on the rows that it is
trained on, as far as the losses of training favour a higher lr than the others: it counts in full
where that is twice as high. A loss that differs as much, but is bounded by where training breaks,
has its lowest values there in a longer training too. What begins after the probes they cannot show;
a model of many weights for the rows, which sees each of them often, is the more prone to it:

    prone = 0.15 log10(weights / rows) log(epochs / 10), factors within [0, 2] and [0, 3]

The second line is what the probes show, with noise. The third draws it towards the usual exponent,
most where the training is hardly longer than the probes: there it matters least which power it is,
and the noise would only scatter the answer.
The constants were chosen on trainings of 60 to 16,000 updates (studies/leaderboard/RULES.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.rules.probes import Probe, finite, level
from lrfinder.statistics import Mean

_ALIKE = 0.08  # share of the fall that lowers an lr's weight by a factor e
_EXPONENT, _MOVED, _FITTED = 0.6, 0.25, 1.5
_MOST = 1.2
_MEMORISES, _OFTEN = 0.15, 10  # for a decade of weights over rows; epochs that do not memorise
_MOST_MOVED = (-0.5, 1.5)  # beyond which the move of the favoured lr is noise
_FASTEST = 1.0  # rate of the fall that counts
_DRAWN = 0.5  # log of the length, over a probe's, at which half of an exponent is the usual one
_USUAL = (0.5, 0.8)  # log lr of the interval below and above
_KEPT, _LOWERED = 0.6, (0.3, 0.6)  # for each that the lr kept of the length, or was lowered by
_TOLERATED = 0.05  # share of the fall that may be lost within the band
_BELOW = (0.15, 0.32, 0.08)  # log lr of the band: least, share of as good lrs, of the length
_ABOVE = (0.3, 0.06)  # least, and share of what the lr was lowered by
_GOOD, _RISEN = 0.9, 0.06  # shares of the fall: made by a good run, lost again by one that rose
_EARLY = 0.7  # share of its updates after which a lowest loss is no turn
_UNKNOWN_BUDGET = 300  # updates of a training of unknown length


@dataclass(frozen=True)
class Reading:
    """What the probes of one seed say about the training."""

    lr: float
    """Favoured for the whole training."""
    exponent: float
    """By which power of its length over the training's the best lr falls."""
    stretch: float
    """Updates of the training over those of a probe."""
    below: float
    above: float
    """How far below and above it, in log lr, the training should lose less than 5% of the fall."""
    turned_up_at: int | None
    """Update after which the loss of a good probe rose again, where one did."""


def proneness(weights: int, rows: int, epochs: float) -> float:
    """How much of the exponent is for over-fitting that is still to come.

    >>> proneness(20_000, 2_000, 10), round(proneness(20_000, 2_000, 60), 2), proneness(9, 9, 60)
    (0.0, 0.27, 0.0)
    """
    decades = min(max(math.log10(weights / rows), 0.0), 2.0)
    return _MEMORISES * decades * min(max(math.log(epochs / _OFTEN), 0.0), 3.0)


def read(
    start: float, probes: Sequence[Probe], budget: int | None, prone: float = 0.0
) -> Reading | None:
    """Read the probes of one seed; None where no loss fell.

    Args:
        start: loss before training.
        probes: runs at a constant lr, all of one length.
        budget: updates of the training; None where it is not known.
        prone: how prone it is to memorise its rows.
    """
    losses = np.array([probe.loss for probe in probes], dtype=float)
    top = level(start, probes)
    now = _favoured(probes, losses, top)
    if now is None:
        return None
    updates = probes[0].updates
    stretch = max(1.0, (budget or max(_UNKNOWN_BUDGET, updates)) / updates)
    shown = _shown(probes, losses, top, now, prone)
    exponent = _drawn(shown, math.log(stretch))
    below, above = _band(probes, losses, top, now, stretch, exponent)
    turn = _turned_up_at(probes, top)
    return Reading(now * stretch**-exponent, exponent, stretch, below, above, turn)


def widened(scatter: Mean, readings: Sequence[Reading]) -> Mean:
    """The interval of a mean log lr over seeds, with what the length of the training adds to it.

    How far the best lr may lie from the one that is read off was measured over tasks: more where
    the training is longer than the probes, upwards where the lr was lowered for that, downwards
    more where it was not.
    """
    length = float(np.mean([math.log(reading.stretch) for reading in readings]))
    lowered = float(np.mean([r.exponent * math.log(r.stretch) for r in readings]))
    below = _USUAL[0] + _KEPT * max(length - lowered, 0.0) + _LOWERED[0] * lowered
    above = _USUAL[1] + _LOWERED[1] * lowered
    return Mean(
        scatter.mean,
        scatter.mean - math.hypot(scatter.mean - scatter.low, below),
        scatter.mean + math.hypot(scatter.high - scatter.mean, above),
    )


def _favoured(probes: Sequence[Probe], losses: Floats, top: float) -> float | None:
    """The lr that so low losses favour; one that diverged lies as far above as the best below."""
    lowest = np.min(finite(losses, top), initial=top)
    drop = top - lowest
    if not drop > 0:
        return None
    bounded = np.minimum(finite(losses, np.inf), top + drop)
    fell = [p for p in probes if p.loss < top and np.isfinite(p.scatter)]  # the others jump about
    scatter = float(np.median([probe.scatter for probe in fell])) if fell else 0.0
    alike = math.hypot(_ALIKE * drop, min(scatter, drop))
    weights = np.exp(-(bounded - lowest) / alike)
    logs = np.log([probe.lr for probe in probes])
    return float(np.exp(weights @ logs / weights.sum()))


def _drawn(shown: float, length: float) -> float:
    """The exponent that probes show, drawn towards the usual one; length is log(budget / n)."""
    return (length * shown + _DRAWN * _EXPONENT) / (length + _DRAWN)


def _shown(probes: Sequence[Probe], losses: Floats, top: float, now: float, prone: float) -> float:
    halfway = np.array([probe.halfway for probe in probes], dtype=float)
    best = int(np.argmin(finite(losses, np.inf)))
    before = _favoured(probes, halfway, top)
    moved = 0.5 if before is None else math.log2(before / now)
    rate = (halfway[best] - losses[best]) / (top - losses[best]) / math.log(2)
    rate = float(np.clip(rate, -0.3, _FASTEST)) if np.isfinite(rate) else 0.2
    shown = _EXPONENT + _MOVED * np.clip(moved, *_MOST_MOVED) - rate
    fitted = _over_fitting(probes, losses, top, now)
    return float(np.clip(shown + _FITTED * fitted + prone, 0.0, _MOST))


def _over_fitting(probes: Sequence[Probe], losses: Floats, top: float, now: float) -> float:
    """How far the best probe over-fits, from 0 to 1; 0 where its training losses are not known."""
    trained = np.array([probe.train_loss for probe in probes], dtype=float)
    best = int(np.argmin(finite(losses, np.inf)))
    favoured = _favoured(probes, trained, top)
    if favoured is None or not np.isfinite(trained[best]):
        return 0.0
    lower = (losses[best] - trained[best]) / (top - losses[best])
    higher = math.log2(favoured / now)
    return float(np.clip(lower, 0.0, 1.0) * np.clip(higher, 0.0, 1.0))


def _band(
    probes: Sequence[Probe],
    losses: Floats,
    top: float,
    now: float,
    stretch: float,
    exponent: float,
) -> tuple[float, float]:
    """How far below and above the lr, in log lr, a training loses little.

    Below by more where the probes are as good at lower lrs, and where the lr was not lowered for
    the length of the training, while the least lr that gets there falls with it. What the probes
    are like at higher lrs tells nothing of a longer training.
    """
    order = np.argsort([probe.lr for probe in probes])
    logs = np.log([probe.lr for probe in probes])[order]
    bounded = finite(losses, np.inf)[order]
    limit = bounded.min() + _TOLERATED * (top - bounded.min())
    best = int(np.argmin(bounded))
    as_good = max(math.log(now) - _crossing(logs[best::-1], bounded[best::-1], limit), 0.0)
    length, lowered = math.log(stretch), exponent * math.log(stretch)
    below = _BELOW[0] + _BELOW[1] * as_good + _BELOW[2] * (length - lowered)
    return below, _ABOVE[0] + _ABOVE[1] * lowered


def _crossing(logs: Floats, losses: Floats, limit: float) -> float:
    """Where losses that start below a limit cross it; the end where they do not."""
    over = np.nonzero(losses > limit)[0]
    if not over.size:
        return float(logs[-1])
    k = int(over[0])
    if not np.isfinite(losses[k]):
        return float(logs[k - 1])
    part = (limit - losses[k - 1]) / (losses[k] - losses[k - 1])
    return float(logs[k - 1] + part * (logs[k] - logs[k - 1]))


def _turned_up_at(probes: Sequence[Probe], top: float) -> int | None:
    """The earliest update after which the loss of a run that came down far enough rose again."""
    known = [probe for probe in probes if np.isfinite(probe.lowest) and np.isfinite(probe.loss)]
    if not known:
        return None
    fall = top - min(probe.lowest for probe in known)
    rose = [
        probe.lowest_at
        for probe in known
        if probe.lowest_at is not None
        and top - probe.lowest >= _GOOD * fall > 0
        and probe.loss - probe.lowest >= _RISEN * fall
        and probe.lowest_at <= _EARLY * probe.updates
    ]
    return min(rose, default=None)
