"""Rules of other finders, read beside ours."""

from collections.abc import Callable, Mapping

import numpy as np

from lrfinder.range_tests.rules.features import CurveFeatures


def _minimum(curve: CurveFeatures) -> float:
    """Lr of the lowest loss, between the points by a parabola through the lowest three."""
    i = curve.lowest
    if not 0 < i < len(curve.lr) - 1:
        return float(curve.lr[i])
    left, lowest, right = curve.loss[i - 1 : i + 2]
    bend = left - 2 * lowest + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    neighbour = curve.lr[i + 1] if shift > 0 else curve.lr[i - 1]
    return float(curve.lr[i] * (neighbour / curve.lr[i]) ** abs(shift))


def _steepest(curve: CurveFeatures) -> float:
    """Lr of the steepest descent of the loss against log lr."""
    slope = np.gradient(curve.loss, np.log(curve.lr))
    return float(curve.lr[np.argmin(slope[: curve.lowest + 1])])


def _valley(curve: CurveFeatures) -> float:
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


COMMON_RULES: Mapping[str, Callable[[CurveFeatures], float]] = {
    "minimum/10": lambda curve: _minimum(curve) / 10,
    "steepest": _steepest,
    "valley": _valley,
}
"""Other rules by name: each reads one seed's smoothed curve and gives an lr."""
