"""What a run answers, put into its summary from finished values."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from lrfinder.comparison.candidates import Candidate
from lrfinder.comparison.ranking import Comparison, Standing
from lrfinder.comparison.verdict import verdict
from lrfinder.experiment import Experiment, RangeTestExperiment
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.comparison_facts import MeanFacts, VerdictFacts
from lrfinder.results.range_test_facts import RangeTestFacts
from lrfinder.results.summary import (
    SCHEMA,
    BestFacts,
    Cost,
    FamilyFacts,
    Objective,
    RangeTestSummary,
    RunSummary,
    Seeds,
)
from lrfinder.schedules.families.codegen import variable_name
from lrfinder.schedules.in_frameworks import Answer, codes
from lrfinder.schedules.recipe import Recipe
from lrfinder.tasks.fields.lr_groups import TRIED
from lrfinder.tasks.fields.measures import evaluated, measure_column
from lrfinder.tasks.loops.loop import Loop
from lrfinder.training.trainers.building import lrs_of_groups
from lrfinder.tuning.trials import FamilyResult

_PACKAGES = ("lrfinder", "torch", "optuna", "numpy", "pandas")


def range_test_summary(
    experiment: RangeTestExperiment, curve: Curve, suggestion: Suggestion
) -> RangeTestSummary:
    """What a range test alone answers."""
    return RangeTestSummary(
        **_common(experiment),
        status="range test",
        range_test=RangeTestFacts.of(curve),
        suggestion=suggestion,
    )


def first_summary(experiment: Experiment) -> RunSummary:
    """What is known before anything is trained."""
    return RunSummary(
        **_common(experiment),
        status="running",
        epochs=experiment.task.epochs,
        code_for=experiment.task.code_for or "torch",
        engine=None,
        objective=Objective(
            name=experiment.settings.objective,
            measure=experiment.measure,
            direction=experiment.direction,
            column=measure_column(evaluated(experiment.measure, experiment.task.measures)),
        ),
        seeds=Seeds(
            find=experiment.find_seeds if experiment.settings.finds_lr else [],
            search=experiment.search_seeds,
            confirm=[],
        ),
        range_test=None,
        suggestion=None,
        lr_search=None,
        families={},
        best=None,
        ties=[],
        notes=[],
        cost=Cost(updates_asked=0, updates_trained=0, wall_seconds=0.0),
    )


def with_answers(
    summary: RunSummary,
    experiment: Experiment,
    results: Sequence[FamilyResult],
    candidates: Sequence[Candidate],
    comparison: Comparison,
) -> RunSummary:
    """The summary with what the studies and the comparison say."""
    searched = {result.space.family.name: result for result in results}
    named = {candidate.name: candidate for candidate in candidates}
    measure = variable_name(summary.objective.column)
    families: dict[str, FamilyFacts] = {}
    for standing in comparison.ranking:
        name = standing.candidate
        facts = _family(named[name], experiment.task.measures, measure, comparison, standing)
        families[name] = _with_study(facts, searched.get(name))
    asked, trained = _updates(summary, experiment, results, comparison)

    def coded(name: str) -> BestFacts:
        best = named[name]
        more = {
            "codes": codes(_answer(best, experiment, measure)),
            "problems": _problems(best, experiment),
        }
        return best_facts(best, measure).model_copy(update=more)

    said = verdict(comparison, searched_parameters(families, experiment.candidate_names))
    return summary.changed(
        families=families,
        best=coded(said.best),
        recommended=coded(said.recommended),
        verdict=VerdictFacts.of(said),
        ties=list(comparison.ties),
        seeds=summary.seeds.model_copy(update={"confirm": list(comparison.seeds)}),
        cost=summary.cost.model_copy(update={"updates_asked": asked, "updates_trained": trained}),
    )


def searched_parameters(
    families: Mapping[str, FamilyFacts], order: Sequence[str]
) -> dict[str, int]:
    """Number of searched parameters of each candidate, in this order; none without a study."""
    known = [name for name in order if name in families]
    return {k: len(families[k].searched) if families[k].study else 0 for k in known}


def best_facts(best: Candidate, measure: str) -> BestFacts:
    """Facts of a recipe, whose code is stepped by the variable that holds the measure."""
    schedule = best.schedule
    return BestFacts(
        family=best.name,
        schedule=str(schedule),
        lr=best.lr,
        params=dict(schedule.params),
        code=schedule.code(measure),
        step_code=schedule.steps_by(measure),
        stepped_per=schedule.stepped_per,
    )


def _answer(best: Candidate, experiment: Experiment, measure: str) -> Answer:
    """The winner, and the training that it is for, to be written as code."""
    task, lr = experiment.task, best.lr
    asked_for = task.prototype.groups.lrs == np.array(TRIED)[:, None]
    optimizers = len(task.data().groups) if isinstance(task, Loop) else 1
    return Answer(
        recipe=Recipe(lr, best.schedule),
        epochs=task.epochs,
        updates_per_epoch=experiment.updates // task.epochs,
        optimizer=task.prototype.optimizer,
        measure=measure,
        direction=experiment.direction,
        group_lrs=() if asked_for.all() else tuple(lrs_of_groups(task, [lr])[0].tolist()),
        optimizers=optimizers,
    )


def _problems(best: Candidate, experiment: Experiment) -> tuple[str, ...]:
    """What is probably wrong with a winner's schedule."""
    epochs, per_epoch = experiment.task.epochs, experiment.updates_per_epoch
    return tuple(best.schedule.problems(epochs, per_epoch, best.lr))


