"""Whether the optimizers of a loop work against each other in the training loss that is read.

The critic of a GAN lowers the loss that its generator raises: it falls where the critic wins, and
no lr can be told by that. So where a loop drives several optimizers and measures nothing, each is
let train alone, the others at next to no lr, at a quarter of the lr that did best together, and
its losses are compared with those of a training in which nothing moves: under the same seed, so
that what differs is its work. Optimizers of parts of one model each lower the loss. One that is
noise alone raises it a little, and no further as it goes on.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.trainings import Trainings
from lrfinder.tasks.loops.looking import LITTLE, LoopData

_GENTLY = 0.25  # of the best lr: there a rise is none of a training that breaks
_LEAST = 4.0  # deviations of the mean rise, by which it is one
_MUCH = 0.1  # of the largest move of an optimizer alone, that a rise is at least
_LITTLE, _GROWN = 2e-3, 1.3  # or this share, where it grows so from the first half to the second


def works_against(test: Trainings, curve: Curve) -> bool:
    """Whether one optimizer raises the training loss that the curve of a loop is of.

    It takes a training for each optimizer and one more, of a probe's length, under the first seed;
    nothing is tried where these are more than a limit on the cost, or the time, leaves.
    """
    looked_at = test.data
    known = [p for p in curve.probes if p.seed == curve.seeds[0] and np.isfinite(p.loss)]
    if not isinstance(looked_at, LoopData) or not curve.of_training or not known:
        return False
    if len(looked_at.groups) < 2 or not test.may_train_again(len(looked_at.groups) + 1):
        return False
    best = min(known, key=lambda probe: probe.loss)
    owner = np.repeat(np.arange(len(looked_at.groups)), looked_at.groups)
    still = np.full((len(looked_at.groups) + 1, len(owner)), LITTLE)
    alone = test.group_lrs(_GENTLY * best.lr)
    rows = np.where(owner == np.arange(len(still))[:, None], alone, still)
    unmoved, *moved = test.at_group_lrs(np.roll(rows, 1, axis=0), curve.seeds[0])
    found = [_Move.of(losses - unmoved) for losses in moved]
    largest = max(abs(move.later) for move in found)
    return any(move.is_rise(largest) for move in found)


@dataclass(frozen=True)
class _Move:
    """By how much the loss of a training lies above that of one in which nothing moves."""

    earlier: float
    later: float
    """Means over the first and the second half of its evaluations, as far as it came."""
    deviation: float
    """Of the second mean, by how evaluations scatter."""

    @classmethod
    def of(cls, above: Floats) -> Self:
        """Read it off float64[evaluations], nan from where the loss rose so far that it ended."""
        known = above[np.isfinite(above)]
        if len(known) < 2:  # broken at once: nothing is known
            return cls(0.0, 0.0, 0.0)
        first, second = np.array_split(known, 2)
        steps = np.abs(np.diff(known))
        scatter = 1.4826 / 2**0.5 * float(np.median(np.abs(steps - np.median(steps))))
        return cls(float(first.mean()), float(second.mean()), scatter / len(second) ** 0.5)

    def is_rise(self, largest: float) -> bool:
        """Whether it rose, where the largest move of any was so large."""
        if not self.later > _LEAST * self.deviation:
            return False
        grown = self.later >= _GROWN * self.earlier
        return self.later >= (_LITTLE if grown else _MUCH) * largest
