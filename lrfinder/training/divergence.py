"""When a run counts as diverged.

A run diverges at its first loss that is not finite, or when the median of its last 8 losses exceeds

    start + 3 * (start - lowest + spread)

with start the median of the first 8 losses, lowest the lowest such running median so far, and
spread the range (largest minus smallest) of the first 8. The rule does not change when a constant
is added to the loss or the loss is multiplied by a positive one. A run that only fails to learn
stays below the limit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 8


class Divergence:
    """Watches a run whose losses come piece by piece, at a cost of the new ones only.

    >>> import numpy as np
    >>> run = Divergence()
    >>> run.add(np.linspace(2.0, 0.5, 40)) is None
    True
    >>> run.add(np.full(8, 1e3))
    43
    """

    def __init__(self) -> None:
        self.at: int | None = None
        """Index of the update at which the run diverged, or None."""
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
        medians = np.median(np.lib.stride_tricks.sliding_window_view(usable, WINDOW), axis=1)
        if self._start is None:
            self._start, self._spread = float(medians[0]), float(np.ptp(usable[:WINDOW]))
        lowest = np.minimum(np.minimum.accumulate(medians), self._lowest)
        self._lowest = lowest[-1]
        above = ~(medians <= self._start + 3 * (self._start - lowest + self._spread))
        return int(np.argmax(above)) + WINDOW - 1 if above.any() else broken
