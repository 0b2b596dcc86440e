"""Means over seeds, with intervals, and paired tests of differences between them.

Everything is Student's t over seeds. Where the same quantity scatters about alike in many tasks,
the *moderated* t (Smyth 2004, doi:10.2202/1544-6115.1027) pools the deviation seen here with the
one known from elsewhere, which counts like so many further seeds.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import special

from lrfinder.arrays import Floats

Key = TypeVar("Key")


class Mean(NamedTuple):
    """A mean over seeds with the bounds of its interval; nan bounds with a single seed."""

    mean: float
    low: float
    high: float


def student_t(values: Floats, level: float) -> Mean:
    """Mean and Student's t interval over seeds: float64[seeds]; all nan without a seed.

    >>> import numpy as np
    >>> [round(x, 2) for x in student_t(np.array([1.0, 2.0, 3.0]), 0.95)]
    [2.0, -0.48, 4.48]
    """
    if len(values) < 2:
        return Mean(float(values[0]) if len(values) else math.nan, math.nan, math.nan)
    return _interval(values, float(values.std(ddof=1)), len(values) - 1, level)


def moderated_t(values: Floats, level: float, *, usual_deviation: float, like_seeds: int) -> Mean:
    """Mean over seeds, whose deviation is pooled with one that counts like so many seeds.

    A single value has an interval too. All nan without a seed.
    """
    if not len(values):
        return Mean(math.nan, math.nan, math.nan)
    freedom = like_seeds + len(values) - 1
    squares = like_seeds * usual_deviation**2 + len(values) * float(values.var())
    return _interval(values, math.sqrt(squares / freedom), freedom, level)


def paired_p(differences: Floats) -> float:
    """Two-sided p of Student's paired t test, float64[seeds]; nan with a single seed.

    Differences that are all alike have no spread to measure them by; their p is that of all signs
    being the same, 2**(1 - n), or 1 where there is no difference.
    """
    n = len(differences)
    if n < 2:
        return math.nan
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():
        return 2.0 ** (1 - n) if differences.any() else 1.0
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(n))
    return float(2 * special.stdtr(n - 1, -abs(t)))


def detectable(differences: Floats, alpha: float) -> float:
    """Difference that a paired t test at this level shows in four of five repetitions.

    `differences` is float64[seeds], of which the spread counts; nan with a single seed.

    >>> import numpy as np
    >>> round(detectable(np.array([0.9, 1.1, 1.0, 0.8, 1.2]), 0.05), 2)
    0.26
    """
    n = len(differences)
    if n < 2:
        return math.nan
    return float(_quantiles(n, alpha)) * float(differences.std(ddof=1)) / math.sqrt(n)


def seeds_to_show(differences: Floats, alpha: float, most: int = 10_000) -> int | None:
    """Seeds on which a paired t test would show the mean difference, in four of five repetitions.

    None where that takes more than `most`, or nothing is known of the spread.

    >>> import numpy as np
    >>> seeds_to_show(np.array([0.2, 2.0, -0.5, 1.0, -0.2]), 0.05)
    35
    """
    if len(differences) < 2 or not differences.mean():
        return None
    ratio = float(differences.std(ddof=1)) / abs(float(differences.mean()))
    counts = np.arange(2, most + 1)
    enough = _quantiles(counts, alpha) * ratio <= np.sqrt(counts)
    return int(counts[enough.argmax()]) if enough.any() else None


def _quantiles(n: Any, alpha: float) -> Any:  # noqa: ANN401 (a number or an array of them)
    """Standard errors between no difference and one that is shown in four of five repetitions."""
    return special.stdtrit(n - 1, 1 - alpha / 2) + special.stdtrit(n - 1, 0.8)


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """p values after Holm's step-down correction for the number of tests (Holm 1979).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    ordered = sorted(p.items(), key=lambda item: item[1])
    raised = [value * (len(ordered) - rank) for rank, (_, value) in enumerate(ordered)]
    steps = np.minimum(np.maximum.accumulate(raised), 1.0) if raised else []
    return {key: float(value) for (key, _), value in zip(ordered, steps, strict=True)}


def _interval(values: Floats, deviation: float, freedom: int, level: float) -> Mean:
    mean, half = float(values.mean()), 0.0
    if deviation > 0:
        error = deviation / math.sqrt(len(values))
        half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    return Mean(mean, mean - half, mean + half)
