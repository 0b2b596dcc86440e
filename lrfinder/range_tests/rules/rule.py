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

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.rules.features import CurveFeatures, curve_features
from lrfinder.range_tests.rules.longer_training import Reading, read, widened
from lrfinder.range_tests.rules.other_rules import COMMON_RULES
from lrfinder.range_tests.rules.probes import Probe, finite_losses, level, unknown_above
from lrfinder.range_tests.rules.refusals import lrs_tried, problem_of_probes, problem_of_sweep
from lrfinder.range_tests.rules.suggestion import RULE, SWEEP_RULE, Suggestion
from lrfinder.statistics import Mean, moderated_t, student_t

LEVEL = 0.9
"""Confidence level of a suggestion's interval."""
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
    prone: float = 0.0,
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
        prone: how prone it is to memorise its rows (`longer_training.proneness`).
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
        return _from_probes(unknown, curves, probes, prone)
    problem = problem_of_sweep(lr, curves)
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
    unknown: Suggestion,
    curves: Sequence[CurveFeatures],
    probes: Sequence[Sequence[Probe]],
    prone: float,
) -> Suggestion:
    tested = [(curve, own) for curve, own in zip(curves, probes, strict=True) if own]
    curves, probes = [curve for curve, _ in tested], [own for _, own in tested]
    starts = [curve.start for curve in curves]
    pairs = list(zip(starts, probes, strict=True))
    found = [read(start, own, unknown.budget, prone) for start, own in pairs]
    problem = problem_of_probes(curves, probes, found, unknown.budget)
    if problem is not None:
        return replace(unknown, reason=problem)
    every = [probe for own in probes for probe in own]
    readings = [reading for reading in found if reading is not None]
    lrs = np.array([reading.lr for reading in readings])
    edges = [float(c.lr[-1]) for c in curves if c.diverged]
    edges += [p.lr for p in every if not np.isfinite(p.loss)]
    tried = lrs_tried(probes)
    runs = f"{len(probes[0])} lrs" if len(probes) == 1 else f"lrs with {len(probes)} seeds"
    drop = np.median([start - min(finite_losses(own)) for start, own in pairs])
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
    failed = [lr for start, own in pairs for lr in _failed(start, own)]
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
