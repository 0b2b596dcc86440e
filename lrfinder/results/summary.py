"""summary.json: what a run answers, as one typed schema that is written and read here.

Within a schema number keys keep their names and meanings. A number that is not finite is null in
the file and nan here. The summary is written after each act and after every finished run, so that
an interrupted run can be resumed from it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lrfinder.comparison.policy import Halving, Look
from lrfinder.comparison.verdict import Verdict
from lrfinder.errors import RunFolderError
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.probes import Probe
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.schedules import Value
from lrfinder.statistics import Mean
from lrfinder.tasks.sketch import Sketch
from lrfinder.training.engine import EngineRecord
from lrfinder.types import CodeKind, Direction, Every, Growth, Per

SCHEMA = 3
"""Version of summary.json; raised when a key changes its meaning."""

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
    """Mean and deviation of the loss with exchanged targets; nan where they are not known."""
    halfway: Number = math.nan
    scatter: Number = math.nan
    lowest: Number = math.nan
    lowest_at: Count | None = None
    """What its loss was on the way; not recorded by the first releases."""

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
    cut: bool = False
    """Whether a timeout ended the sweep."""
    notes: tuple[str, ...] = ()
    """What happened on the way."""
    unchecked: str | None = None
    """Why no run was checked against noise; older folders do not say."""
    of_training: bool = False
    """Whether the loss is that of training batches."""
    against: bool = False
    """Whether optimizers of a loop work against each other in it."""
    updates_per_epoch: Count | None = None
    """Of the task; older folders do not say."""

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
    """As people call it: valid_loss, or a metric; best_... where the best epoch counts."""
    measure: str
    direction: Direction
    column: str = ""
    """What is evaluated every epoch, in the columns of the curves: valid_loss, or a metric."""

    @model_validator(mode="before")
    @classmethod
    def _has_column(cls, facts: Any) -> Any:  # noqa: ANN401
        """A run that does not say it counts the last epoch: its objective is the column."""
        return {"column": facts.get("name"), **facts} if isinstance(facts, dict) else facts

    @property
    def of_best_epoch(self) -> bool:
        """Whether a run counts by its best epoch, not its last."""
        return self.column != self.name


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


class LookFacts(_Facts):
    """Candidates that were trained on the same further seeds."""

    candidates: list[str]
    seeds: list[int]
    alpha: float
    continues: bool = False
    followers: list[str] = []

    def look(self) -> Look:
        """Return it as the comparison had it."""
        return Look(
            tuple(self.candidates),
            tuple(self.seeds),
            self.alpha,
            self.continues,
            tuple(self.followers),
        )


class ConfirmFacts(_Facts):
    """How the comparison was made."""

    runs: Count
    """Runs that were asked for, in all."""
    continued: Count | None = None
    """Runs in all after a continuation, if one was asked for."""
    looks: list[LookFacts] = []

    @classmethod
    def of(cls, halving: Halving, looks: Sequence[Look] = ()) -> Self:
        """Facts of a comparison that has come so far."""
        facts = [LookFacts(**asdict(look)) for look in looks]
        return cls(runs=halving.runs, continued=halving.continued, looks=facts)


class AgainstFacts(_Facts):
    """The best against the constant lr or the baseline; see `Against`."""

    better_by: MeanFacts
    share: Number
    p: Number
    shown: bool
    could_show: Number
    could_show_share: Number
    runs_to_show: Count | None


class VerdictFacts(_Facts):
    """What the comparison says; see `Verdict`."""

    recommended: str
    best: str
    as_good: list[str]
    against: dict[str, AgainstFacts]
    dropped: dict[str, list[str]]
    """Who was dropped, by the number of seeds after which."""
    start_within: Number | None

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Facts of a verdict."""
        return cls(
            recommended=verdict.recommended,
            best=verdict.best,
            as_good=list(verdict.as_good),
            against={
                one.candidate: AgainstFacts(
                    better_by=MeanFacts.of(one.better_by),
                    **{k: getattr(one, k) for k in AgainstFacts.model_fields if k != "better_by"},
                )
                for one in verdict.against
            },
            dropped={str(seeds): list(names) for seeds, names in verdict.dropped},
            start_within=verdict.start_within,
        )


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
    best_epoch: Number = math.nan
    """Objective at the epoch where it was best, the mean over the fresh seeds."""
    dropped_at: Count | None = None
    """The look of the comparison after which it was dropped."""
    same_as: str | None = None
    """The candidate that trained by the very same lrs, and stands for it."""

    def mean(self, column: str) -> float:
        """Mean of a measure, by the name that people use."""
        return (self.valid_loss if column == "valid_loss" else self.metrics[column]).mean


class BestFacts(_Facts):
    """A recipe, and the code that makes it."""

    family: str
    schedule: str
    lr: float
    params: dict[str, Value]
    code: str
    step_code: str
    """The statement that steps its scheduler."""
    stepped_per: Per
    codes: dict[str, str] = {}
    """Code to paste, by kind: torch, function, lightning, ...; older folders have none."""
    problems: tuple[str, ...] = ()
    """What is probably wrong with its schedule; older folders do not say."""


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
    """The candidate with the best mean."""
    ties: list[str]
    notes: list[str]
    cost: Cost
    fingerprint: dict[str, Sketch] | None = None
    """What the data and the initial weights are; None in records that do not have it."""
    confirm: ConfirmFacts | None = None
    verdict: VerdictFacts | None = None
    recommended: BestFacts | None = None
    """What to use: the simplest of those that are as good as the best."""
    code_for: CodeKind = "torch"
    """What the code of the answer is written for; older folders do not say."""

    @model_validator(mode="after")
    def _check_families(self) -> Self:
        searched = {name for name, facts in self.families.items() if facts.trials}
        if not searched <= set({} if self.lr_search is None else self.lr_search.ranges):
            raise ValueError("lr_search: every family with trials must have its range")
        if self.best is not None and self.best.family not in self.families:
            raise ValueError("best: its family must be among the families")
        if self.recommended is not None and self.recommended.family not in self.families:
            raise ValueError("recommended: its family must be among the families")
        for name, facts in self.families.items():
            if self.objective.column not in ("valid_loss", *facts.metrics):
                raise ValueError(f"families: {name} must have the objective among its metrics")
        return self

    @property
    def winner(self) -> BestFacts:
        """What to use; RunFolderError where nothing was compared yet."""
        found = self.recommended or self.best
        if found is None:
            raise RunFolderError(f"the run of {self.task} has compared nothing yet")
        return found


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
