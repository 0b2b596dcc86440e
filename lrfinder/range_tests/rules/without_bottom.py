"""Losses that fall with the lr for ever: no lr can be judged by how low they come.

The loss of a critic, an energy, or a variance to be made large has no lowest value. Its fall grows
with the lr, as its power or faster, as far up as anybody tries; that of any other loss levels off,
or turns, below the lr at which training breaks.
"""

import math
from collections.abc import Sequence

from lrfinder.range_tests.rules.probes import Probe

_POWER = 0.95  # of the lr, by which the fall grows at least
_STEPS = 2  # from lr to lr, that it takes


def without_bottom(start: float, probes: Sequence[Probe]) -> bool:
    """Whether the loss of one seed falls as the lr or faster, up to the largest lr of its runs."""
    last = sorted(probes, key=lambda probe: probe.lr)[-_STEPS - 1 :]
    falls = [start - probe.loss for probe in last]
    if len(last) <= _STEPS or not all(fall > 0 for fall in falls):  # nan is none
        return False
    lower = zip(last, last[1:], falls, falls[1:], strict=False)
    return all(
        math.log(more / fall) >= _POWER * math.log(above.lr / below.lr)
        for below, above, fall, more in lower
    )
