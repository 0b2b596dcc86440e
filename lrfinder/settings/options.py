"""The options of a range test, of a run and of `lrfinder find`: each with its default, once."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, SupportsFloat, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from lrfinder.range_tests.defaults import (
    EVERY,
    FEWEST_PROBES,
    GROWTH,
    MAX_LR,
    MIN_LR,
    PROBES,
    SEEDS,
    STEPS,
)
from lrfinder.types import Device, Direction, EngineName, Every, Growth, Per

FAMILIES = (
    "Decay families to compare, separated by commas: constant, step, exponential, inverse_time, "
    "cosine, polynomial, plateau, wsd (the default), multistep, exponential_steps, "
    "cosine_restarts, one_cycle, triangular, stable_power, or the task's own. "
    "constant is always included."
)
MOST_SEED = 10**15
"""A run's seed owns 3000 training seeds, and torch takes seeds below 2**63."""
_PER: Any = Field(
    None,
    description="How often schedules are stepped. Default: epoch, or batch where the task tells "
    "its length in updates.",
)
_Count = Annotated[int, Field(ge=1, strict=True)]
_STEPS = ", ".join(f"{count} per {every}" for every, count in STEPS.items())


def _share(value: object) -> object:
    """Read 5% as 0.05."""
    if not isinstance(value, str):
        return value
    written = value.strip()
    number = written.removesuffix("%")
    try:
        share = float(number) / (1 if number == written else 100)
    except ValueError as error:
        raise ValueError("must look like 5% or 0.05") from error
    if number == written and share > 1:
        raise ValueError(f"must be a share of one training: {number}%, or {share * 100:g}%")
    return share


class RangeTestSettings(BaseModel):
    """Options of a range test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(
        "digits",
        pattern=r"^[^\x00]*$",
        description="my_task.py[:factory], package.module:factory, a built-in name "
        "(see `lrfinder tasks`), or a settings file (.toml).",
    )
    min_lr: float = Field(MIN_LR, gt=0, allow_inf_nan=False, description="Lr of the first step.")
    max_lr: float = Field(MAX_LR, gt=0, allow_inf_nan=False, description="Lr of the last step.")
    steps: int | None = Field(None, ge=8, description=f"Number of lrs to test. Default: {_STEPS}.")
    every: Every = Field(EVERY, description="How often the lr grows.")
    growth: Growth = Field(GROWTH, description="Equal ratios or equal differences between lrs.")
    find_seeds: int = Field(SEEDS, ge=1, description="Number of seeds in the range test.")
    probes: int = Field(PROBES, ge=0, description="Maximum number of constant-lr runs per seed.")
    cost: Annotated[float | None, BeforeValidator(_share)] = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Most that the range test may cost, as a share of a training: 5% or 0.05. It "
        "sets the number and the length of its runs.",
    )
    seed: int = Field(0, ge=0, le=MOST_SEED, description="Seed of all randomness.")
    device: Device = Field("auto", description="Where to train.")
    engine: EngineName = Field(
        "auto",
        description="auto times both trainers and takes the faster; sequential: one run after "
        "another, repeatable bit for bit; batched: all runs in one program.",
    )
    timeout: float | None = Field(
        None,
        gt=0,
        description="Seconds after which the range test ends, and answers from what there is.",
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _unconverted(
        cls,
        value: Any,  # noqa: ANN401
        check: ValidatorFunctionWrapHandler,
        info: ValidationInfo,
    ) -> Any:  # noqa: ANN401
        """Refuse what pydantic would turn into a number: true is not 1, and "3" is not 3."""
        taken = check(value)
        if info.field_name == "cost" and isinstance(value, str):
            return taken
        pairs = zip(value, taken, strict=True) if isinstance(taken, tuple) else [(value, taken)]
        if any(_is_converted(raw, kept) for raw, kept in pairs):
            raise ValueError("must be a number")
        return taken

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if not self.min_lr < self.max_lr:
            raise ValueError(
                "min_lr < max_lr must hold, "
                f"but got (min_lr={self.min_lr:g}, max_lr={self.max_lr:g})"
            )
        if 0 < self.probes < FEWEST_PROBES:
            raise ValueError(f"probes must be 0 or at least {FEWEST_PROBES}, but got {self.probes}")
        given = {"steps": None, "every": EVERY, "probes": PROBES}
        both = [name for name, default in given.items() if getattr(self, name) != default]
        if self.cost is not None and both:
            raise ValueError(f"cost and {both[0]} exclude each other, but got both")
        return self


class GroupSettings(BaseModel):
    """What one parameter group goes by: a table [groups.NAME] of a settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schedule: StrictStr = Field(
        "constant",
        description="As of --baseline; a parameter is searched where it says search, as in "
        "exponential,gamma=search.",
    )
    lr_ratio: StrictFloat | tuple[StrictFloat, StrictFloat] | None = Field(
        None,
        description="The group's lr as a share of the run's, or the range in which it is "
        "searched. Default: as the optimizer is built.",
    )


