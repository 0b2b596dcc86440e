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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Schedule
from lrfinder.task import Task
from lrfinder.training.history import Direction, History, Plan
from lrfinder.training.trainer import Trainer
from lrfinder.training.workers import Workers, fit_in

Floats = NDArray[np.float64]
_Pair = tuple[str, str]

BASELINE = "baseline"
"""Name of the candidate that a task uses today."""
LEVEL = 0.95
"""Confidence level of the intervals, and of the decision that two candidates differ."""


@dataclass(frozen=True)
class Candidate:
    """One way to train: a name, a peak lr and a schedule."""

    name: str
    lr: float
    schedule: Schedule

    def made(self, run: "ConfirmedRun") -> bool:
        """Whether the run was one of this very candidate."""
        same_lr = math.isclose(self.lr, run.lr, rel_tol=1e-9)
        return same_lr and (self.name, str(self.schedule)) == (run.candidate, run.schedule)


@dataclass(frozen=True)
class ConfirmedRun:
    """One candidate trained under one seed."""

    candidate: str
    lr: float
    schedule: str
    """As the schedule prints itself."""
    seed: int
    value: float
    """What is compared: the final measure; where the run diverged, the one before training."""
    diverged: bool
    updates: int
    """Updates that were trained."""
    measures: Mapping[str, float]
    """Every final measure by name; nan where the run diverged."""


class Mean(NamedTuple):
    """A mean over seeds with the bounds of its interval; nan bounds with a single seed."""

    mean: float
    low: float
    high: float


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
        from lrfinder import display

        return display.comparison(self)

    @cached_property
    def values(self) -> pd.DataFrame:
        """Compared value by seed (rows) and candidate (columns)."""
        columns: dict[str, pd.Series] = {}
        for name in dict.fromkeys(run.candidate for run in self.runs):
            own = [run for run in self.runs if run.candidate == name]
            columns[name] = pd.Series([r.value for r in own], index=[r.seed for r in own])
        return pd.DataFrame(columns).dropna()

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
        pairs = _holm(
            {
                pair: _paired_p(columns[pair[0]] - columns[pair[1]])
                for pair in combinations(order, 2)
            }
        )
        p = {name: pairs[order[0], name] for name in order[1:]}
        return tuple(
            Standing(
                candidate=name,
                value=interval(columns[name]),
                difference=interval(columns[name] - best),
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
        return interval(np.array([value for value in values if np.isfinite(value)]))

    def frame(self) -> pd.DataFrame:
        """One row per candidate, from best to worst; intervals are each for itself, p corrected."""
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


def compare(
    task: Task,
    candidates: Sequence[Candidate],
    *,
    seeds: Sequence[int],
    measure: str = "loss",
    direction: Direction = "minimize",
    known: Sequence[ConfirmedRun] = (),
    trainer: Trainer | None = None,
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
    run_done: Callable[[ConfirmedRun, History], None] | None = None,
) -> Comparison:
    """Train every candidate on every seed and compare them.

    Args:
        task: the problem; it needs a validation set.
        candidates: what is compared; names must differ.
        seeds: training seeds that no search has seen.
        measure, direction: what is compared, and which way is better.
        known: runs that were made before; those of the same candidates are not repeated.
        trainer: what trains; by default the sequential trainer.
        workers: processes that train instead.
        progress: called with the number of updates made since the last call.
        run_done: called with each run and its History as it finishes.
    """
    names = [candidate.name for candidate in candidates]
    if len(set(names)) < len(names) or not names:
        raise InvalidArgument(f"candidates need different names, but got {names}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise InvalidArgument(f"a comparison needs seeds that differ, but got {list(seeds)}")
    valid = [run for run in known if any(c.made(run) for c in candidates)]
    made = {(run.candidate, run.seed): run for run in valid}
    todo = [(c, seed) for seed in seeds for c in candidates if (c.name, seed) not in made]

    def finished(rows: Sequence[int], history: History) -> None:
        outcomes = history.outcomes(measure, direction)
        for place, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
            candidate, seed = todo[row]
            alone = history.only(place)
            run = ConfirmedRun(
                candidate=candidate.name,
                lr=candidate.lr,
                schedule=str(candidate.schedule),
                seed=seed,
                value=outcome.start if outcome.diverged else outcome.final,
                diverged=outcome.diverged,
                updates=alone.updates_trained,
                measures={k: float(v[0, -1]) for k, v in alone.measures.items()},
            )
            made[candidate.name, seed] = run
            if run_done is not None:
                run_done(run, alone)

    plans = [Plan(candidate.lr, candidate.schedule, seed) for candidate, seed in todo]
    fit_in(workers, task, plans, measure, trainer, progress, finished)
    runs = tuple(made[name, seed] for name in names for seed in seeds)
    return Comparison(runs, measure, direction)


def interval(values: Floats) -> Mean:
    """Mean and Student's t interval over seeds: float64[seeds].

    >>> import numpy as np
    >>> [round(x, 2) for x in interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.48, 4.48]
    """
    nan = float("nan")
    if len(values) == 0:
        return Mean(nan, nan, nan)
    mean = float(values.mean())
    if len(values) == 1:
        return Mean(mean, nan, nan)
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Mean(mean, mean - half, mean + half)


def _paired_p(differences: Floats) -> float:
    """Two-sided p of Student's paired t test; nan with a single seed.

    Differences that are all alike have no spread to measure them by; their p is that of all signs
    being the same, 2**(1 - n), or 1 where there is no difference.
    """
    n = len(differences)
    if n < 2:
        return float("nan")
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():
        return 2.0 ** (1 - n) if differences.any() else 1.0
    t = differences.mean() / (differences.std(ddof=1) / n**0.5)
    return float(2 * stats.t.sf(abs(t), n - 1))


def _holm(p: Mapping[_Pair, float]) -> dict[_Pair, float]:
    """p values after Holm's step-down correction for the number of tests (Holm 1979)."""
    ordered = sorted(p.items(), key=lambda item: item[1])
    raised = [value * (len(ordered) - rank) for rank, (_, value) in enumerate(ordered)]
    steps = np.minimum(np.maximum.accumulate(raised), 1.0) if raised else []
    return {pair: float(value) for (pair, _), value in zip(ordered, steps, strict=True)}
