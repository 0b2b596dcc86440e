"""The rule that reads an initial learning rate off a range test.

Two sources are joined, seed by seed. The *sweep*, in which the lr grows, tells where the loss
falls (`features.py`). *Probes*, short runs at a constant lr around the centre of that fall, tell
which lr does best (`probes.py`):

    lr = mean of the probes' lrs, weighted by how low their loss was, * (n / budget)^exponent

with n the updates of a probe and an exponent that the probes show (`longer_training.py`). Without
probes it is the centre of the fall itself, ``c * (n / 14)^(3/4)`` with n the updates spent per
decade of lr around the centre c: a slower sweep makes the same fall at a lower lr. That is less
reliable: a sweep that first learns something trivial points at the lr of that.

The suggestion is the geometric mean over seeds. Its interval is Student's t on log lr over the
seeds; with probes, whose answers scatter about alike in all tasks, it is the moderated t (Smyth
2004): a deviation known from other tasks counts like so many further seeds, and one seed has an
interval too. That is widened by how far the best lr lies from what probes say in other tasks. Where
the curves do not carry an answer, or the probes learnt nothing of the inputs
(`permutation_test.py`), the verdict is "inconclusive", with the reason and what to do. Beside it
stand the common rules, read off the training loss of each batch as other finders do.

Everything is free of the loss's level and scale. It is valid for the optimizer, batch size, data
and length of training, and a constant lr, and was measured on small trainings
(studies/leaderboard/RULES.md).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.rules.features import FEWEST_POINTS, CurveFeatures, curve_features
from lrfinder.range_tests.rules.longer_training import Reading, read, widened
from lrfinder.range_tests.rules.other_rules import COMMON_RULES
from lrfinder.range_tests.rules.probes import (
    LEAST_EVIDENCE,
    Probe,
    level,
    lowest_lr,
    nothing_left,
    unknown_above,
)
from lrfinder.range_tests.rules.suggestion import RULE, SWEEP_RULE, Suggestion
from lrfinder.range_tests.rules.without_bottom import without_bottom
from lrfinder.statistics import Mean, moderated_t, student_t

LEVEL = 0.9
"""Confidence level of a suggestion's interval."""
_LEAST_SIGNAL = 4.0  # drop of the loss over its scatter around the smooth curve
_LEAST_STEADINESS = 0.6  # net fall over the way travelled; a random walk has less
_LEAST_OVER_A_WALK = 10.0  # drop over what a random walk of the size of the first steps would make
_WIDEST_FALL = 2.5  # decades of lr over which most of the fall is made; a random walk takes more
_WIDEST_INTERVAL = 100.0  # high / low beyond which the seeds are said to disagree
_DENSITY, _POWER = 14.0, 0.75  # updates per decade of lr that need no correction, and its exponent
_MOST_CORRECTION = 5.0
_NOT_MOVED = 1.05  # factor of the lr that is not worth a word
_USUAL_SPREAD, _LIKE_SEEDS = 0.2, 3  # deviation of a seed's log lr elsewhere; counts like so many


def suggest(
    lr: Floats,
    loss: Floats,
    train_loss: Floats,
    start: Floats,
    *,
    probes: Sequence[Sequence[Probe]] = (),
    updates_per_step: int = 1,
    optimizer: str = "",
    batch_size: int | None = None,
    budget: int | None = None,
) -> Suggestion:
    """Read an initial lr off a range test.

    Args:
        lr: learning rate of each step, growing: float64[steps].
        loss: loss after each step, nan from where a seed's run diverged: float64[seeds, steps].
        train_loss: loss of each step's batch before its update: float64[seeds, steps].
        start: loss before the first step: float64[seeds].
        probes: each seed's runs at a constant lr; none where there were none.
        updates_per_step: updates that each step made.
        optimizer, batch_size: what the answer is valid for.
        budget: updates of the training that it is for; None for a long one.
    """
    curves = features_of(lr, loss, start)
    batch_curves = [curve_features(lr, row, row[0]) for row in train_loss]
    unknown = Suggestion(
        None,
        None,
        None,
        "inconclusive",
        reason="",
        rule=RULE if any(probes) else SWEEP_RULE,
        alternatives={name: _mean(rule, batch_curves) for name, rule in COMMON_RULES.items()},
        diverged_at=_edge(lr, loss),
        optimizer=optimizer,
        batch_size=batch_size,
        budget=budget,
    )
    if any(probes):
        return _from_probes(unknown, curves, probes)
    problem = _unreadable(lr, curves)
    if problem is not None:
        return replace(unknown, reason=problem)
    return _from_sweeps(unknown, curves, updates_per_step)


