"""What was asked for, as a folder's config.toml names it and as it is found from anywhere."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from lrfinder.paths import resolved
from lrfinder.report.progress import Progress
from lrfinder.results.folder import RunFolder
from lrfinder.settings import RangeTestSettings
from lrfinder.tasks.reference import TaskReference, is_live
from lrfinder.tuning.storages.storage_urls import host_of, without_password


def recorded(settings: RangeTestSettings) -> dict[str, Any]:
    """The options that were given or have a value, as they are written down: without a password."""
    options = settings.model_dump(exclude_none=True)
    if "storage" in options:
        options["storage"] = without_password(options["storage"])
    return options


def write_config(folder: RunFolder, settings: RangeTestSettings, task: str) -> None:
    """Write what was asked, and of which task, by the name that holds from everywhere."""
    facts = {
        "name": resolved(folder.path).name,
        "task_hash": source_hash(task),
        "version": version("lrfinder"),
    }
    folder.write_config({**recorded(settings), "task": task, "run": facts})


def reference_text(task: str) -> str:
    """The name of a task that holds from everywhere; an object's stays what it is."""
    return task if is_live(task) else TaskReference.parse(task).text


def source_hash(task: str) -> str:
    """Hash of the file that a task comes from; empty for an object."""
    return "" if is_live(task) else TaskReference.parse(task).source_hash()


def seen_from(folder: Path, path: Path) -> Path:
    """A path that was given in this folder, whichever one the task's code has moved to."""
    return path if Path.cwd() == folder else folder / path


def say_host(storage: str | None, progress: Progress) -> None:
    """Say it where a folder's storage is on another machine, before it is opened."""
    host = None if storage is None else host_of(storage)
    if host is not None:
        progress.say(f"note: the folder's config.toml names a storage on {host}")
