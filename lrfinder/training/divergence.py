"""When a run counts as diverged.

A run diverges at its first loss that is not finite, or when the median of its last 8 losses exceeds

    start + 3 * (start - lowest + spread)

with start the median of the first 8 losses, lowest the lowest such running median so far, and
spread the range (largest minus smallest) of the first 8. The rule does not change when a constant
is added to the loss or the loss is multiplied by a positive one. A run that only fails to learn
stays below the limit. Where the loss rises whatever the lr is, three times that rise is added.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 8
Rise = Callable[[int], NDArray[np.floating[Any]]]
"""By how much losses have risen until each of the first n updates whatever the lr is: float[n]."""


def levels(losses: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The median of every 8 losses in a row: float[losses - 7]."""
    return np.median(np.lib.stride_tricks.sliding_window_view(losses, WINDOW), axis=1)


class Divergence:
    """Watches a run whose losses come piece by piece, at a cost of the new ones only.

    `rise` is asked where the loss is above the limit.

    >>> import numpy as np
    >>> run = Divergence()
    >>> run.add(np.linspace(2.0, 0.5, 40)) is None
    True
    >>> run.add(np.full(8, 1e3))
    43
    """

    def __init__(self, rise: Rise | None = None) -> None:
        self.at: int | None = None
        """Index of the update at which the run diverged, or None."""
        self._rise = rise
        self._seen = 0
        self._tail: NDArray[np.floating[Any]] = np.empty(0)
        self._start: float | None = None
        self._spread, self._lowest = 0.0, np.inf

    def add(self, losses: NDArray[np.floating[Any]]) -> int | None:
        """Take the losses of the next updates, float[updates]; return `at`."""
        if self.at is None:
            recent = np.concatenate([self._tail, losses])
            found = self._judge(recent)
            self.at = None if found is None else self._seen - len(self._tail) + found
            self._tail = recent[-(WINDOW - 1) :]
        self._seen += len(losses)
        return self.at

    def _judge(self, recent: NDArray[np.floating[Any]]) -> int | None:
        """Index into `recent`, which starts WINDOW - 1 losses before the new ones, or None."""
        finite = np.isfinite(recent)
        broken = None if finite.all() else int(np.argmin(finite))
        usable = recent[:broken]
        if len(usable) < WINDOW:
            return broken
        medians = levels(usable)
        if self._start is None:
            self._start, self._spread = float(medians[0]), float(np.ptp(usable[:WINDOW]))
        lowest = np.minimum(np.minimum.accumulate(medians), self._lowest)
        self._lowest = lowest[-1]
        limits = self._start + 3 * (self._start - lowest + self._spread)
        above = ~(medians <= limits)
        if above.any() and self._rise is not None:
            end = self._seen - len(self._tail) + len(usable)
            above = ~(medians <= limits + 3 * self._rise(end)[-len(medians) :])
        return int(np.argmax(above)) + WINDOW - 1 if above.any() else broken
