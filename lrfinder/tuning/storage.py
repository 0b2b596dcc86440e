"""Optuna's storage, opened by URL, or in a file of the run's own."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage

from lrfinder.errors import InvalidArgument


def open_storage(storage: str | BaseStorage | None) -> BaseStorage:
    """Storage object of a URL, None for memory; InvalidArgument where it cannot be opened."""
    try:
        return optuna.storages.get_storage(storage)
    except Exception as error:
        raise InvalidArgument(_unusable(storage, error)) from error


def refuse_existing_studies(url: str, name: str, families: Sequence[str]) -> None:
    """Raise InvalidArgument where the storage has studies of another run of this name."""
    existing = optuna.get_all_study_names(open_storage(url))
    taken = {study_name(name, family) for family in families} & set(existing)
    if taken:
        raise InvalidArgument(f"the storage has a study {min(taken)!r} already; give another --out")


def study_name(prefix: str, family: str) -> str:
    """Name of a family's study in the storage."""
    return f"{prefix}-{family}"


@contextmanager
def own_file(url: str) -> Generator[BaseStorage]:
    """Storage in a SQLite file of our own, closed on leaving; InvalidArgument as above.

    It is in write-ahead mode: a commit does not wait for the disk, and a reader such as the
    dashboard never blocks. A power cut may lose the last trials, but never damages the file.
    """
    try:
        connections = {"connect_args": {"factory": _WrittenAhead}}
        database = RDBStorage(url, engine_kwargs=connections)
    except Exception as error:
        raise InvalidArgument(_unusable(url, error)) from error
    try:
        yield optuna.storages.get_storage(database)
    finally:
        database.remove_session()
        database.engine.dispose()


class _WrittenAhead(sqlite3.Connection):
    """A connection in write-ahead mode, where the file system allows it."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (those of sqlite3)
        super().__init__(*args, **options)
        with suppress(sqlite3.OperationalError):
            self.execute("PRAGMA journal_mode=WAL")
            self.execute("PRAGMA synchronous=NORMAL")


def _unusable(storage: object, error: Exception) -> str:
    reason = " ".join(str(error).partition("(Background on")[0].split())[:200]
    return f"storage {storage!r} cannot be opened: {reason}"
