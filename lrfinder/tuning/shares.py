"""How many trials each family gets: the rest goes to families that can still win.

One family, the scout, looks for the lr before the others begin: how far its best lr is from the one
that was suggested for it is how far theirs will be. Where trials are so few that not every family
can have one after that, the families have one in their order of promise, as far as they go.

Those that begin do so with as many trials. Then the half whose best values are worst is left at
what it has, round after round, and the last two get what remains: sequential halving (Karnin, Koren
and Somekh 2013, "Almost optimal exploration in multi-armed bandits"), with the best value of a
family in place of a mean. The first round is as large as that of successive rejects (Audibert,
Bubeck and Munos 2010, "Best arm identification in multi-armed bandits"); the later ones are alike.
Few rounds are large rounds, and many trials train faster together. The constant lr, which is always
compared, is not dropped: it gets three trials, and more until its best lr lies between two others
near to it, or at a bound. A space of few points is gone through.

What is decided follows from the values that have been told, so that a search which is interrupted
and goes on makes as many trials as one that is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FOR_CONSTANT = 3
"""Trials of the constant lr at least: the suggested one, a smaller and a larger one."""
_FOR_SCOUT = 5
"""Trials that look for the lr at most: as far as eight times the suggested one, or an eighth."""
PROMISE = ("cosine", "polynomial", "wsd", "exponential", "step", "inverse_time", "plateau")
"""Families in the order in which they begin; any other after these."""


@dataclass(frozen=True)
class Told:
    """What a family's trials have told so far."""

    values: tuple[float, ...]
    """In the order of the trials; lower is better, inf where the trial diverged."""
    points: int | None = None
    """Points of a space that is gone through; None for any other."""
    lacks: int | None = None
    """Of the constant lr: how many more its best needs beside it by now; None for others."""
    scouting: "Scouting | None" = None
    """Of the scout: how it stands with looking for the lr; None for others."""
    rank: int = 0
    """Its place in the order of promise."""


@dataclass(frozen=True)
class Scouting:
    """How a scout stands."""

    trials: int
    """Trials that it is to reach now; when it has ended, those that it took."""
    ended: bool


def trials_of_scout(families: int, trials: int) -> int:
    """Trials of the scout at most, of `trials` for each family on average; 0 where there is none.

    Half of all trials at most, and none where those are too few to have the best lr between two.

    >>> trials_of_scout(8, 10), trials_of_scout(8, 1), trials_of_scout(2, 2)
    (5, 4, 0)
    """
    most = min(_FOR_SCOUT, families * trials // 2)
    return most if most >= 3 and families > 1 else 0


def rank(family: str) -> int:
    """Place of a family in the order of promise."""
    return PROMISE.index(family) if family in PROMISE else len(PROMISE)


def even_goals(told: Sequence[Told], trials: int) -> list[int]:
    """Trials that each family is to reach where all get as many."""
    return [trials if one.points is None else min(trials, one.points) for one in told]


def goals(told: Sequence[Told], trials: int) -> list[int]:
    """Trials that each family is to reach now, of `trials` for each family on average.

    Once every family has reached its goal the goals are others; where they are not, all is done.

    >>> goals([Told((), lacks=1), Told(()), Told(())], trials=10)
    [3, 10, 10]
    """
    scout = next((k for k, one in enumerate(told) if one.scouting is not None), None)
    looked = None if scout is None else told[scout].scouting
    if scout is not None and looked is not None and not looked.ended:
        now = [len(one.values) for one in told]
        return [looked.trials if k == scout else made for k, made in enumerate(now)]
    found = dict(enumerate(even_goals(told, trials)))
    open_to_more = [k for k, one in enumerate(told) if one.points is None]
    arms = [k for k in open_to_more if told[k].lacks is None] or open_to_more
    given = {k: _for_constant(told[k], trials) for k in open_to_more if k not in arms}
    for k, (now, _) in given.items():
        found[k] = now
    reserved = sum(found[k] for k in range(len(told)) if k not in open_to_more)
    budget = len(told) * trials - reserved - trials * len(given)
    took = looked.trials if looked is not None else 1
    begin = sorted(arms, key=lambda k: (k != scout, told[k].rank))[: max(1, budget - took + 1)]
    least = [took if k == scout else 1 for k in arms if k in begin]
    halving = _Halving([told[k].values for k in arms if k in begin], least, budget)
    spare = sum(trials - most for _, most in given.values())
    found.update(dict.fromkeys(arms, 0))
    found.update(zip([k for k in arms if k in begin], halving.goals(spare), strict=True))
    return [found[k] for k in range(len(told))]


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
    lacks = told.lacks or 0
    return (min(trials, made + lacks), max(made, trials)) if lacks else (made, made)


@dataclass(frozen=True)
class _Halving:
    """Sequential halving among families with so many trials in all."""

    values: Sequence[tuple[float, ...]]
    least: Sequence[int]
    """Trials that each has before any is dropped; more than one only for the scout."""
    budget: int

    def goals(self, spare: int) -> list[int]:
        """Trials that each is to reach now; the last ones share the spare trials too."""
        left = list(range(len(self.values)))
        found = [0] * len(left)
        asked = self._first()
        rest = self.budget - sum(max(asked, least) for least in self.least)
        a_round = max(0, rest) // max(1, _halvings(len(left)))
        while len(left) > 2:
            for k in left:
                found[k] = max(asked, self.least[k])
            if any(len(self.values[k]) < found[k] for k in left):
                return found
            best_first = sorted(left, key=lambda k: (min(self.values[k][: found[k]]), k))
            left = sorted(best_first[: _kept(len(left))])
            asked += a_round // len(left)
        rest = self.budget + spare - sum(n for k, n in enumerate(found) if k not in left)
        for k in sorted(left, key=lambda k: -self.least[k]):
            found[k] = max(-(-rest // len(left)), self.least[k])
            rest -= found[k]
            left.remove(k)
        return found

    def _first(self) -> int:
        """Trials of each family before any is dropped."""
        count, budget = len(self.values), self.budget - sum(self.least) + len(self.least)
        slope = 0.5 + sum(1 / k for k in range(2, count + 1))
        return max(1, math.ceil((budget - count) / (slope * max(1, count))))


def _kept(families: int) -> int:
    """Families that are left of so many after a round; two are never parted."""
    return max(2, -(-families // 2))


def _halvings(families: int) -> int:
    """Rounds after the first one, the last of which has two families."""
    return 0 if families <= 2 else 1 + _halvings(_kept(families))
