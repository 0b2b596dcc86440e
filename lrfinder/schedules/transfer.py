"""From the best constant learning rate to the best peak of a schedule, without training."""

import numpy as np

from lrfinder.arrays import Floats


def peak_multiplier(shape: Floats, exponent: float = 0.0) -> float:
    """Best peak lr of a decay over the best constant lr, predicted without training.

    `shape` is the schedule's lr at every update of the run, in units of its peak: float64[updates];
    zeros are left out. From the convergence bound of Defazio et al. 2023 (arXiv 2310.07831), as
    Schaipp et al. 2025 (arXiv 2501.18965) use it to move an lr between schedules, with all gradient
    norms equal. With S = sum(e) the bound is minimised by a peak proportional to sqrt(t1/(t2+t3)),

        t1 = 1/(2 S),    t2 = sum(e^2)/(2 S),
        t3 = 1/2 sum_{k<T-1} e_k / sum_{t>k} e_t * sum_{t>=k} e_t^2 / sum_{t>=k} e_t.

    It moves a learning rate; it does not say which schedule is best.

    `exponent` is the power by which the best constant lr falls with the length of the training.
    Where it is 1 or more, as in over-fitting, what counts is the sum of the lrs, and the peak is
    raised by no more than keeps that sum; below, the two are mixed geometrically.

    >>> import numpy as np
    >>> round(peak_multiplier(1 - np.arange(400) / 400), 2)
    2.73
    >>> peak_multiplier(np.ones(400))
    1.0
    >>> [round(peak_multiplier(1 - np.arange(400) / 400, exponent=e), 2) for e in (0.5, 1.0, 1.2)]
    [2.33, 2.0, 2.0]
    """
    used = shape[shape > 0]
    predicted = _best_peak(used) / _best_peak(np.ones(len(used)))
    return float(predicted * min(1.0, len(shape) / (shape.sum() * predicted)) ** min(exponent, 1.0))


def _best_peak(e: Floats) -> float:
    total = e.sum()
    tail, tail_squares = np.cumsum(e[::-1])[::-1], np.cumsum((e**2)[::-1])[::-1]
    t1, t2 = 1 / (2 * total), tail_squares[0] / (2 * total)
    t3 = 0.5 * np.sum(e[:-1] / tail[1:] * tail_squares[:-1] / tail[:-1])
    return float(np.sqrt(t1 / (t2 + t3)))