def features_of(lr: Floats, loss: Floats, start: Floats) -> list[CurveFeatures]:
    """What each seed's curve shows; lr float64[steps], loss [seeds, steps], start [seeds]."""
    return [curve_features(lr, row, first) for row, first in zip(loss, start, strict=True)]


def centres(curves: Sequence[CurveFeatures]) -> list[float] | None:
    """Around which lr each seed's probes start; None where no loss fell below the start.

    A seed whose loss never fell takes the (geometric) mean of the others.
    """
    falls = [c.centre if c.long_enough and c.drop > 0 else np.nan for c in curves]
    if np.isnan(falls).all():
        return None
    usual = float(np.exp(np.nanmean(np.log(falls))))
    return np.where(np.isnan(falls), usual, falls).tolist()


def too_narrow(curves: Sequence[CurveFeatures]) -> Literal["below", "above"] | None:
    """Where the range of lrs ends inside what it should show."""
    if _most(not c.long_enough or (c.starts_inside and c.diverged) for c in curves):
        return "below"
    if not _most(c.signal >= _LEAST_SIGNAL for c in curves):
        return None
    if _most(c.starts_inside for c in curves):
        return "below"
    return "above" if _most(c.still_falling for c in curves) else None


def _from_sweeps(unknown: Suggestion, curves: Sequence[CurveFeatures], updates: int) -> Suggestion:
    lrs = np.array([curve.centre * _slowness(curve, updates) for curve in curves])
    edges = [float(c.lr[-1]) for c in curves if c.diverged]
    seeds = "1 seed" if len(lrs) == 1 else f"{len(lrs)} seeds"
    drop = np.median([curve.drop for curve in curves])
    reason = f"the lr at the centre of the loss's fall over {seeds} (it fell by {drop:.3g})"
    interval = student_t(np.log(lrs), LEVEL)
    return _answer(unknown, lrs, edges, interval, reason)


def _slowness(curve: CurveFeatures, updates_per_step: int) -> float:
    """Factor for a sweep that spends more or fewer updates on a decade of lr than 14."""
    logs = np.log10(curve.lr)
    decades = float(np.interp(np.log10(curve.centre), logs, np.gradient(logs)))
    factor = (updates_per_step / decades / _DENSITY) ** _POWER
    return min(max(factor, 1 / _MOST_CORRECTION), _MOST_CORRECTION)


def _from_probes(
    unknown: Suggestion, curves: Sequence[CurveFeatures], probes: Sequence[Sequence[Probe]]
) -> Suggestion:
    tested = [(curve, own) for curve, own in zip(curves, probes, strict=True) if own]
    curves, probes = [curve for curve, _ in tested], [own for _, own in tested]
    starts = [curve.start for curve in curves]
    found = [read(start, own, unknown.budget) for start, own in zip(starts, probes, strict=True)]
    every = [probe for own in probes for probe in own]
    top = max(p.lr for p in every)
    tried = f"{min(p.lr for p in every):.2g} to {top:.2g}"
    readings = [reading for reading in found if reading is not None]
    more = _more(probes, unknown.budget)
    problem = _trivial(curves, probes, more)
    if _most(map(nothing_left, starts, probes)):
        problem = (
            f"the loss did not fall to speak of at any constant lr ({tried}): the weights are "
            f"trained already ({np.median(starts):.3g} at the start, and with targets exchanged "
            f"{np.median([lowest_lr(own).permuted for own in probes]):.3g}); keep them, or start "
            "from fresh ones (Task(model=...))"
        )
    if problem is None and _most(map(without_bottom, starts, probes)):
        problem = (
            f"the loss falls as the lr grows, or faster, up to the largest tried ({top:.2g}): it "
            "has no lowest value, so measure something else (training.measure, "
            "Task(valid_loss=...)), or the best lr lies higher, so take more --probes"
        )
    if problem is None and not _most(reading is not None for reading in found):
        problem = f"the loss fell in no run at a constant lr ({tried}); {more}"
    if problem is not None:
        return replace(unknown, reason=problem)
    lrs = np.array([reading.lr for reading in readings])
    edges = [float(c.lr[-1]) for c in curves if c.diverged]
    edges += [p.lr for p in every if not np.isfinite(p.loss)]
    runs = f"{len(probes[0])} lrs" if len(probes) == 1 else f"lrs with {len(probes)} seeds"
    drop = np.median([start - min(_losses(own)) for start, own in zip(starts, probes, strict=True)])
    moved = float(np.exp(np.mean([r.exponent * np.log(r.stretch) for r in readings])))
    length = "a longer run" if unknown.budget is None else f"{unknown.budget} updates"
    longer = f", divided by {moved:.2g} for {length}"
    reason = (
        f"favoured by runs of {every[0].updates} updates at {runs} from {tried} "
        f"(the loss fell by {drop:.3g}){longer if moved > _NOT_MOVED else ''}"
    )
    scatter = moderated_t(np.log(lrs), LEVEL, usual_deviation=_USUAL_SPREAD, like_seeds=_LIKE_SEEDS)
    said = _answer(unknown, lrs, edges, scatter, reason)
    if said.lr is None:
        return said
    low, high = np.exp(widened(scatter, readings)[1:]).tolist()
    failed = [lr for start, own in zip(starts, probes, strict=True) for lr in _failed(start, own)]
    band = _tolerance(said.lr, said.diverged_at, readings, failed)
    exponent = float(np.mean([reading.exponent for reading in readings]))
    return replace(
        said,
        low=low,
        high=high,
        **band,
        unknown_above=unknown_above(probes, unknown.budget),
        turned_up_at=_turn(readings),
        exponent=exponent,
    )


