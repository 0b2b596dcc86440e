"""summary.json: what a run answers, as one typed schema that is written and read here.

Within a schema number keys keep their names and meanings. A number that is not finite is null in
the file and nan here. The summary is written after each act and after every finished run, so that
an interrupted run can be resumed from it.
"""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lrfinder.comparison.candidates import Candidate
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import RunFolderError
from lrfinder.experiment import Experiment, RangeTestExperiment
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.probes import Probe
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.schedules import Value
from lrfinder.schedules.codegen import variable_name
from lrfinder.statistics import Mean
from lrfinder.tasks.measures import measure_column
from lrfinder.training.engine import EngineRecord
from lrfinder.tuning.trials import FamilyResult
from lrfinder.types import Direction, Every, Growth, Per

SCHEMA = 3
"""Version of summary.json; raised when a key changes its meaning."""
_PACKAGES = ("lrfinder", "torch", "optuna", "numpy", "pandas")

Status = Literal["range test", "running", "interrupted", "failed", "reporting", "complete"]
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number, or nan where it was not finite."""
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
"""A learning rate."""


class _Facts(BaseModel):
    """Keys of one object in the file; further keys are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


class ProbeFacts(_Facts):
    """A run at a constant lr."""

    seed: int
    lr: Rate
    updates: Count
    loss: Number
    """nan where it diverged."""
    permuted: Number
    permuted_deviation: Number
    """Mean and deviation of the loss with exchanged targets; nan where they cannot be exchanged."""

    def probe(self) -> Probe:
        """Return it as the range test had it."""
        return Probe(**{name: getattr(self, name) for name in type(self).model_fields})


class RangeTestFacts(_Facts):
    """What range_test.csv does not hold."""

    seeds: tuple[int, ...]
    every: Every
    growth: Growth
    optimizer: str
    batch_size: int | None
    updates: Count
    wall_seconds: float
    probes: tuple[ProbeFacts, ...]
    updates_per_step: Count
    budget: Count | None
    """Updates of a whole training."""
    asked: tuple[Rate, Rate] | None
    """The range of lrs that was asked for, where it was widened."""

    @classmethod
    def of(cls, curve: Curve) -> Self:
        """Facts of a curve."""
        known: dict[str, Any] = {name: getattr(curve, name) for name in cls.model_fields}
        known["probes"] = tuple(ProbeFacts(**asdict(probe)) for probe in curve.probes)
        known["wall_seconds"] = round(curve.wall_seconds, 3)
        return cls(**known)


class Objective(_Facts):
    """What is optimised and compared."""

    name: str
    """As people call it: valid_loss, or a metric."""
    measure: str
    direction: Direction


class Seeds(_Facts):
    """Training seeds of each act."""

    find: list[int]
    search: list[int]
    confirm: list[int]


class LRSearch(_Facts):
    """Where the lr was searched, and why there."""

    why: str
    ranges: dict[str, tuple[Rate, Rate]]


class MeanFacts(_Facts):
    """A mean over seeds with its interval; nan where there is none."""

    mean: Number
    low: Number
    high: Number

    @classmethod
    def of(cls, mean: Mean) -> Self:
        """Facts of a mean."""
        return cls(mean=mean.mean, low=mean.low, high=mean.high)


class FamilyFacts(_Facts):
    """One candidate: its recipe, its means on fresh seeds, and its study, if it had one."""

    lr: float
    schedule: str
    """As the schedule prints itself."""
    params: dict[str, Value]
    searched: dict[str, Value]
    """Its parameters as they were searched, or `params` where nothing was."""
    code: str
    valid_loss: MeanFacts
    metrics: dict[str, MeanFacts]
    seeds: int
    seeds_diverged: int
    trials: int
    diverged: int
    """Trials that diverged."""
    failed: int = 0
    exhausted: bool = False
    """Whether the trials are every point of a discrete space."""
    study: str | None = None
    best_trial: int | None = None
    search_value: Number = math.nan
    """Objective of the best trial: the luckiest of its study."""
    at_lr_bound: Literal["low", "high"] | None = None

    def mean(self, column: str) -> float:
        """Mean of a measure, by the name that people use."""
        return (self.valid_loss if column == "valid_loss" else self.metrics[column]).mean


class BestFacts(_Facts):
    """The winner."""

    family: str
    schedule: str
    lr: float
    params: dict[str, Value]
    code: str
    step_code: str
    """The statement that steps its scheduler."""
    stepped_per: Per

    @classmethod
    def of(cls, best: Candidate, measure: str) -> Self:
        """Facts of a candidate, whose code is stepped by the variable that holds the measure."""
        schedule = best.schedule
        return cls(
            family=best.name,
            schedule=str(schedule),
            lr=best.lr,
            params=dict(schedule.params),
            code=schedule.code(measure),
            step_code=schedule.steps_by(measure),
            stepped_per=schedule.stepped_per,
        )


class Cost(_Facts):
    """What the results took."""

    updates_asked: int
    updates_trained: int
    wall_seconds: float


