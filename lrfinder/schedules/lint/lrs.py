"""Learning rates that still rise when the training ends, or are spent long before."""

import math
from collections.abc import Mapping

import numpy as np

from lrfinder.schedules.lint.seen import MILD, ON_PURPOSE, WHOLE, Seen
from lrfinder.types import Value

LEFT, _ENOUGH = 0.01, 0.1  # share of the sum of lrs after half of the training: too little, mended
_REST = 0.05  # share of the training that may have no lr at all
_ENDS = 0.01  # share of its start at which a decay has ended
_DOWN = ("inverse_time", "polynomial")  # milder with a lower number


def remarks(seen: Seen) -> list[str]:
    """What need not be wrong, but may surprise: a falling decay that ends far above nothing."""
    lrs = None if seen.name in ON_PURPOSE else seen.lrs(seen.params)
    if lrs is None or not lrs[-1] < lrs.max() * (1 - 1e-9):
        return []
    share = float(lrs[-1] / lrs.max())
    if share <= _ENDS:
        return []
    ends = f"it ends at {100 * share:.3g}% of its peak"
    return [f"{ends}; whether a lower end is better depends on the task"]


def still_rising(seen: Seen) -> str | None:
    """A warm-up of the schedule's own that the training does not see the end of."""
    lrs = None if seen.name == "triangular" else seen.lrs(seen.params)
    if lrs is None or len(lrs) < 3 or not lrs[-1] > lrs[-2] * (1 + 1e-9):
        return None
    if not (np.diff(lrs) >= 0).all():
        return None
    return (
        f"the lr still rises when the training of {seen.total} {seen.unit} ends, so that its "
        f"warm-up is longer; a warm-up of {max(1, seen.total // 20)} would be a twentieth of it"
    )


def nothing_left(seen: Seen) -> str | None:
    """A decay after which the second half of the training has next to no lr."""
    left = share_left(seen)
    if not left < LEFT or _rest(seen) > 0.5:
        return None
    name = MILD.get(seen.name)
    said = f"after half of the training {left:.1g} of the sum of lrs is left"
    if name is None:
        return f"{said}; let it decay more slowly"
    mended = _milder(seen, name)
    cure = f"{name}={mended:.3g} leaves {_ENOUGH:g}" if mended else "let it decay later"
    return f"{said} with {name}={seen.params[name]:g}; {cure}"


def at_rest(seen: Seen) -> str | None:
    """A decay that is at 0 long before the training ends."""
    rest = _rest(seen)
    if rest <= _REST or round(rest * seen.total) < 2:
        return None
    name = WHOLE.get(seen.name)
    cure = f"; {name}={seen.steps} ends with the training" if name else ""
    return f"the lr is 0 for the last {rest:.0%} of the training, which change nothing{cure}"


def share_left(seen: Seen, params: Mapping[str, Value] | None = None) -> float:
    """Share of the sum of lrs that the second half of the training has; 1 where not known."""
    lrs = seen.lrs(seen.params if params is None else params)
    if lrs is None or not lrs.sum() > 0:
        return 1.0
    return float(lrs[len(lrs) // 2 :].sum() / lrs.sum())


def _rest(seen: Seen) -> float:
    """Share of the training at whose end the lr is 0."""
    lrs = seen.lrs(seen.params)
    if lrs is None:
        return 0.0
    return 1 - (int(np.flatnonzero(lrs > 0).max(initial=-1)) + 1) / len(lrs)


def _milder(seen: Seen, name: str) -> float | None:
    """The value of a parameter that leaves a tenth for the second half; None where none does."""
    harsh = math.log(float(seen.params[name]))
    mild = math.log(1e-4) if seen.name in _DOWN else 0.0
    if share_left(seen, {**seen.params, name: math.exp(mild)}) < _ENOUGH:
        return None
    for _ in range(20):
        middle = (harsh + mild) / 2
        enough = share_left(seen, {**seen.params, name: math.exp(middle)}) >= _ENOUGH
        harsh, mild = (harsh, middle) if enough else (middle, mild)
    return math.exp(mild)