def _more(probes: Sequence[Sequence[Probe]], budget: int | None) -> str:
    """What makes the runs longer, which never make more updates than the training."""
    whole = budget is not None and probes[0][0].updates >= budget
    return "train longer (--epochs)" if whole else "take more --steps"


def _losses(probes: Iterable[Probe]) -> list[float]:
    """Losses of the runs that did not diverge; of none, one that is no fall."""
    return [p.loss for p in probes if np.isfinite(p.loss)] or [np.inf]


def _failed(start: float, probes: Sequence[Probe]) -> list[float]:
    """The lrs of a seed's runs that diverged, or learnt nothing."""
    top = level(start, probes)
    return [probe.lr for probe in probes if not probe.loss < top]


def _tolerance(
    lr: float, edge: float | None, readings: Sequence[Reading], failed: Iterable[float]
) -> dict[str, float | None]:
    """The tolerance band around the suggested lr, and the lowest lr above it that broke."""
    below = float(np.exp(np.mean([reading.below for reading in readings])))
    above = float(np.exp(np.mean([reading.above for reading in readings])))
    broke = [tried for tried in failed if tried > lr]
    broke += [] if edge is None else [edge]
    lowest = min(broke) if broke else None
    band_high = lr * above if lowest is None else min(lr * above, lowest)
    return {"band_low": lr / below, "band_high": band_high, "broke_at": lowest}


def _turn(readings: Sequence[Reading]) -> int | None:
    """The median over seeds of the update after which the loss rose again, where it mostly did."""
    turns = [r.turned_up_at for r in readings if r.turned_up_at is not None]
    return int(np.median(turns)) if 2 * len(turns) > len(readings) else None


def _trivial(
    curves: Sequence[CurveFeatures], probes: Sequence[Sequence[Probe]], more: str
) -> str | None:
    """Why no probe learnt anything that counts; None where one did.

    Of every seed the probe counts that learnt most, of those whose loss fell. Where targets cannot
    be exchanged, the loss must have fallen by more than its noise.
    """
    pairs = list(zip(curves, probes, strict=True))
    fell = [[p for p in own if p.loss < curve.start] for curve, own in pairs]
    if not _most(map(bool, fell)):
        return None
    known = [[p.evidence for p in own if not np.isnan(p.evidence)] for own in fell]
    evidence = [max(own) for own in known if own]
    if not evidence:
        noise = max(float(np.median([_noise(c, own) for c, own in pairs])), 1e-300)
        drop = np.median([max(c.start - min(_losses(own)), 0.0) for c, own in pairs])
        if drop >= _LEAST_SIGNAL * noise:
            return None
        return (
            f"the loss fell by no more than {drop / noise:.1f} times its noise; {more}, or "
            "measure it on more rows (more validation data or, in a loop, training.measure)"
        )
    if np.median(evidence) < LEAST_EVIDENCE:
        return (
            "the loss fell, but what was learnt does not depend on the inputs; with targets "
            "exchanged it is as low; check the targets (Task(target=...) says which they are, "
            f"False that there are none), or {more}"
        )
    return None