class RangeTestSummary(_Facts):
    """What every folder has: the whole summary of a range test alone."""

    schema_: int = Field(alias="schema")
    task: str
    optimizer: str
    device: str
    versions: dict[str, str]
    status: Status
    range_test: RangeTestFacts | None
    suggestion: Suggestion | None

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="after")
    def _check_suggestion(self) -> Self:
        found = self.suggestion
        if found is not None and (found.low is None) != (found.high is None):
            raise ValueError("suggestion: low and high must both be given, or none of them")
        if found is not None and (found.lr is None) != (found.verdict == "inconclusive"):
            raise ValueError("suggestion: lr must be given unless it is inconclusive")
        return self

    def facts(self) -> dict[str, Any]:
        """Return the summary as strict JSON can hold it."""
        return jsonable(self.model_dump(by_alias=True, exclude_unset=True))

    def changed(self, **changes: Any) -> Self:  # noqa: ANN401 (values of fields)
        """Return the summary with other values of these fields."""
        return self.model_copy(update=changes)


class RunSummary(RangeTestSummary):
    """What a run answers."""

    epochs: int
    engine: EngineRecord | None
    objective: Objective
    seeds: Seeds
    lr_search: LRSearch | None
    families: dict[str, FamilyFacts]
    """Candidates from best to worst."""
    best: BestFacts | None
    ties: list[str]
    notes: list[str]
    cost: Cost

    @model_validator(mode="after")
    def _check_families(self) -> Self:
        searched = {name for name, facts in self.families.items() if facts.trials}
        if not searched <= set({} if self.lr_search is None else self.lr_search.ranges):
            raise ValueError("lr_search: every family with trials must have its range")
        if self.best is not None and self.best.family not in self.families:
            raise ValueError("best: its family must be among the families")
        for name, facts in self.families.items():
            if self.objective.name not in ("valid_loss", *facts.metrics):
                raise ValueError(f"families: {name} must have the objective among its metrics")
        return self

    @property
    def winner(self) -> BestFacts:
        """The best of a run that has one; RunFolderError where nothing was compared yet."""
        if self.best is None:
            raise RunFolderError(f"the run of {self.task} has compared nothing yet")
        return self.best


def read_summary(text: str) -> dict[str, Any]:
    """Read the text of summary.json, untyped; ValueError where it holds no object."""
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError(f"summary.json must hold an object, but got a {type(facts).__name__}")
    return cast(dict[str, Any], facts)


def typed_summary(facts: Mapping[str, Any]) -> RangeTestSummary:
    """Return what a summary holds; ValueError where a key is missing or has another type."""
    kind = RangeTestSummary if facts.get("status") == "range test" else RunSummary
    return kind.model_validate(facts)


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
        engine=None,
        objective=Objective(
            name=experiment.settings.objective,
            measure=experiment.measure,
            direction=experiment.direction,
        ),
        seeds=Seeds(
            find=experiment.find_seeds if experiment.settings.finds_lr else [],
            search=experiment.search_seeds,
            confirm=experiment.confirm_seeds,
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
    """The summary with what the studies and the comparison say: families, best, ties and cost."""
    searched = {result.space.family.name: result for result in results}
    named = {candidate.name: candidate for candidate in candidates}
    measure = variable_name(summary.objective.name)
    families: dict[str, FamilyFacts] = {}
    for name in (standing.candidate for standing in comparison.ranking):
        facts = _family(named[name], experiment.task.measures, measure, comparison)
        families[name] = _with_study(facts, searched.get(name))
    asked, trained = _updates(summary, experiment, results, comparison)
    return summary.changed(
        families=families,
        best=BestFacts.of(named[comparison.best.candidate], measure),
        ties=list(comparison.ties),
        cost=summary.cost.model_copy(update={"updates_asked": asked, "updates_trained": trained}),
    )


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
    test, found = summary.range_test, experiment.find_work()
    trials = [trial for result in results for trial in result.trials]
    runs = len(trials) * len(experiment.search_seeds) + len(comparison.runs)
    asked = runs * experiment.updates + (0 if test is None else found.runs * found.updates)
    trained = sum(t.updates for t in trials) + sum(run.updates for run in comparison.runs)
    return asked, trained + (0 if test is None else test.updates)


def _family(
    candidate: Candidate, measures: Sequence[str], objective: str, comparison: Comparison
) -> FamilyFacts:
    """What the comparison says of a candidate."""
    means = {
        measure_column(name): MeanFacts.of(comparison.mean(candidate.name, name))
        for name in measures
    }
    own = [run for run in comparison.runs if run.candidate == candidate.name]
    return FamilyFacts(
        lr=candidate.lr,
        schedule=str(candidate.schedule),
        params=dict(candidate.schedule.params),
        searched=dict(candidate.schedule.params),
        code=candidate.schedule.code(objective),
        valid_loss=means.pop("valid_loss"),
        metrics=means,
        seeds=len(comparison.seeds),
        seeds_diverged=sum(run.diverged for run in own),
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
        "search_value": result.best.value,
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
