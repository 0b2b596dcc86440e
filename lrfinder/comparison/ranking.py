"""The best of each family, trained again on fresh seeds: which differences are real?

The value that a study ends with is the luckiest of many, so it is never shown as what to expect.
Here candidates train on the same seeds, none of which the search has seen, and are compared by
paired differences: what the seeds share cancels.

Intervals are Student's t over seeds (95%), each for itself. A candidate *ties* with the best where
the paired t test does not tell them apart, with Holm's correction over all pairs of candidates: the
best is picked on the same seeds, so every pair could have been the one to test. A difference whose
own interval excludes 0 may therefore still be a tie. The candidate that comes out best is again a
little lucky: its own mean is slightly optimistic.

Where the comparison was made by halving (`policy`), all this holds of its finalists. A candidate
that was dropped before has a rank, by the seeds that it had, and neither ties nor has a p.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.comparison.candidates import ConfirmedRun
from lrfinder.comparison.policy import (
    ERROR_RATE,
    Look,
    Results,
    same_lrs,
    seeds_compared,
    seeds_of,
    shown,
)
from lrfinder.statistics import Mean, student_t
from lrfinder.types import Direction

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
"""Confidence level of the intervals."""


@dataclass(frozen=True)
class Standing:
    """Where one candidate stands."""

    candidate: str
    value: Mean
    difference: Mean
    """Paired difference to the best candidate: positive is worse when minimising."""
    p: float
    """Of no difference to the best, corrected; nan for the best itself, with a single seed, and
    where it was dropped."""
    ties: bool
    """Whether it cannot be told from the best."""
    diverged: int
    """Runs that diverged."""
    seeds: int = 0
    """Seeds that it was trained on."""
    dropped_at: int | None = None
    """The look, counted from 1, after which it was dropped; None for a finalist."""
    same_as: str | None = None
    """The candidate that trained by the very same lrs, and stands for it."""


@dataclass(frozen=True)
class Comparison:
    """Candidates on common fresh seeds."""

    runs: tuple[ConfirmedRun, ...]
    measure: str = "loss"
    direction: Direction = "minimize"
    looks: tuple[Look, ...] = ()
    """Which candidates were trained on which seeds, in a comparison by halving."""

    def __repr__(self) -> str:
        candidates, seeds = self.values.shape[1], len(self.seeds)
        best = f", best {self.best.candidate!r}" if seeds else ""
        return f"Comparison({candidates} candidates on {seeds} seeds{best}, {self.measure!r})"

    def _repr_html_(self) -> str:
        import lrfinder

        return lrfinder.html(self)

    @cached_property
    def values(self) -> "pd.DataFrame":
        """Compared value by seed (rows) and candidate (columns).

        Without looks only seeds on which every candidate was trained; with looks nan where a
        candidate was dropped before.
        """
        import pandas as pd

        columns: dict[str, pd.Series] = {}
        for name in dict.fromkeys(run.candidate for run in self.runs):
            own = [run for run in self.runs if run.candidate == name]
            columns[name] = pd.Series([r.value for r in own], index=[r.seed for r in own])
        table = pd.DataFrame(columns)
        if not self.looks:
            return table.dropna().sort_index()
        return table.loc[seeds_of(self.looks), list(self.looks[0].candidates)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds on which every candidate was trained that was not dropped."""
        return tuple(int(seed) for seed in self.values.index)

    @property
    def counted(self) -> int:
        """Runs, without those of followers, which went along at no cost."""
        runs = sum(len(look.candidates) * len(look.seeds) for look in self.looks)
        return runs or len(self.runs)

    @cached_property
    def finalists(self) -> tuple[str, ...]:
        """Candidates that were not dropped, from best to worst."""
        kept = (s for s in self.ranking if s.dropped_at is None and s.same_as is None)
        return tuple(standing.candidate for standing in kept)

    @cached_property
    def results(self) -> Results:
        """What the policy decides by."""
        sign = 1 if self.direction == "minimize" else -1
        names = self.looks[0].candidates if self.looks else [run.candidate for run in self.runs]
        values: dict[str, dict[int, float]] = {name: {} for name in names}
        lrs: dict[str, dict[int, int]] = {name: {} for name in names}
        for run in self.runs:
            values[run.candidate][run.seed] = sign * run.value
            lrs[run.candidate][run.seed] = run.lrs
        lost = frozenset(run.candidate for run in self.runs if run.diverged)
        return Results(values, lost, same_lrs(lrs) if self.looks else {})

    @cached_property
    def ranking(self) -> tuple[Standing, ...]:
        """Candidates from best to worst; one that diverged on any seed comes after all others.

        Finalists come before those that were dropped, which come the later the earlier they were.
        """
        looks, results = self._looks, self.results
        names = looks[0].compared(results)
        at = {name: sum(name in look.trained for look in looks) for name in names}

        def place(name: str) -> tuple[bool, int, float]:
            return name in results.lost, -at[name], results.on(name, self._own(name)).mean()

        order = sorted(names, key=place)
        pairs = self.p_of_pairs
        decided = shown(looks, results)
        found: list[Standing] = []
        for name in order:
            both = frozenset((order[0], name))
            p = decided.get(both, pairs.get(both, float("nan")))
            standing = Standing(
                candidate=name,
                value=student_t(self._column(name, self._own(name)), LEVEL),
                difference=student_t(self.differences(name, order[0]), LEVEL),
                p=p,
                ties=both in pairs and name not in results.lost and both not in decided,
                diverged=self._diverged(name),
                seeds=sum(len(look.seeds) for look in looks if name in look.trained),
                dropped_at=at[name] if at[name] < len(looks) else None,
            )
            found.append(standing)
            twins = (twin for twin, first in results.same_as.items() if first == name)
            found += [replace(standing, candidate=twin, same_as=name) for twin in twins]
        return tuple(found)

    @cached_property
    def p_of_pairs(self) -> dict[frozenset[str], float]:
        """p of every pair of finalists, corrected over all of them."""
        looks, results = self._looks, self.results
        members = looks[-1].compared(results)
        return results.p(members, seeds_compared(looks, results))

    def differences(self, candidate: str, other: str) -> Floats:
        """What a candidate has more than another one, on the seeds that both are compared on."""
        common = set(self._own(other))
        seeds = [seed for seed in self._own(candidate) if seed in common]
        if not seeds:  # one of them was dropped before the seeds that the other is compared on
            mine, theirs = (self.results.values[name] for name in (candidate, other))
            seeds = [seed for seed in mine if seed in theirs]
        return self._column(candidate, seeds) - self._column(other, seeds)

    @property
    def _looks(self) -> tuple[Look, ...]:
        """The looks, or the one look that a comparison without any is."""
        if self.looks:
            return self.looks
        names = tuple(str(name) for name in self.values.columns)
        return (Look(names, self.seeds, ERROR_RATE),)

    def _own(self, name: str) -> list[int]:
        """Seeds that a candidate's mean is taken over."""
        looks = self._looks
        if name in looks[-1].trained:
            return seeds_compared(looks, self.results)
        return [seed for look in looks if name in look.trained for seed in look.seeds]

    def _column(self, name: str, seeds: Sequence[int]) -> Floats:
        sign = 1 if self.direction == "minimize" else -1
        return sign * self.results.on(name, seeds)

    @property
    def best(self) -> Standing:
        """The candidate with the best mean."""
        return self.ranking[0]

    @property
    def ties(self) -> tuple[str, ...]:
        """Candidates that cannot be told from the best, in order."""
        return tuple(standing.candidate for standing in self.ranking if standing.ties)

    def mean(self, candidate: str, measure: str) -> Mean:
        """Mean over seeds of any final measure of a candidate."""
        name = self.results.same_as.get(candidate, candidate)
        own = {run.seed: run.measures[measure] for run in self.runs if run.candidate == name}
        values = [own[seed] for seed in self._own(name)]
        return student_t(np.array([value for value in values if np.isfinite(value)]), LEVEL)

    def best_epoch(self, candidate: str) -> Mean:
        """Mean over seeds of what is compared, at each run's best evaluation; nan if unknown."""
        name = self.results.same_as.get(candidate, candidate)
        own = {run.seed: run.best for run in self.runs if run.candidate == name}
        values = np.array([own[seed] for seed in self._own(name)])
        return student_t(values[np.isfinite(values)], LEVEL)

    def frame(self) -> "pd.DataFrame":
        """One row per candidate, from best to worst; intervals are each for itself, p corrected."""
        import pandas as pd

        rows = [
            {
                "candidate": s.candidate,
                "mean": s.value.mean,
                "low": s.value.low,
                "high": s.value.high,
                "difference": s.difference.mean,
                "difference_low": s.difference.low,
                "difference_high": s.difference.high,
                "p": s.p,
                "ties": s.ties,
                "diverged": s.diverged,
                "seeds": s.seeds,
                "dropped_at": s.dropped_at,
                "same_as": s.same_as,
            }
            for s in self.ranking
        ]
        return pd.DataFrame(rows)

    def _diverged(self, candidate: str) -> int:
        return sum(run.diverged for run in self.runs if run.candidate == candidate)
