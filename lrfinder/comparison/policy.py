"""Comparison by halving: who is trained on how many further seeds, and what is shown by it.

Every candidate is trained on a few seeds, the better ones on some more, and the best one and those
that are kept (the constant lr, the baseline) on all that is left:

    look 1   all candidates              1/4 of the runs
    look 2   the best half, at most 3    3/8 of the runs     and those that are kept
    look 3   the best                    what is left        and those that are kept

With eight candidates and 64 runs these are 2, 6 and 12 seeds. Who is left at the end is a
*finalist*. A look *shows* a difference between two of its candidates where a paired t test, with
Holm's correction over all its pairs, is below its share of the error rate. The seeds of the first
look do not count in it, where it has chosen: a candidate that owes its place to their luck would be
flattered by them. The shares add up to 5%; one of them is kept for a continuation later, once.

The comparison ends early where the best is shown to be better than everyone who is kept. Candidates
that were trained by the same lrs, such as a constant lr and a plateau that never dropped, are one,
for as long as that lasts: the first of them goes on, and one that follows the measure, and may
drop on another seed, goes along as its *follower*. That costs nothing, since runs of the same lrs
are trained once, and it is not counted. Once the two have parted, it is a candidate like others,
with all its runs. What was dropped has a rank and no verdict. The numbers were chosen by
simulation: studies/verdict.md.

Everything follows from the runs, so that an interrupted comparison is resumed by asking again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.statistics import holm, paired_p

RUNS_PER_CANDIDATE = 8
"""Runs of a comparison, for each of its candidates, unless told."""
SHARES = (0.25, 0.375, 1.0)
"""Share of the runs in each look; the last one takes what is left."""
ALPHAS = (0.0, 0.001, 0.039)
"""Probability of showing any difference where there is none, in each look."""
CONTINUED = 0.01
"""That of a continuation."""
ERROR_RATE = sum(ALPHAS) + CONTINUED
MOST_AT_LOOK_2 = 3
"""Candidates that stay after the first look, at most, beside those that are kept."""
FEWEST_PER_CANDIDATE = 4
"""With fewer runs for each candidate, all of them are trained alike, in one look."""

Pair = frozenset[str]


@dataclass(frozen=True)
class Look:
    """Candidates that were trained on the same further seeds, and were then looked at."""

    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    alpha: float
    """Its share of the error rate."""
    continues: bool = False
    """Whether it continues a comparison that had ended."""
    followers: tuple[str, ...] = ()
    """Trained along, for each had the lrs of one of these candidates until then."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Everyone who was trained on these seeds."""
        return (*self.candidates, *self.followers)

    def compared(self, results: "Results") -> list[str]:
        """Those who trained by lrs of their own."""
        return [name for name in self.trained if name not in results.same_as]


