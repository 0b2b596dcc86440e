"""Optuna's storage, opened by URL."""

import sqlite3
from contextlib import suppress
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage

from lrfinder.errors import InvalidArgument


def open_storage(storage: str | BaseStorage | None, *, write_ahead: bool = False) -> BaseStorage:
    """Storage object of a URL, None for memory; InvalidArgument where it cannot be opened.

    `write_ahead` is for a SQLite file of our own: it is put into write-ahead mode, in which a
    commit does not wait for the disk and a reader, such as the dashboard, never blocks. A power cut
    may lose the last trials, but never damages the file.
    """
    options: dict[str, Any] = {"connect_args": {"factory": _WrittenAhead}}
    try:
        if write_ahead and isinstance(storage, str):
            return optuna.storages.get_storage(RDBStorage(storage, engine_kwargs=options))
        return optuna.storages.get_storage(storage)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidArgument(f"storage {storage!r} cannot be opened: {reason}") from error


class _WrittenAhead(sqlite3.Connection):
    """A connection in write-ahead mode, where the file system allows it."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (those of sqlite3)
        super().__init__(*args, **options)
        with suppress(sqlite3.OperationalError):
            self.execute("PRAGMA journal_mode=WAL")
            self.execute("PRAGMA synchronous=NORMAL")
