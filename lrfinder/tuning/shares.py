"""How many trials each family gets: the rest goes to families that can still win.

All families begin with as many trials. Then the half whose best values are worst is left at what it
has, round after round, and the last two get what remains: sequential halving (Karnin, Koren and
Somekh 2013, "Almost optimal exploration in multi-armed bandits"), with the best value of a family
in place of a mean. The first round, in which every family also finds its lr, is as large as that of
successive rejects (Audibert, Bubeck and Munos 2010, "Best arm identification in multi-armed
bandits"); the later ones are alike. Few rounds are large rounds, and many trials train faster
together. The constant lr, which is always compared, is not dropped: it gets three trials, and more
until its best lr lies between two others or at a bound. A space of few points is gone through.

What is decided follows from the values that have been told, so that a search which is interrupted
and goes on makes as many trials as one that is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FOR_CONSTANT = 3
"""Trials of the constant lr at least: the suggested one, a smaller and a larger one."""


@dataclass(frozen=True)
class Told:
    """What a family's trials have told so far."""

    values: tuple[float, ...]
    """In the order of the trials; lower is better, inf where the trial diverged."""
    points: int | None = None
    """Points of a space that is gone through; None for any other."""
    settled: bool | None = None
    """Of the constant lr: whether its best needs no further lr beside it; None for others."""


def even_goals(told: Sequence[Told], trials: int) -> list[int]:
    """Trials that each family is to reach where all get as many."""
    return [trials if one.points is None else min(trials, one.points) for one in told]


def goals(told: Sequence[Told], trials: int) -> list[int]:
    """Trials that each family is to reach now, of `trials` for each family on average.

    Once every family has reached its goal the goals are others; where they are not, all is done.

    >>> goals([Told((), settled=False), Told(()), Told(())], trials=10)
    [3, 10, 10]
    """
    found = even_goals(told, trials)
    open_to_more = [k for k, one in enumerate(told) if one.points is None]
    arms = [k for k in open_to_more if told[k].settled is None] or open_to_more
    given = {k: _for_constant(told[k], trials) for k in open_to_more if k not in arms}
    for k, (now, _) in given.items():
        found[k] = now
    reserved = sum(found[k] for k in range(len(told)) if k not in open_to_more)
    values = [told[k].values for k in arms]
    halving = _Halving(values, len(told) * trials - reserved - trials * len(given))
    spare = sum(trials - most for _, most in given.values())
    for k, goal in zip(arms, halving.goals(spare), strict=True):
        found[k] = goal
    return found


def total(points: Sequence[int | None], trials: int, *, even: bool) -> int:
    """Trials of all families when a search has ended.

    `points` are those of each space that is gone through, None for any other.

    >>> total([1, None, None], 10, even=False), total([1, None, None], 10, even=True)
    (30, 21)
    """
    if even or None not in points:
        return sum(even_goals([Told((), count) for count in points], trials))
    return len(points) * trials


def _for_constant(told: Told, trials: int) -> tuple[int, int]:
    """Trials that the constant lr is to reach now, and at most."""
    made = len(told.values)
    if made < _FOR_CONSTANT:
        return min(_FOR_CONSTANT, trials), trials
    return (made, made) if told.settled else (min(trials, made + 1), max(made, trials))


@dataclass(frozen=True)
class _Halving:
    """Sequential halving among families with so many trials in all."""

    values: Sequence[tuple[float, ...]]
    budget: int

    def goals(self, spare: int) -> list[int]:
        """Trials that each is to reach now; the last ones share the spare trials too."""
        left = list(range(len(self.values)))
        found = [0] * len(left)
        asked = self._first()
        a_round = (self.budget - asked * len(left)) // max(1, _halvings(len(left)))
        while len(left) > 2:
            for k in left:
                found[k] = asked
            if any(len(self.values[k]) < asked for k in left):
                return found
            best_first = sorted(left, key=lambda k: (min(self.values[k][:asked]), k))
            left = sorted(best_first[: _kept(len(left))])
            asked += a_round // len(left)
        rest = self.budget + spare - sum(n for k, n in enumerate(found) if k not in left)
        for place, k in enumerate(left):
            found[k] = rest // len(left) + (place < rest % len(left))
        return found

    def _first(self) -> int:
        """Trials of each family before any is dropped."""
        count = len(self.values)
        slope = 0.5 + sum(1 / k for k in range(2, count + 1))
        return max(1, math.ceil((self.budget - count) / (slope * count)))


def _kept(families: int) -> int:
    """Families that are left of so many after a round; two are never parted."""
    return max(2, -(-families // 2))


def _halvings(families: int) -> int:
    """Rounds after the first one, the last of which has two families."""
    return 0 if families <= 2 else 1 + _halvings(_kept(families))
