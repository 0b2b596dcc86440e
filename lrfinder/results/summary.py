"""summary.json: what a run answers, as one typed schema that is written and read here.

Within a schema number keys keep their names and meanings. A number that is not finite is null in
the file and nan here. The summary is written after each act and after every finished run, so that
an interrupted run can be resumed from it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, Self, cast

from pydantic import ConfigDict, Field, model_validator

from lrfinder.errors import RunFolderError
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.comparison_facts import ConfirmFacts, MeanFacts, VerdictFacts
from lrfinder.results.facts import Count, Facts, Number, Rate, jsonable
from lrfinder.results.range_test_facts import RangeTestFacts
from lrfinder.schedules import Value
from lrfinder.tasks.data.sketch import Sketch
from lrfinder.training.engine import EngineRecord
from lrfinder.types import CodeKind, Direction, Per

SCHEMA = 3
"""Version of summary.json; raised when a key changes its meaning."""

Status = Literal["range test", "running", "interrupted", "failed", "reporting", "complete"]


class Objective(Facts):
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


class Seeds(Facts):
    """Training seeds of each act."""

    find: list[int]
    search: list[int]
    confirm: list[int]


class LRSearch(Facts):
    """Where the lr was searched, and why there."""

    why: str
    ranges: dict[str, tuple[Rate, Rate]]


class FamilyFacts(Facts):
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


class BestFacts(Facts):
    """A recipe, and the code that makes it."""

    family: str
    schedule: str
    lr: float
    params: dict[str, Value]
    code: str
    step_code: str
    """The statement that steps its scheduler."""
    stepped_per: Per
    codes: dict[str, str] = Field(default_factory=dict[str, str])
    """Code to paste, by kind: torch, function, lightning, ...; older folders have none."""
    problems: tuple[str, ...] = ()
    """What is probably wrong with its schedule; older folders do not say."""


class Cost(Facts):
    """What the results took."""

    updates_asked: int
    updates_trained: int
    wall_seconds: float


class RangeTestSummary(Facts):
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
