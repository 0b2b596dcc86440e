"""What one seed's curve of a range test shows: how far the loss fell, around which lr, how noisily.

Everything is read off the *loss against log lr*, smoothed symmetrically (a one-sided average would
shift it to the right), up to where the run diverged. Adding a constant to the loss or scaling it
changes nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from lrfinder.arrays import Floats

FEWEST_POINTS = 8
_ROUNDING = 1e-7  # share of the loss that single precision rounds off
_TRUNCATE = 9.0  # deviations beyond which a weight is below the rounding of a double
_CLEARLY = 0.1  # share of the drop that the last decade of lr must make, where it still falls
_MIDDLE = np.linspace(0.11, 0.89, 40)  # shares of the fall that its centre averages over


@dataclass(frozen=True)
class CurveFeatures:
    """The usable part of one seed's curve."""

    lr: Floats
    loss: Floats
    """Smoothed."""
    start: float
    """Loss before the first step."""
    drop: float
    """How far the smoothed loss falls below the start."""
    scatter: float
    """Standard deviation of the raw loss around the smoothed one, up to the minimum.

    Never less than what rounding makes of a loss of that size.
    """
    diverged: bool

    @property
    def long_enough(self) -> bool:
        """Whether there are points enough to read."""
        return len(self.lr) >= FEWEST_POINTS

    @property
    def lowest(self) -> int:
        """Index of the lowest loss."""
        return int(np.argmin(self.loss))

    @property
    def signal(self) -> float:
        """Drop over scatter."""
        return self.drop / max(self.scatter, 1e-300)

    @property
    def still_falling(self) -> bool:
        """Whether the loss is lowest at the largest lr tested, clearly lower than a decade before.

        A loss that is free of the weights' scale is flat up to the largest lr.
        """
        if self.diverged or self.lowest < len(self.lr) - 2:
            return False
        before = int(np.argmax(self.lr >= self.lr[-1] / 10))
        return bool(self.loss[before] - self.loss[-1] >= _CLEARLY * self.drop)

    @property
    def starts_inside(self) -> bool:
        """Whether a quarter of the fall, or all of it, was made by the smallest lr tested."""
        return bool(self.loss[0] <= self.start - 0.25 * self.drop) or not self.drop > 0

    @property
    def steadiness(self) -> float:
        """Net fall over the way travelled, up to half the drop: 1 for a loss that only falls."""
        half = int(np.argmax(self.loss <= self.start - 0.5 * self.drop))
        path = np.concatenate([[self.start], self.loss[: half + 1]])
        return float((path[0] - path[-1]) / max(np.abs(np.diff(path)).sum(), 1e-300))

    @property
    def over_a_walk(self) -> float:
        """Drop over what the loss would wander by chance, had it gone on as before the fall.

        A random walk of n steps wanders by the size of its steps times sqrt(n); the steps are those
        of the smoothed loss before a tenth of the drop is made.
        """
        quiet = max(int(np.argmax(self.loss <= self.start - 0.1 * self.drop)), 4)
        steps = np.diff(self.loss[:quiet])
        end = int(np.argmax(self.loss <= self.start - 0.8 * self.drop)) + 1
        return self.drop / max(float(np.sqrt((steps**2).mean() * end)), 1e-300)

    @property
    def width(self) -> float:
        """Decades of lr over which the middle 60% of the drop is made."""
        low, high = self.fallen_by(np.array([0.2, 0.8]))
        return float(np.log10(high / low))

    @property
    def centre(self) -> float:
        """Centre of the fall: geometric mean of the lrs at which 10%, ..., 90% of it are made."""
        return float(np.exp(np.log(self.fallen_by(_MIDDLE)).mean()))

    def fallen_by(self, shares: Floats) -> Floats:
        """First lr at which the loss has fallen by each share of its drop."""
        fall = self.loss[: self.lowest + 1]
        levels = self.start - shares * self.drop
        reached = np.minimum.accumulate(fall)
        i = np.searchsorted(-reached, -levels).clip(max=self.lowest)
        before = np.where(i > 0, fall[i - 1], self.start)
        part = ((before - levels) / np.maximum(before - fall[i], 1e-300)).clip(0, 1)
        logs = np.log(self.lr)
        return np.exp(logs[np.maximum(i - 1, 0)] * (1 - part) + logs[i] * part)


def curve_features(lr: Floats, loss: Floats, start: float) -> CurveFeatures:
    """Features of the curve of one seed: float64[steps], nan from where it diverged."""
    finite = np.isfinite(loss)
    end = len(loss) if finite.all() else int(np.argmin(finite))
    if end == 0 or not np.isfinite(start):
        return CurveFeatures(lr[:0], loss[:0], start, 0.0, 0.0, diverged=True)
    raw = loss[:end]
    capped = np.minimum(raw, start + (start - raw.min()).clip(min=np.ptp(raw[:FEWEST_POINTS])))
    smooth = smoothed(capped, len(loss) / 50)
    before = slice(0, int(np.argmin(smooth)) + 1)
    residuals = np.abs(capped - smooth)[before]
    scatter = 1.4826 * float(np.median(residuals))
    return CurveFeatures(
        lr[:end],
        smooth,
        float(start),
        float(start - smooth.min()),
        max(scatter, _ROUNDING * float(np.abs(capped).max())),
        end < len(loss),
    )


def smoothed(values: Floats, width: float) -> Floats:
    """Symmetric Gaussian average over neighbouring points; `width` is its deviation in points.

    At the ends it averages over the points there are. Memory is linear in the number of points.
    """

    def blurred(numbers: Floats) -> Floats:
        return gaussian_filter1d(numbers, width, mode="constant", truncate=_TRUNCATE)

    return blurred(values) / blurred(np.ones(len(values)))
