"""Run folders, opened: what is none, or is damaged, is refused in one line."""

import tomllib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lrfinder.errors import RunFolderError
from lrfinder.results.folder import command_to_resume
from lrfinder.results.saved_run import Run
from lrfinder.results.summary import SCHEMA, RunSummary, read_summary


def open_run(path: str | Path) -> Run:
    """Read a run folder, or that of a range test; RunFolderError in one line where it is none."""
    folder = Path(path)
    config = read_config(folder)
    if not has_begun(folder):
        raise RunFolderError(
            f"{folder} has no summary.json yet; go on with `{command_to_resume(folder)}`"
        )
    with _readable(folder):
        summary = read_summary((folder / "summary.json").read_text(encoding="utf-8-sig"))
    if summary.get("schema") != SCHEMA:
        raise RunFolderError(
            f"{folder}: summary.json must have schema {SCHEMA}, but got {summary.get('schema')!r}; "
            "read it with the version that wrote it"
        )
    run = Run(folder, config, summary)
    _ = run.record, run.settings  # refuses a folder that is damaged
    return run


def open_studies(path: Path) -> Run:
    """Read a run folder; RunFolderError also where it holds a range test alone."""
    run = open_run(path)
    if not isinstance(run.record, RunSummary):
        raise RunFolderError(
            f"{path} holds a range test without studies; lrfinder.open_run({str(path)!r}) reads it"
        )
    return run


def read_config(path: Path) -> Mapping[str, Any]:
    """Read what a run was asked; RunFolderError in one line where the folder is none.

    A run that does not say how trials are shared was made when every family got as many.
    """
    with _readable(path):
        config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8-sig"))
    run = config.get("run")
    if not isinstance(run, dict) or not {"name", "task_hash"} <= set(cast(dict[str, Any], run)):
        raise RunFolderError(
            f"{path}/config.toml must have a table [run] with name and task_hash, but has none"
        )
    return {"even": True, **config} if "trials" in config else config


def has_begun(path: Path) -> bool:
    """Whether a run with a config came to its first summary."""
    return (path / "summary.json").exists()


@contextmanager
def _readable(folder: Path) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunFolderError(f"{folder} is not a run folder that can be read: {reason}") from error
