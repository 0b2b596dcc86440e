"""Why a range test suggests no lr, and what to do: each reason is one sentence.

Of probes, the reasons are looked for from the plainest to the rarest: weights that are trained
already, a fall that is chance or noise, a loss that has no lowest value, and one that never fell.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.rules.features import FEWEST_POINTS, CurveFeatures
from lrfinder.range_tests.rules.longer_training import Reading
from lrfinder.range_tests.rules.probes import (
    LEAST_EVIDENCE,
    Probe,
    finite_losses,
    lowest_lr,
    nothing_left,
)
from lrfinder.range_tests.rules.without_bottom import without_bottom

_LEAST_SIGNAL = 4.0  # drop of the loss over its scatter around the smooth curve
_LEAST_STEADINESS = 0.6  # net fall over the way travelled; a random walk has less
_LEAST_OVER_A_WALK = 10.0  # drop over what a random walk of the size of the first steps would make
_WIDEST_FALL = 2.5  # decades of lr over which most of the fall is made; a random walk takes more


def too_narrow(curves: Sequence[CurveFeatures]) -> Literal["below", "above"] | None:
    """Where the range of lrs ends inside what it should show."""
    if _most(not c.long_enough or (c.starts_inside and c.diverged) for c in curves):
        return "below"
    if not _most(c.signal >= _LEAST_SIGNAL for c in curves):
        return None
    if _most(c.starts_inside for c in curves):
        return "below"
    return "above" if _most(c.still_falling for c in curves) else None


def problem_of_sweep(lr: Floats, curves: Sequence[CurveFeatures]) -> str | None:
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


def problem_of_probes(
    curves: Sequence[CurveFeatures],
    probes: Sequence[Sequence[Probe]],
    readings: Sequence[Reading | None],
    budget: int | None,
) -> str | None:
    """Why each seed's runs at a constant lr show no lr, and what to do; None where they do."""
    starts = [curve.start for curve in curves]
    tried, more = lrs_tried(probes), _more(probes, budget)
    if _most(map(nothing_left, starts, probes)):
        return (
            f"the loss did not fall to speak of at any constant lr ({tried}): the weights are "
            f"trained already ({np.median(starts):.3g} at the start, and with targets exchanged "
            f"{np.median([lowest_lr(own).permuted for own in probes]):.3g}); keep them, or start "
            "from fresh ones (Task(model=...))"
        )
    trivial = _trivial(curves, probes, more)
    if trivial is not None:
        return trivial
    if _most(map(without_bottom, starts, probes)):
        top = max(probe.lr for own in probes for probe in own)
        return (
            f"the loss falls as the lr grows, or faster, up to the largest tried ({top:.2g}): it "
            "has no lowest value, so measure something else (training.measure, "
            "Task(valid_loss=...)), or the best lr lies higher, so take more --probes"
        )
    if not _most(reading is not None for reading in readings):
        return f"the loss fell in no run at a constant lr ({tried}); {more}"
    return None


def lrs_tried(probes: Sequence[Sequence[Probe]]) -> str:
    """The range of the probes' lrs, in words."""
    lrs = [probe.lr for own in probes for probe in own]
    return f"{min(lrs):.2g} to {max(lrs):.2g}"


def _more(probes: Sequence[Sequence[Probe]], budget: int | None) -> str:
    """What makes the runs longer, which never make more updates than the training."""
    whole = budget is not None and probes[0][0].updates >= budget
    return "train longer (--epochs)" if whole else "take more --steps"


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
        drop = np.median([max(c.start - min(finite_losses(own)), 0.0) for c, own in pairs])
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


def _falls(curve: CurveFeatures) -> bool:
    """Whether the loss falls at some lr, rather than wanders at all of them."""
    return (
        curve.steadiness >= _LEAST_STEADINESS
        and curve.over_a_walk >= _LEAST_OVER_A_WALK
        and curve.width <= _WIDEST_FALL
    )


def _most(facts: Iterable[bool]) -> bool:
    known = list(facts)
    return sum(known) > len(known) / 2
