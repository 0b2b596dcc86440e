"""What a run is asked to do: the options of the command line, the keys of a study file, and the
``config.toml`` of a run folder are one set of fields.

A study file is TOML; every key is optional:

    task = "digits"
    epochs = 20
    families = ["step", "cosine"]
    trials = 32

A task that is a file (``task = "my_task.py"``) lies beside the study file, wherever the command is
called from.
"""

import difflib
import math
import tomllib
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lrfinder.errors import InvalidArgument, StudyFileError
from lrfinder.tasks.reference import TaskReference
from lrfinder.types import Per

Device = Literal["auto", "cpu", "cuda", "mps"]


class RangeTestSettings(BaseModel):
    """Options of a range test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = "digits"
    min_lr: float = Field(1e-6, gt=0, allow_inf_nan=False)
    max_lr: float = Field(10.0, gt=0, allow_inf_nan=False)
    steps: int | None = Field(None, ge=8)
    every: Literal["batch", "epoch"] = "batch"
    growth: Literal["exponential", "linear"] = "exponential"
    find_seeds: int = Field(1, ge=1)
    probes: int = Field(4, ge=0)
    seed: int = Field(0, ge=0)
    device: Device = "auto"
    engine: Literal["auto", "sequential", "batched"] = "auto"

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

    epochs: int | None = Field(None, ge=1)
    families: list[str] | None = Field(None, min_length=1)
    trials: int = Field(10, ge=1)
    trial_seeds: int = Field(2, ge=1)
    confirm_seeds: int = Field(8, ge=1)
    lr: float | None = Field(None, gt=0, allow_inf_nan=False)
    lr_range: tuple[float, float] | None = None
    per: Per = "epoch"
    warmup: float = Field(0.0, ge=0)
    objective: str = "valid_loss"
    direction: Literal["minimize", "maximize"] | None = None
    baseline: str | None = None
    timeout: float | None = Field(None, gt=0)
    storage: str | None = None
    workers: int = Field(1, ge=1)

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
    """Check options; raises InvalidArgument with one line for the first that is wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise InvalidArgument(_first_problem(error, kind)) from error


def read_study_file(path: Path) -> dict[str, Any]:
    """Read the keys of a study file; raises StudyFileError with one line.

    A task that is a relative file is made absolute from the study file's own folder. The
    config.toml of a run folder is a study file too: its table [run] is left out.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyFileError(f"study file {path} cannot be read: {error}") from error
    values.pop("run", None)
    try:
        RunSettings(**values)
    except ValidationError as error:
        raise StudyFileError(f"study file {path}: {_first_problem(error, RunSettings)}") from error
    if "task" in values:
        values["task"] = _from_folder(values["task"], path.parent)
    return values


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
