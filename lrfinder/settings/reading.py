"""Options as they are given or stand in a settings file, checked: one line for what is wrong."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from lrfinder.errors import InvalidArgument, StudyFileError, TaskLoadError
from lrfinder.settings.messages import first_problem
from lrfinder.settings.options import FindSettings, RangeTestSettings, RunSettings
from lrfinder.tasks.reference import TaskReference

RECORD = {"name", "task_hash", "version"}
"""Keys of the table [run] in a config.toml."""


S = TypeVar("S", bound=RangeTestSettings)


def settings_from(kind: type[S], values: dict[str, Any]) -> S:
    """Check options; raise InvalidArgument with one line for the first that is wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise InvalidArgument(first_problem(error, kind, values)) from error


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read the keys of a settings file; raises StudyFileError with one line.

    A task that is a relative file is made absolute from the file's own folder. The config.toml of a
    run folder is a settings file too; its table [run], which says of which run it is, is no option.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: neither UTF-8 nor TOML
        raise StudyFileError(f"settings file {path} cannot be read: {error}") from error
    try:
        options = {name: value for name, value in values.items() if not _is_record(name, value)}
        for kind in (RunSettings, FindSettings):
            settings_from(kind, {k: v for k, v in options.items() if _belongs(k, kind)})
        if "task" in options:
            options["task"] = _from_folder(options["task"], path.parent)
    except TaskLoadError as error:
        raise TaskLoadError(f"settings file {path}: {error}") from error
    except InvalidArgument as error:
        raise StudyFileError(f"settings file {path}: {error}") from error
    return options


def _belongs(name: str, kind: type[RangeTestSettings]) -> bool:
    """Whether an option is one of these settings, or of none that there are."""
    known = {*RunSettings.model_fields, *FindSettings.model_fields}
    return name in kind.model_fields or name not in known


def _is_record(name: str, value: object) -> bool:
    """Whether this is the table [run] of a config.toml; InvalidArgument for any other table."""
    if not isinstance(value, dict) or name in RunSettings.model_fields:
        return False
    table = cast(dict[str, object], value)
    top = "options belong at the top of the file, in no table"
    for key in table:
        if name != "run" or key not in RECORD:
            raise InvalidArgument(f"{key!r} is in the table {name!r}; {top}")
    if set(table) != RECORD or not all(isinstance(entry, str) for entry in table.values()):
        raise InvalidArgument(f"the table {name!r} is not the record of a run; {top}")
    return True


def _from_folder(task: str, folder: Path) -> str:
    """Name of the task that `task` names in `folder`; only a file has another one elsewhere."""
    reference = TaskReference.parse(task, folder)
    return task if reference.file is None else reference.text
