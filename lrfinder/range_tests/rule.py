"""The rule that reads an initial learning rate off a range test.

Two sources are joined, seed by seed. The *sweep*, in which the lr grows, tells where the loss
falls (`features.py`). *Probes*, short runs at a constant lr around the centre of that fall, tell
which lr does best (`probes.py`):

    lr = back-off(probe, budget) * mean of the probes' lrs, weighted by how low their loss was

Without probes it is the centre of the fall itself, ``c * (n / 14)^(3/4)`` with n the updates spent
per decade of lr around the centre c: a slower sweep makes the same fall at a lower lr. That is
less reliable: a sweep that first learns something trivial points at the lr of that.

The suggestion is the geometric mean over seeds. Its interval is Student's t on log lr over the
seeds; with probes, whose answers scatter about alike in all tasks, it is the moderated t (Smyth
2004): a deviation known from other tasks counts like so many further seeds, and one seed has an
interval too. Where the curves do not carry an answer, or the probes learnt nothing of the inputs
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
from lrfinder.range_tests.features import FEWEST_POINTS, CurveFeatures, curve_features
from lrfinder.range_tests.other_rules import COMMON_RULES
from lrfinder.range_tests.probes import Probe, favoured
from lrfinder.range_tests.suggestion import RULE, SWEEP_RULE, Suggestion
from lrfinder.statistics import Mean, moderated_t, student_t

LEVEL = 0.9
"""Confidence level of a suggestion's interval."""
_LEAST_SIGNAL = 4.0  # drop of the loss over its scatter around the smooth curve
_LEAST_STEADINESS = 0.6  # net fall over the way travelled; a random walk has less
_LEAST_OVER_A_WALK = 10.0  # drop over what a random walk of the size of the first steps would make
_LEAST_EVIDENCE = 3.5  # of learning, in deviations over permuted targets (`Probe.evidence`)
_LEAST_SHARE = 0.02  # of the fall, that is lost when targets are exchanged
_WIDEST_FALL = 2.5  # decades of lr over which most of the fall is made; a random walk takes more
_WIDEST_INTERVAL = 100.0  # high / low beyond which the seeds are said to disagree
_DENSITY, _POWER = 14.0, 0.75  # updates per decade of lr that need no correction, and its exponent
_MOST_CORRECTION = 5.0
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
    problem = _unreadable(lr, curves)
    if problem is not None:
        return replace(unknown, reason=problem)
    if any(probes):
        return _from_probes(unknown, curves, probes)
    return _from_sweeps(unknown, curves, updates_per_step)


def features_of(lr: Floats, loss: Floats, start: Floats) -> list[CurveFeatures]:
    """What each seed's curve shows; lr float64[steps], loss [seeds, steps], start [seeds]."""
    return [curve_features(lr, row, first) for row, first in zip(loss, start, strict=True)]


def centres(lr: Floats, curves: Sequence[CurveFeatures]) -> list[float] | None:
    """Each seed's centre of the fall; None where the curves cannot be read."""
    return None if _unreadable(lr, curves) else [curve.centre for curve in curves]


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
    pairs = [(curve, own) for curve, own in zip(curves, probes, strict=True) if own]
    found = [favoured(curve.start, own, unknown.budget) for curve, own in pairs]
    noise = float(np.median([curve.scatter for curve, _ in pairs]))
    drops = [c.start - np.nanmin([c.start, *(p.loss for p in own)]) for c, own in pairs]
    drop = float(np.median(drops))
    lrs = np.array([lr for lr in found if lr is not None])
    tried = f"{min(p.lr for _, own in pairs for p in own):.2g} to " + (
        f"{max(p.lr for _, own in pairs for p in own):.2g}"
    )
    if len(lrs) < len(pairs) or not drop >= _LEAST_SIGNAL * noise:
        return replace(
            unknown,
            reason=f"the loss fell while the lr grew, but in no run at a constant lr ({tried}); "
            "take more --steps or --seeds",
        )
    trivial = _trivial([(curve.start, own) for curve, own in pairs])
    if trivial is not None:
        return replace(unknown, reason=trivial)
    edges = [float(c.lr[-1]) for c in curves if c.diverged]
    edges += [p.lr for _, own in pairs for p in own if not np.isfinite(p.loss)]
    runs = f"{len(pairs[0][1])} lrs" if len(pairs) == 1 else f"lrs with {len(pairs)} seeds"
    reason = (
        f"the lr that runs of {pairs[0][1][0].updates} updates favour, at {runs} in {tried} "
        f"(the loss fell by {drop:.3g})"
    )
    interval = moderated_t(
        np.log(lrs), LEVEL, usual_deviation=_USUAL_SPREAD, like_seeds=_LIKE_SEEDS
    )
    return _answer(unknown, lrs, edges, interval, reason)


def _trivial(runs: Sequence[tuple[float, Sequence[Probe]]]) -> str | None:
    """Why no probe learnt anything that counts; seed by seed the loss before training and probes.

    Of every seed the probe counts that learnt most, of those whose loss fell.
    """
    fell = [(start, [p for p in own if p.loss < start]) for start, own in runs]
    known = [(start, [p for p in own if not np.isnan(p.evidence)]) for start, own in fell]
    known = [(start, own) for start, own in known if own]
    if not known:
        return None
    evidence = np.median([max(p.evidence for p in own) for _, own in known])
    if evidence < _LEAST_EVIDENCE:
        return (
            "the loss fell, but what was learnt does not depend on the inputs; with targets "
            "exchanged it is as low; check the targets (Task(target=...) says which they are, "
            "False that there are none), or take more --steps"
        )
    share = np.median([max(p.share_learnt(start) for p in own) for start, own in known])
    if share < _LEAST_SHARE:
        return (
            f"no more than {share:.1%} of the fall of the loss depends on the inputs; the model "
            "has only begun to learn; take more --steps, or scale inputs and targets"
        )
    return None


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
            f"the seeds disagree (their 90% interval is {low:.2g} to {high:.2g}); "
            "take more --seeds or --steps, or grow the lr per epoch (--every epoch)"
        )
        return replace(unknown, reason=problem)
    if edges and not centre < min(edges):
        problem = (
            f"one seed diverged at {min(edges):.2g}, below what the others suggest "
            f"({centre:.2g}); take more --seeds"
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
            "check the data for nan, lower --min-lr or take more --steps"
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
            "take more --steps or --seeds, or grow the lr per epoch (--every epoch)"
        )
    if _most(c.still_falling for c in curves):
        return f"the loss still falls at the largest lr tested ({lr[-1]:.3g}); raise --max-lr"
    if _most(c.starts_inside for c in curves):
        return f"the loss falls from the smallest lr tested on ({lr[0]:.3g}); lower --min-lr"
    if not _most(_falls(curve) for curve in curves):
        return (
            "the loss wanders at every lr instead of falling at one; "
            "take more --steps or --seeds, or grow the lr per epoch (--every epoch)"
        )
    return None
