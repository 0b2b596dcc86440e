"""The best of each family, trained again on fresh common seeds: which differences are real?

The value that a study ends with is the luckiest of many, so it is never shown as what to expect.
Here every candidate trains on the same seeds, none of which the search has seen, and candidates are
compared by paired differences: what the seeds share cancels.

Intervals are Student's t over seeds (95%), each for itself. A candidate *ties* with the best where
the paired t test does not tell them apart at 5%, with Holm's correction over all pairs of
candidates: the best is picked on the same seeds, so every pair could have been the one to test. A
difference whose own interval excludes 0 may therefore still be a tie. The candidate that comes out
best is again a little lucky: its own mean is slightly optimistic.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from lrfinder.comparison.candidates import ConfirmedRun
from lrfinder.statistics import Mean, holm, paired_p, student_t
from lrfinder.types import Direction

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
"""Confidence level of the intervals, and of the decision that two candidates differ."""


@dataclass(frozen=True)
class Standing:
    """Where one candidate stands."""

    candidate: str
    value: Mean
    difference: Mean
    """Paired difference to the best candidate: positive is worse when minimising."""
    p: float
    """Of no difference to the best, corrected; nan for the best itself and with a single seed."""
    ties: bool
    """Whether it cannot be told from the best."""
    diverged: int
    """Runs that diverged."""


@dataclass(frozen=True)
class Comparison:
    """Candidates on common fresh seeds."""

    runs: tuple[ConfirmedRun, ...]
    measure: str = "loss"
    direction: Direction = "minimize"

    def __repr__(self) -> str:
        candidates, seeds = self.values.shape[1], len(self.seeds)
        best = f", best {self.best.candidate!r}" if seeds else ""
        return f"Comparison({candidates} candidates on {seeds} seeds{best}, {self.measure!r})"

    def _repr_html_(self) -> str:
        import lrfinder

        return lrfinder.html(self)

    @cached_property
    def values(self) -> "pd.DataFrame":
        """Compared value by seed (rows) and candidate (columns)."""
        import pandas as pd

        columns: dict[str, pd.Series] = {}
        for name in dict.fromkeys(run.candidate for run in self.runs):
            own = [run for run in self.runs if run.candidate == name]
            columns[name] = pd.Series([r.value for r in own], index=[r.seed for r in own])
        return pd.DataFrame(columns).dropna().sort_index()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds on which every candidate was trained."""
        return tuple(int(seed) for seed in self.values.index)

    @cached_property
    def ranking(self) -> tuple[Standing, ...]:
        """Candidates from best to worst; one that diverged on any seed comes after all others."""
        lost = {str(name): self._diverged(str(name)) for name in self.values.columns}
        sign = 1 if self.direction == "minimize" else -1
        columns = {str(name): self.values[name].to_numpy() for name in self.values.columns}
        means = {name: float(values.mean()) for name, values in columns.items()}
        order = sorted(means, key=lambda name: (lost[name] > 0, sign * means[name]))
        best = columns[order[0]]
        pairs = holm(
            {pair: paired_p(columns[pair[0]] - columns[pair[1]]) for pair in combinations(order, 2)}
        )
        p = {name: pairs[order[0], name] for name in order[1:]}
        return tuple(
            Standing(
                candidate=name,
                value=student_t(columns[name], LEVEL),
                difference=student_t(columns[name] - best, LEVEL),
                p=p.get(name, float("nan")),
                ties=name in p and lost[name] == 0 and not p[name] < 1 - LEVEL,
                diverged=lost[name],
            )
            for name in order
        )

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
        values = [r.measures[measure] for r in self.runs if r.candidate == candidate]
        return student_t(np.array([value for value in values if np.isfinite(value)]), LEVEL)

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
            }
            for s in self.ranking
        ]
        return pd.DataFrame(rows)

    def _diverged(self, candidate: str) -> int:
        return sum(run.diverged for run in self.runs if run.candidate == candidate)