def _common(experiment: RangeTestExperiment) -> dict[str, Any]:
    """What a range test and a run are done with."""
    device = experiment.device or experiment.task.prototype.device
    packages = {name: version(name) for name in _PACKAGES}
    return {
        "schema": SCHEMA,
        "task": experiment.task.name,
        "optimizer": experiment.task.prototype.optimizer,
        "device": device.type,
        "versions": {**packages, "python": platform.python_version()},
    }


def _updates(
    summary: RunSummary,
    experiment: Experiment,
    results: Sequence[FamilyResult],
    comparison: Comparison,
) -> tuple[int, int]:
    """Updates that the run's results asked for, and those that were trained for them."""
    test = summary.range_test
    trials = [trial for result in results for trial in result.trials]
    again = [trial.again for trial in trials if trial.again is not None]
    runs = len(trials) * len(experiment.search_seeds) + len(comparison.runs)
    runs += sum(look.runs for look in again)
    asked = runs * experiment.updates + (0 if test is None else experiment.find_updates)
    trained = sum(run.updates for run in [*trials, *again, *comparison.runs])
    return asked, trained + (0 if test is None else test.updates)


def _family(
    candidate: Candidate,
    measures: Sequence[str],
    objective: str,
    comparison: Comparison,
    standing: Standing,
) -> FamilyFacts:
    """What the comparison says of a candidate."""
    means = {
        measure_column(name): MeanFacts.of(comparison.mean(candidate.name, name))
        for name in measures
    }
    return FamilyFacts(
        lr=candidate.lr,
        schedule=str(candidate.schedule),
        params=dict(candidate.schedule.params),
        searched=dict(candidate.schedule.params),
        code=candidate.schedule.code(objective),
        valid_loss=means.pop("valid_loss"),
        metrics=means,
        seeds=standing.seeds,
        seeds_diverged=standing.diverged,
        best_epoch=comparison.best_epoch(candidate.name).mean,
        dropped_at=standing.dropped_at,
        same_as=standing.same_as,
        trials=0,
        diverged=0,
    )


def _with_study(facts: FamilyFacts, result: FamilyResult | None) -> FamilyFacts:
    """The facts of a candidate with those of its study, if it had one."""
    if result is None or result.best is None:
        return facts
    studied: dict[str, Any] = {
        "searched": dict(result.best.params),
        "trials": len(result.trials),
        "diverged": sum(trial.diverged for trial in result.trials),
        "failed": result.failed,
        "exhausted": result.exhausted,
        "study": result.study_name,
        "best_trial": result.best.number,
        "search_value": result.best.mean,
        "at_lr_bound": _at_bound(facts.lr, result.space.lr_low, result.space.lr_high),
    }
    return facts.model_copy(update=studied)


def _at_bound(lr: float, low: float, high: float) -> Literal["low", "high"] | None:
    """Return the bound of its range at which the best lr lies, so that it may be cut off."""
    if low == high:
        return None
    if lr > high / 1.05:
        return "high"
    return "low" if lr < low * 1.05 else None
