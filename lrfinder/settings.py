"""What a run is asked to do: each option, with its default and its description, once.

The options of the command line, the keyword arguments of `lrfinder.run`, the keys of a settings
file and the ``config.toml`` of a run folder are these fields. A settings file is TOML; every key is
optional:

    task = "digits"
    epochs = 20
    families = ["step", "cosine"]
    trials = 32

A task that is a file (``task = "my_task.py"``) lies beside the settings file, wherever the command
is called from.
"""

import difflib
import math
import tomllib
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lrfinder.errors import InvalidArgument, StudyFileError
from lrfinder.range_tests.defaults import EVERY, GROWTH, MAX_LR, MIN_LR, PROBES, SEEDS, STEPS
from lrfinder.tasks.reference import TaskReference
from lrfinder.types import Device, Direction, EngineName, Every, Growth, Per

FAMILIES = (
    "Decay families, as a,b,c, of constant, step, exponential, inverse_time, cosine, polynomial, "
    "plateau, wsd (the default) and multistep, exponential_steps, cosine_restarts, one_cycle, "
    "triangular, and those of the task. constant is always compared."
)
RECORD = {"name", "task_hash", "version"}
"""Keys of the table [run] in a config.toml."""
_STEPS = ", ".join(f"{count} per {every}" for every, count in STEPS.items())


class RangeTestSettings(BaseModel):
    """Options of a range test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(
        "digits",
        description="my_task.py[:factory], package.module:factory, a built-in name "
        "(see `lrfinder tasks`), or a settings file (.toml).",
    )
    min_lr: float = Field(MIN_LR, gt=0, allow_inf_nan=False, description="Lr of the first step.")
    max_lr: float = Field(MAX_LR, gt=0, allow_inf_nan=False, description="Lr of the last step.")
    steps: int | None = Field(None, ge=8, description=f"Learning rates tested. Default: {_STEPS}.")
    every: Every = Field(EVERY, description="How often the lr grows.")
    growth: Growth = Field(GROWTH, description="Equal ratios or equal differences between steps.")
    find_seeds: int = Field(SEEDS, ge=1, description="Seeds of the range test.")
    probes: int = Field(PROBES, ge=0, description="Most runs at a constant lr after a range test.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    device: Device = Field("auto", description="Where to train.")
    engine: EngineName = Field(
        "auto",
        description="auto times both trainers and takes the faster; sequential: one run after "
        "another, repeatable bit for bit; batched: all runs in one program.",
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if not self.min_lr < self.max_lr:
            raise ValueError(
                "min_lr < max_lr must hold, "
                f"but got (min_lr={self.min_lr:g}, max_lr={self.max_lr:g})"
            )
        return self


class RunSettings(RangeTestSettings):
    """Options of a whole run: range test, studies and comparison."""

    epochs: int | None = Field(None, ge=1, description="Epochs of a run. Default: the task's.")
    families: list[str] | None = Field(None, min_length=1, description=FAMILIES)
    trials: int = Field(10, ge=1, description="Complete trials per family.")
    trial_seeds: int = Field(2, ge=1, description="Training seeds of each trial.")
    confirm_seeds: int = Field(8, ge=1, description="Fresh seeds of the comparison.")
    lr: float | None = Field(None, gt=0, allow_inf_nan=False, description="The initial lr, fixed.")
    lr_range: tuple[float, float] | None = Field(None, description="Lr range to search.")
    per: Per = Field("epoch", description="How often schedules are stepped.")
    warmup: float = Field(0.0, ge=0, description="Epochs of linear warm-up.")
    objective: str = Field("valid_loss", description="valid_loss or a metric of the task.")
    direction: Direction | None = Field(
        None, description="Which way is better. Default: minimize a loss, maximize a metric."
    )
    baseline: str | None = Field(
        None, description="What you use today: 0.1, or 0.1,step,step_size=30,gamma=0.1."
    )
    timeout: float | None = Field(
        None, gt=0, description="Seconds after which no further trial is started."
    )
    storage: str | None = Field(
        None, description="Optuna storage URL. Default: SQLite in the run folder."
    )
    workers: int = Field(
        1, ge=1, description="Processes that train, for models that batching does not help."
    )

    @field_validator("storage")
    @classmethod
    def _anywhere(cls, storage: str | None) -> str | None:
        """Make a relative SQLite path absolute, so that the run can be resumed from anywhere."""
        prefix = "sqlite:///"
        if storage is None or not storage.startswith(prefix) or storage == prefix:
            return storage
        return prefix + str(Path(storage.removeprefix(prefix)).resolve())

    @model_validator(mode="after")
    def _check_lr(self) -> Self:
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


S = TypeVar("S", bound=RangeTestSettings)


def settings_from(kind: type[S], values: dict[str, Any]) -> S:
    """Check options; raise InvalidArgument with one line for the first that is wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise InvalidArgument(_first_problem(error, kind)) from error


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read the keys of a settings file; raises StudyFileError with one line.

    A task that is a relative file is made absolute from the file's own folder. The config.toml of a
    run folder is a settings file too; its table [run], which says of which run it is, is no option.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyFileError(f"settings file {path} cannot be read: {error}") from error
    _take_out_record(values, path)
    try:
        RunSettings(**values)
    except ValidationError as error:
        problem = _first_problem(error, RunSettings)
        raise StudyFileError(f"settings file {path}: {problem}") from error
    if "task" in values:
        values["task"] = _from_folder(values["task"], path.parent)
    return values


def _take_out_record(values: dict[str, Any], path: Path) -> None:
    """Drop the table [run] of a run folder's config.toml; no other one is known."""
    if "run" not in values:
        return
    record = values.pop("run")
    keys = set(cast(dict[str, Any], record)) if isinstance(record, dict) else {"run"}
    if strange := sorted(keys - RECORD):
        raise StudyFileError(
            f"settings file {path}: {strange[0]!r} stands in a table [run]; "
            "options stand at the top of the file, without a table"
        )


def _from_folder(task: str, folder: Path) -> str:
    """Name of the task that `task` names in `folder`; only a file has another one elsewhere."""
    reference = TaskReference.parse(task, folder)
    return task if reference.file is None else reference.text


def _first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["msg"]).removeprefix("Value error, ")
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, kind.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(kind.model_fields)}"
        return f"there is no option {key!r}; {hint}"
    message = str(first["msg"])
    return f"{key}: {message[:1].lower()}{message[1:]}, but got {first['input']!r}"