def _noise(curve: CurveFeatures, probes: Sequence[Probe]) -> float:
    """Deviation of how far the best run fell: of the loss at the start, and of its mean at the end.

    Where the loss is that of training batches, the first is a mean of 8; the second is of the last
    quarter's evaluations, each a mean over more updates the longer the run is.
    """
    best = min(probes, key=lambda probe: probe.loss if np.isfinite(probe.loss) else np.inf)
    scatter = best.scatter if np.isfinite(best.scatter) else curve.scatter
    return float(np.hypot(curve.scatter / 8**0.5, scatter / 4**0.5))


def _answer(
    unknown: Suggestion,
    lrs: Floats,
    edges: Sequence[float],
    of_logs: Mean,
    reason: str,
) -> Suggestion:
    """The seeds' lrs as one suggestion, unless they contradict each other or a divergence."""
    centre = float(np.exp(np.log(lrs).mean()))
    low, high = (None if np.isnan(bound) else float(np.exp(bound)) for bound in of_logs[1:])
    if low is not None and high is not None and not high / low <= _WIDEST_INTERVAL:
        problem = (
            f"the seeds disagree (their 90% interval is {low:.2g} to {high:.2g}); take more --seeds"
        )
        return replace(unknown, reason=problem)
    if edges and not centre < min(edges):
        problem = (
            f"one seed diverged at {min(edges):.2g}, below what the others suggest "
            f"({centre:.2g}); clip the gradients (Task(clip_norm=...) or, in a loop, "
            "clip_grad_norm_), or train well below that lr"
        )
        return replace(unknown, reason=problem)
    return replace(unknown, lr=centre, low=low, high=high, verdict="suggested", reason=reason)


def _mean(rule: Callable[[CurveFeatures], float], curves: Sequence[CurveFeatures]) -> float | None:
    """Geometric mean of a rule's answers over seeds; None where the curves are too short."""
    logs = [np.log(rule(curve)) for curve in curves if curve.long_enough]
    return float(np.exp(np.mean(logs))) if logs else None


def _edge(lr: Floats, loss: Floats) -> float | None:
    """Median over seeds of the first lr without a loss, where most seeds have one."""
    ends = np.where(np.isfinite(loss).all(axis=1), np.inf, lr[np.argmin(np.isfinite(loss), axis=1)])
    edge = float(np.median(ends))
    return edge if np.isfinite(edge) else None


def _most(facts: Iterable[bool]) -> bool:
    known = list(facts)
    return sum(known) > len(known) / 2


def _falls(curve: CurveFeatures) -> bool:
    """Whether the loss falls at some lr, rather than wanders at all of them."""
    return (
        curve.steadiness >= _LEAST_STEADINESS
        and curve.over_a_walk >= _LEAST_OVER_A_WALK
        and curve.width <= _WIDEST_FALL
    )


def _unreadable(lr: Floats, curves: Sequence[CurveFeatures]) -> str | None:
    """Why the sweep does not show where the loss falls, and what to do; None where it does."""
    short = sum(not c.long_enough for c in curves)
    if short:
        return (
            f"{short} of {len(curves)} runs ended within {FEWEST_POINTS} steps; "
            "check the data for nan, or lower --min-lr"
        )
    if not np.median([curve.drop for curve in curves]) > 0:
        return (
            f"the loss never fell below where it started, from lr {lr[0]:.3g} on; "
            "lower --min-lr, or check that the model learns at all"
        )
    signal = float(np.median([curve.signal for curve in curves]))
    if not signal >= _LEAST_SIGNAL:
        return (
            f"the loss fell by no more than {max(signal, 0):.1f} times its noise; "
            "take more --steps, or grow the lr per epoch (--every epoch)"
        )
    if _most(c.still_falling for c in curves):
        return f"the loss still falls at the largest lr tested ({lr[-1]:.3g}); raise --max-lr"
    if _most(c.starts_inside for c in curves):
        return f"the loss falls from the smallest lr tested on ({lr[0]:.3g}); lower --min-lr"
    if not _most(_falls(curve) for curve in curves):
        return (
            "the loss wanders at every lr instead of falling at one; "
            "take more --steps, or lower --min-lr"
        )
    return None
