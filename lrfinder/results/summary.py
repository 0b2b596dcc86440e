"""summary.json: what a run answers, built from finished values."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from lrfinder.comparison.candidates import Candidate
from lrfinder.comparison.ranking import Comparison
from lrfinder.experiment import RangeTestProblem, RunProblem
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.schedules.codegen import variable_name
from lrfinder.tasks.measures import measure_column
from lrfinder.training.speed import Work
from lrfinder.tuning.trials import FamilyResult

_PACKAGES = ("lrfinder", "torch", "optuna", "numpy", "pandas")


def range_test_summary(
    problem: RangeTestProblem, curve: Curve, suggestion: Suggestion
) -> dict[str, Any]:
    """What a range test alone says."""
    return {
        **_common(problem),
        "status": RANGE_TEST,
        "range_test": curve_facts(curve),
        "suggestion": suggestion_facts(suggestion),
    }


def first_summary(problem: RunProblem) -> dict[str, Any]:
    """What is known before anything is trained."""
    return {
        **_common(problem),
        "status": "running",
        "epochs": problem.task.epochs,
        "engine": None,
        "objective": {
            "name": problem.settings.objective,
            "measure": problem.measure,
            "direction": problem.direction,
        },
        "seeds": {
            "find": problem.find_seeds if problem.settings.finds_lr else [],
            "search": problem.search_seeds,
            "confirm": problem.confirm_seeds,
        },
        "range_test": None,
        "suggestion": None,
        "lr_search": None,
        "families": {},
        "best": None,
        "ties": [],
        "notes": [],
        "cost": {"updates_asked": 0, "updates_trained": 0, "wall_seconds": 0.0},
    }


def answers(
    problem: RunProblem,
    results: Sequence[FamilyResult],
    candidates: Sequence[Candidate],
    comparison: Comparison,
) -> dict[str, Any]:
    """What the studies and the comparison say: families, best and ties."""
    trials = {result.space.family.name: result for result in results}
    named = {candidate.name: candidate for candidate in candidates}
    families = {
        standing.candidate: _family(
            named[standing.candidate], trials.get(standing.candidate), problem, comparison
        )
        for standing in comparison.ranking
    }
    best = named[comparison.best.candidate]
    measure = variable_name(problem.settings.objective)
    return {
        "families": families,
        "best": {
            "family": best.name,
            "schedule": str(best.schedule),
            "lr": best.lr,
            "params": dict(best.schedule.params),
            "code": best.schedule.code(measure),
            "step_code": best.schedule.steps_by(measure),
            "stepped_per": best.schedule.stepped_per,
        },
        "ties": list(comparison.ties),
    }


def cost_facts(
    problem: RunProblem,
    range_test: Mapping[str, Any] | None,
    results: Sequence[FamilyResult],
    comparison: Comparison,
) -> dict[str, int]:
    """Updates that the run's results asked for, and those that were trained for them."""
    found = problem.find_work() if range_test is not None else Work(0, 0, 0)
    trials = [trial for result in results for trial in result.trials]
    searched = len(trials) * len(problem.search_seeds) * problem.updates
    compared = len(comparison.runs) * problem.updates
    trained = (
        (0 if range_test is None else int(range_test["updates"]))
        + sum(trial.updates for trial in trials)
        + sum(run.updates for run in comparison.runs)
    )
    return {
        "updates_asked": found.runs * found.updates + searched + compared,
        "updates_trained": trained,
    }


def _common(problem: RangeTestProblem) -> dict[str, Any]:
    """What a range test and a run are done with."""
    device = problem.device or problem.task.prototype.device
    return {
        "schema": SCHEMA,
        "task": problem.task.name,
        "optimizer": problem.task.prototype.optimizer,
        "device": device.type,
        "versions": {
            **{name: version(name) for name in _PACKAGES},
            "python": platform.python_version(),
        },
    }


def _family(
    candidate: Candidate,
    result: FamilyResult | None,
    problem: RunProblem,
    comparison: Comparison,
) -> dict[str, Any]:
    """One candidate: its schedule, its means on fresh seeds, and its study's counts."""
    means = {
        measure_column(name): comparison.mean(candidate.name, name)._asdict()
        for name in problem.task.measures
    }
    facts: dict[str, Any] = {
        "lr": candidate.lr,
        "schedule": str(candidate.schedule),
        "params": dict(candidate.schedule.params),
        "searched": dict(candidate.schedule.params),
        "code": candidate.schedule.code(variable_name(problem.settings.objective)),
        "valid_loss": means.pop("valid_loss"),
        "metrics": means,
        "seeds": len(comparison.seeds),
        "seeds_diverged": sum(
            run.diverged for run in comparison.runs if run.candidate == candidate.name
        ),
        "trials": 0,
        "diverged": 0,
    }
    if result is not None and result.best is not None:
        space = result.space
        facts |= {
            "searched": dict(result.best.params),
            "trials": len(result.trials),
            "diverged": sum(trial.diverged for trial in result.trials),
            "failed": result.failed,
            "exhausted": result.exhausted,
            "study": result.study_name,
            "best_trial": result.best.number,
            "search_value": result.best.value,
            "at_lr_bound": _at_bound(candidate.lr, space.lr_low, space.lr_high),
        }
    return facts


def _at_bound(lr: float, low: float, high: float) -> str | None:
    """Say "low" or "high" where the best lr lies at a bound of its range, so that it may be cut."""
    if low == high:
        return None
    if lr > high / 1.05:
        return "high"
    return "low" if lr < low * 1.05 else None


SCHEMA = 3
"""Version of summary.json; raised when a key changes its meaning."""
RANGE_TEST = "range test"
"""Status of a folder that holds a range test alone."""
CURVE_FACTS = (
    *("seeds", "every", "growth", "optimizer", "batch_size", "updates", "wall_seconds"),
    *("probes", "updates_per_step", "budget", "asked"),
)


def curve_facts(curve: Curve) -> dict[str, Any]:
    """What range_test.csv does not hold, for summary.json."""
    facts = {name: getattr(curve, name) for name in CURVE_FACTS}
    probes = [asdict(probe) for probe in curve.probes]
    return facts | {"wall_seconds": round(curve.wall_seconds, 3), "probes": probes}


def suggestion_facts(suggestion: Suggestion) -> dict[str, Any]:
    """Return a suggestion as it stands in JSON."""
    return asdict(suggestion)


def jsonable(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return the value as strict JSON can hold it: nan and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
