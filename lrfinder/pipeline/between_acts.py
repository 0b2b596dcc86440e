"""What goes from one act to the next, and the notes on what is left out or makes no difference."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lrfinder.comparison.candidates import BASELINE, Candidate
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import TaskFailed
from lrfinder.experiment import Experiment
from lrfinder.range_tests.curve import NO_EFFECT, SEEDS_ALIKE
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.summary import LRSearch
from lrfinder.tuning.space import Space
from lrfinder.tuning.trials import FamilyResult

NOT_COMPARED, NOT_COUNTED = "is not compared", "is not counted"
OF_THE_STUDIES = (NOT_COMPARED, NOT_COUNTED)
"""What notes say that come from what the studies hold; a resumed run says anew what holds."""


def as_begun(spaces: list[Space], why: str, earlier: LRSearch | None) -> tuple[list[Space], str]:
    """The spaces with the lr ranges in which an earlier part of the run has searched, if it has."""
    if earlier is None or not {space.family.name for space in spaces} <= set(earlier.ranges):
        return spaces, why
    bounds = [(space, *earlier.ranges[space.family.name]) for space in spaces]
    return [replace(space, lr_low=low, lr_high=high) for space, low, high in bounds], earlier.why


def candidates_of(
    results: Sequence[FamilyResult], experiment: Experiment, suggestion: Suggestion | None
) -> tuple[list[Candidate], list[str]]:
    """Return what is compared, and notes on what is left out."""
    found: list[Candidate] = []
    left_out: list[str] = []
    for result in results:
        name, best = result.space.family.name, result.best
        if result.by_hand:
            by_hand = f"{result.by_hand} trial{'s'[: result.by_hand != 1]}"
            left_out.append(
                f"what was put into the study of {name} by hand {NOT_COUNTED}: {by_hand}"
            )
        if best is not None:
            found.append(Candidate(name, best.lr, best.schedule))
        else:
            none = "so few trials went to the lr and to other families (--trials 2 tries all)"
            ended = f"all {len(result.trials)} trials diverged" if result.trials else none
            left_out.append(f"{name} {NOT_COMPARED}: {ended}")
    if not found:
        raise TaskFailed(
            "every trial of every family diverged; "
            "search a lower lr (`lrfinder sweep --lr-range LOW HIGH`)"
        )
    start = experiment.start(suggestion)
    if start is not None:
        found.append(start)
    if experiment.task.baseline is not None:
        recipe = experiment.task.baseline.recipe
        found.append(Candidate(BASELINE, recipe.lr, recipe.schedule))
    return found, left_out


def counted_runs(
    results: Sequence[FamilyResult], candidates: Sequence[Candidate]
) -> Callable[[str, str, int, int, float], bool]:
    """Which curves are kept: those of complete trials and of the candidates that are compared."""
    trials = {(r.space.family.name, t.number) for r in results for t in r.trials}
    lrs = {(candidate.name, candidate.lr) for candidate in candidates}

    def counts(act: str, name: str, trial: int, seed: int, peak_lr: float) -> bool:
        return (name, trial) in trials if act == "search" else (name, peak_lr) in lrs

    return counts


def notes_on_runs_alike(comparison: Comparison, candidates: Sequence[Candidate]) -> list[str]:
    """Notes where seeds, or lrs and schedules, made no difference at all."""
    finals: dict[str, dict[int, list[float]]] = {}
    for run in comparison.runs:  # an accuracy alone may be 1 in all of them
        finals.setdefault(run.candidate, {})[run.seed] = list(run.measures.values())
    notes: list[str] = []
    several = all(len(own) > 1 for own in finals.values())
    if several and all(_alike(list(own.values())) for own in finals.values()):
        notes.append(SEEDS_ALIKE)
    recipes = {one.recipe for one in candidates}
    common = set.intersection(*(set(own) for own in finals.values()))
    by_seed = [[own[seed] for own in finals.values()] for seed in common]
    if len(recipes) > 1 and all(_alike(values) for values in by_seed):
        notes.append(NO_EFFECT)
    return notes


def _alike(values: Sequence[Sequence[float]]) -> bool:
    """Whether runs ended with the same measures, but for the order in which one program adds."""
    return bool(np.allclose(values, values[0], rtol=1e-12, atol=0))