@dataclass(frozen=True)
class Results:
    """What the runs of a comparison came to."""

    values: Mapping[str, Mapping[int, float]]
    """Compared value by candidate and seed, with the sign by which lower is better."""
    lost: frozenset[str] = frozenset()
    """Candidates that diverged on any seed."""
    same_as: Mapping[str, str] = field(default_factory=dict[str, str])
    """Candidates that trained by the same lrs as an earlier one, and which one that is."""

    def on(self, name: str, seeds: Sequence[int]) -> Floats:
        """Values of a candidate: float64[seeds]."""
        own = self.values[name]
        return np.array([own[seed] for seed in seeds])

    def order(self, names: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Candidates from best to worst by their means; one that diverged after all others."""
        means = {name: float(self.on(name, seeds).mean()) for name in names}
        return sorted(names, key=lambda name: (name in self.lost, means[name]))

    def p(self, names: Sequence[str], seeds: Sequence[int]) -> dict[Pair, float]:
        """p of no difference between two of these candidates, corrected over all their pairs."""
        columns = {name: self.on(name, seeds) for name in names}
        return holm(
            {
                frozenset((a, b)): paired_p(columns[a] - columns[b])
                for a, b in combinations(names, 2)
            }
        )


@dataclass(frozen=True)
class Halving:
    """How many runs a comparison may take, and who is kept in it."""

    runs: int
    kept: tuple[str, ...] = ()
    """Candidates that stay to the end, unless they diverge."""
    continued: int | None = None
    """Runs in all, the first ones included, after a continuation."""
    may_part: tuple[str, ...] = ()
    """Candidates that may train by the same lrs as another one on some seeds and not on others."""

    def next_look(
        self, names: Sequence[str], seeds: Sequence[int], looks: Sequence[Look], results: Results
    ) -> Look | None:
        """What is trained next; None where the comparison has ended.

        `names` are all candidates, `seeds` what training seeds are taken from in turn, and
        `results` is what the looks so far came to.
        """
        spent = sum(len(look.seeds) * len(look.candidates) for look in looks)
        rest = seeds[sum(len(look.seeds) for look in looks) :]
        if looks and looks[-1].continues:
            return None
        members, count, alpha = self._next(names, looks, results, spent)
        along = self._followers(members, results)
        if count:
            return Look(tuple(members), tuple(rest[:count]), alpha, followers=along)
        if self.continued is None or not looks:
            return None
        members = looks[-1].compared(results)
        count = max(0, self.continued - spent) // len(members)
        along = self._followers(members, results)
        return Look(tuple(members), tuple(rest[:count]), CONTINUED, True, along) if count else None

    def _next(
        self, names: Sequence[str], looks: Sequence[Look], results: Results, spent: int
    ) -> tuple[Sequence[str], int, float]:
        """Candidates of the next look, on how many seeds, and its share of the error rate."""
        if self.runs < FEWEST_PER_CANDIDATE * len(names):
            return names, 0 if looks else self.runs // len(names), ERROR_RATE - CONTINUED
        place = len(looks)
        if place == len(SHARES) or (looks and self.decided(looks, results)):
            return (), 0, 0.0
        members = self.staying(looks, results) if looks else list(names)
        if place == len(SHARES) - 1:
            return members, (self.runs - spent) // len(members), ALPHAS[place]
        return members, max(1, round(SHARES[place] * self.runs / len(members))), ALPHAS[place]

    def staying(self, looks: Sequence[Look], results: Results) -> list[str]:
        """Who goes on after these looks, in the order of the candidates."""
        own = looks[-1].compared(results)
        kept = [name for name in own if name in self.kept and name not in results.lost]
        others = results.order([name for name in own if name not in kept], seeds_of(looks))
        most = min(MOST_AT_LOOK_2, -(-len(others) // 2)) if len(looks) == 1 else 1
        return [name for name in own if name in kept or name in others[:most]]

    def _followers(self, members: Sequence[str], results: Results) -> tuple[str, ...]:
        """Who goes along with these members, since it trained as one of them so far."""
        same = results.same_as
        return tuple(name for name in same if same[name] in members and name in self.may_part)

    def decided(self, looks: Sequence[Look], results: Results) -> bool:
        """Whether the best of the last look is shown to be better than all who are kept."""
        members = looks[-1].compared(results)
        best = results.order(members, seeds_of(looks))[0]
        against = [name for name in self.kept if name in members and name not in results.lost]
        return (
            best not in self.kept
            and bool(against)
            and all(frozenset((best, name)) in shown(looks, results) for name in against)
        )


def seeds_of(looks: Sequence[Look]) -> list[int]:
    """Seeds of all looks, in turn: those on which the candidates of the last one were trained."""
    return [seed for look in looks for seed in look.seeds]


def seeds_compared(looks: Sequence[Look], results: Results) -> list[int]:
    """Seeds on which those who are left are compared: all that came after the first choice."""
    members = [set(look.compared(results)) for look in looks]
    chosen = [look for look, own in zip(looks, members, strict=True) if own != members[0]]
    return seeds_of(chosen or looks)


def shown(looks: Sequence[Look], results: Results) -> dict[Pair, float]:
    """Pairs of candidates that a look has shown to differ, and the corrected p by which it did."""
    found: dict[Pair, float] = {}
    for place, look in enumerate(looks, 1):
        members = look.compared(results)
        p = results.p(members, seeds_compared(looks[:place], results))
        found |= {pair: value for pair, value in p.items() if value < look.alpha}
    return found


def same_lrs(lrs: Mapping[str, Mapping[int, int]]) -> dict[str, str]:
    """Candidates that trained by the same lrs as an earlier one on every common seed.

    `lrs` holds the number of the lrs by candidate and seed; 0 is not known.
    """
    found: dict[str, str] = {}
    for name, own in lrs.items():
        for first in lrs:
            if first == name:
                break
            common = own.keys() & lrs[first].keys()
            if first not in found and common and all(own[s] == lrs[first][s] != 0 for s in common):
                found[name] = first
                break
    return found
