"""Optuna's storage, opened by URL, or in a file of the run's own.

A storage that fails after it was opened is tried again for some seconds: a database server may
restart, and another process may hold a file. Then it is StorageFailed, in one line.
"""

import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from lrfinder.errors import InvalidArgument, StorageFailed
from lrfinder.imports import importing
from lrfinder.paths import is_file
from lrfinder.tuning.storages.storage_urls import (
    censored,
    file_of,
    is_journal,
    with_password,
    without_password,
)

P = ParamSpec("P")
T = TypeVar("T")
_PATIENCE = 8.0  # seconds after the first failure in which it is tried again
_TRIES = 10  # to open it, however long one takes on a busy machine
_TABLES = {"studies", "trials", "version_info"}


def open_storage(storage: str | BaseStorage | None) -> BaseStorage:
    """Storage object of a URL, None for memory; InvalidArgument where it cannot be opened."""
    if not isinstance(storage, str):
        return optuna.storages.get_storage(storage)
    return _opened(storage)


def open_existing(url: str, *, whole: bool = True) -> BaseStorage:
    """Open a storage that was made for studies; InvalidArgument for any other.

    A run folder may be anybody's: nothing is put into what it names on its word alone. A database
    that is not read as a `whole` is asked for single trials: Optuna's cache would fetch all others
    of a study, too.
    """
    check_made_for_studies(url)
    return _opened(url, whole=whole)


def holds_studies(url: str) -> bool:
    """Whether a storage is there and was made for studies; a file that is missing is not made."""
    return _has_tables(url)


def check_made_for_studies(url: str) -> None:
    """Raise InvalidArgument where a storage is missing or does not hold Optuna's tables."""
    if not _has_tables(url):
        raise InvalidArgument(
            f"storage {without_password(url)!r} holds no studies, and none are made in it here"
        )


def refuse_existing_studies(url: str, name: str, families: Sequence[str]) -> None:
    """Raise InvalidArgument where the storage has studies of another run of this name."""
    storage = open_storage(url)
    existing = optuna.get_all_study_names(storage)
    close(storage)
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
    storage = _opened(url, connect_args={"factory": _WrittenAhead})
    _write_at_commit(storage)
    try:
        yield storage
    finally:
        close(storage)


def close(storage: BaseStorage) -> None:
    """Give a database's connections back."""
    database = _database(storage)
    if isinstance(database, RDBStorage):
        database.remove_session()
        database.engine.dispose()


def _database(storage: BaseStorage) -> Any:  # noqa: ANN401 (of any kind)
    """What is behind the cache, if there is one."""
    return getattr(storage, "_backend", storage)


def _write_at_commit(storage: BaseStorage) -> None:
    """Let rows be written where they are committed, and not before every query of a new trial.

    Optuna asks the tables before each of the values of a trial, which only just has been made.
    """
    session: Any = getattr(_database(storage), "scoped_session", None)
    if session is not None:
        session.remove()
        session.configure(autoflush=False)


class _WrittenAhead(sqlite3.Connection):
    """A connection in write-ahead mode, where the file system allows it."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (those of sqlite3)
        super().__init__(*args, **options)
        with suppress(sqlite3.OperationalError):
            self.execute("PRAGMA journal_mode=WAL")
            self.execute("PRAGMA synchronous=NORMAL")


def _opened(url: str, *, whole: bool = True, **engine: Any) -> BaseStorage:  # noqa: ANN401 (of create_engine)
    """Open a storage; several processes may make the tables of a new one at the same time."""
    tries, failed_at = 0, None
    while True:
        try:
            return _guarded(_made(url, engine, whole), url)
        except Exception as error:
            tries, failed_at = tries + 1, failed_at or time.monotonic()
            lasts = tries >= _TRIES and time.monotonic() - failed_at > _PATIENCE
            if lasts or not _others_make_it(error):
                raise InvalidArgument(_unusable(url, error)) from error
        time.sleep(0.1)


def _made(url: str, engine: dict[str, Any], whole: bool) -> BaseStorage:
    if not is_journal(url):
        with importing():  # SQLAlchemy and the database's dialect
            database = RDBStorage(with_password(url), engine_kwargs=engine)
        return optuna.storages.get_storage(database) if whole else database
    if not _is_journal_file(Path(url)):
        raise InvalidArgument(f"{url} is no journal file of Optuna; a database is named by its URL")
    return JournalStorage(JournalFileBackend(url))


def _is_journal_file(file: Path) -> bool:
    """Whether a file is a journal, or may become one: each of its lines is an object of JSON."""
    if not file.exists():
        return True
    with file.open("rb") as lines:
        first = lines.readline(1 << 20)
    return not first or first.startswith(b'{"op_code"')


def _others_make_it(error: Exception) -> bool:
    """Whether another process may be making the tables just now."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, IntegrityError | ProgrammingError | AssertionError):
        return True
    said = str(cause)
    return isinstance(cause, OperationalError) and ("already exists" in said or "locked" in said)


def _guarded(storage: BaseStorage, url: str) -> BaseStorage:
    """Let every call of a storage be tried again, and fail in one line."""
    for name in BaseStorage.__dict__:
        call = getattr(storage, name)
        if not name.startswith("_") and callable(call):
            setattr(storage, name, _patient(name, call, url))
    return storage


def _patient(name: str, call: Callable[P, T], url: str) -> Callable[P, T]:
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    shown = without_password(url)

    @wraps(call)
    def tried(*args: P.args, **options: P.kwargs) -> T:
        failed_at, wait = None, 0.1
        while True:
            try:
                return call(*args, **options)
            except (StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
                cause = error.__cause__ if isinstance(error, StorageInternalError) else error
                passing = isinstance(cause, OperationalError)
                failed_at = failed_at or time.monotonic()
                if not passing or time.monotonic() - failed_at + wait > _PATIENCE:
                    reason = _reason(cause or error, url)
                    raise StorageFailed(f"storage {shown!r} fails: {reason}") from error
            except KeyError as error:
                if name.startswith(("get_study_id", "get_trial_id")):  # whether there is one
                    raise
                raise StorageFailed(f"storage {shown!r} has lost a study or a trial") from error
            time.sleep(wait)
            wait *= 2

    return tried


def _has_tables(url: str) -> bool:
    """Whether the tables of Optuna are there; a file that is missing is not made."""
    from sqlalchemy import create_engine, inspect

    file = file_of(url)
    if file is not None and not is_file(file):
        return False
    if is_journal(url):
        return _is_journal_file(Path(url))
    try:
        engine = create_engine(with_password(url))
        try:
            return set(inspect(engine).get_table_names()) >= _TABLES
        finally:
            engine.dispose()
    except Exception as error:
        raise InvalidArgument(_unusable(url, error)) from error


def _unusable(url: str, error: Exception) -> str:
    if "://" not in url and not is_journal(url):
        return (
            f"storage {without_password(url)!r} must be a URL, such as postgresql://HOST/NAME or "
            "sqlite:///runs.db, or a journal file, such as runs.journal"
        )
    return f"storage {without_password(url)!r} cannot be opened: {_reason(error, url)}"


def _reason(error: BaseException, url: str) -> str:
    """What a database says, in one line, without passwords."""
    said = " ".join(str(error).partition("(Background on")[0].partition("[SQL:")[0].split())
    return censored(censored(said, url), with_password(url))[:200]