class RunSettings(RangeTestSettings):
    """Options of a whole run: range test, studies and comparison."""

    epochs: int | None = Field(None, ge=1, description="Epochs per training. Default: the task's.")
    families: list[str] | None = Field(None, min_length=1, description=FAMILIES)
    trials: int = Field(
        10,
        ge=1,
        description="Completed trials per family on average: one family finds the lr, then those "
        "that can still win get the trials of the others.",
    )
    even: StrictBool = Field(False, description="Give every family the same number of trials.")
    trial_seeds: int = Field(
        1,
        ge=1,
        description="Number of seeds per trial. With 1, the best few trials of each family are "
        "trained on another one too, those of the constant lr on up to seven.",
    )
    confirm_runs: int | None = Field(
        None,
        ge=1,
        description="Training runs of the comparison in all; with --resume it may grow, once. "
        "Default: 8 for each candidate, fewer where it is decided early.",
    )
    confirm_seeds: int | None = Field(
        None, ge=1, description="Old name: as many --confirm-runs for each candidate."
    )
    lr: float | None = Field(None, gt=0, allow_inf_nan=False, description="Fixed initial lr.")
    lr_range: tuple[float, float] | None = Field(None, description="Range of lrs to search.")
    per: Per | None = _PER
    warmup: float | Literal["search"] = Field(
        0.0,
        description="Epochs of linear warm-up; search tries up to a fifth of a training.",
    )
    objective: str = Field(
        "valid_loss",
        description="valid_loss or a metric of the task, after the last epoch; best_valid_loss or "
        "best_METRIC: of the best epoch, for those who keep that checkpoint.",
    )
    groups: dict[str, GroupSettings] | None = Field(
        None,
        min_length=1,
        description="A schedule and an lr ratio for each parameter group, by its name: a table "
        "[groups.NAME] for each in a settings file.",
    )
    direction: Direction | None = Field(
        None, description="Which way is better. Default: minimize a loss, maximize a metric."
    )
    baseline: str | None = Field(
        None, description="What you use today, to compare: 0.1 or 0.1,step,step_size=30,gamma=0.1."
    )
    timeout: float | None = Field(
        None, gt=0, description="Seconds after which no further trial is started."
    )
    storage: str | None = Field(
        None,
        description="Optuna storage URL, or the path of a journal file (*.journal), which workers "
        "can join. Default: SQLite in the run folder.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=1000,
        description="Training processes, for models that do not gain from batching.",
    )
    ray: str | None = Field(
        None,
        pattern=r"^[^\s\x00]+$",
        description="Ray cluster to train on: auto for the one of this machine, HOST:PORT, or "
        "local for one that ends with the run.",
    )

    @field_validator("warmup", mode="before")
    @classmethod
    def _epochs_or_search(cls, warmup: Any) -> Any:  # noqa: ANN401 (whatever was given)
        """Refuse what is neither, in one line for both."""
        words = isinstance(warmup, str) and warmup != "search"
        if words or isinstance(warmup, bool):
            raise ValueError("must be a number of epochs, or search")
        if not isinstance(warmup, str) and isinstance(warmup, SupportsFloat) and not warmup >= 0:  # pyright: ignore[reportOperatorIssue]
            raise ValueError("must be at least 0")
        return warmup

    @field_validator("storage")
    @classmethod
    def _anywhere(cls, storage: str | None) -> str | None:
        """Make a relative SQLite path absolute, so that the run can be resumed from anywhere."""
        if storage is None:
            return None
        from lrfinder.tuning.storages.storage_urls import from_anywhere  # SQLAlchemy takes its time

        return from_anywhere(storage)

    @model_validator(mode="after")
    def _check_lr(self) -> Self:
        if self.confirm_runs is not None and self.confirm_seeds is not None:
            raise ValueError("confirm_runs and confirm_seeds exclude each other, but got both")
        if self.ray is not None and self.workers > 1:
            raise ValueError("workers and ray exclude each other, but got both")
        if self.lr is not None and self.lr_range is not None:
            raise ValueError("lr and lr_range exclude each other, but got both")
        if self.lr_range is not None and not 0 < self.lr_range[0] < self.lr_range[1] < math.inf:
            low, high = self.lr_range
            raise ValueError(
                f"lr_range: 0 < low < high < inf must hold, but got (low={low:g}, high={high:g})"
            )
        return self

    @property
    def finds_lr(self) -> bool:
        """Whether the run starts with a range test."""
        return self.lr is None and self.lr_range is None


class FindSettings(RangeTestSettings):
    """Options of a range test alone: what its lr is for."""

    epochs: _Count | Annotated[list[_Count], Field(min_length=1)] | None = Field(
        None,
        description="Epochs of the training that the lr is for, or several: 10,50,250. "
        "Default: the task's.",
    )
    batch_sizes: Annotated[list[_Count], Field(min_length=1)] | None = Field(
        None, description="Rows of an update, or several, each measured: 32,128,512."
    )
    schedule: str | None = Field(
        None,
        description="Schedule that the lr is for: cosine, or step,step_size=30,gamma=0.1, or "
        "baseline for the task's own. Default: a constant lr.",
    )
    per: Per | None = _PER
    warmup: float = Field(0.0, ge=0, description="Epochs of linear warm-up.")

    @model_validator(mode="after")
    def _check_series(self) -> Self:
        for name in ("epochs", "batch_sizes"):
            values = getattr(self, name)
            if isinstance(values, list) and len(set(cast(list[int], values))) < len(values):
                raise ValueError(f"{name} must be distinct, but got {values}")
        if isinstance(self.epochs, list) and self.batch_sizes is not None:
            raise ValueError("several epochs and batch_sizes exclude each other, but got both")
        return self

    def one_by_one(self) -> "Mapping[int, FindSettings]":
        """Settings of each range test by its epochs or batch size; none where there is just one."""
        if isinstance(self.epochs, list):
            return {n: self.model_copy(update={"epochs": n}) for n in self.epochs}
        sizes = self.batch_sizes or []
        each = {n: self.model_copy(update={"batch_sizes": [n]}) for n in sizes}
        return each if len(each) > 1 else {}


def _is_converted(raw: object, kept: object) -> bool:
    """Whether a flag or a word was taken for a number."""
    return isinstance(raw, bool | str) and not isinstance(kept, bool | str)
