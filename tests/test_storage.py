"""Storages are opened by URL, and a run's own file is written ahead."""

import sqlite3
from pathlib import Path

import optuna
import pytest

from lrfinder.errors import InvalidArgument
from lrfinder.storage import open_storage


def journal_mode(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


@pytest.mark.parametrize(("write_ahead", "mode"), [(True, "wal"), (False, "delete")])
def test_only_a_file_of_our_own_is_put_into_write_ahead_mode(tmp_path, write_ahead, mode):
    path = tmp_path / "study.db"
    storage = open_storage(f"sqlite:///{path}", write_ahead=write_ahead)
    optuna.create_study(storage=storage, study_name="one")
    assert journal_mode(path) == mode
    again = open_storage(f"sqlite:///{path}")
    assert optuna.get_all_study_names(again) == ["one"]


def test_a_reader_sees_what_a_writer_that_is_still_open_has_stored(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=open_storage(url, write_ahead=True), study_name="one")
    study.tell(study.ask(), 1.0)
    assert optuna.load_study(study_name="one", storage=url).best_value == 1.0


def test_none_is_memory_and_an_object_is_itself():
    storage = optuna.storages.InMemoryStorage()
    assert open_storage(storage) is storage
    assert isinstance(open_storage(None), optuna.storages.InMemoryStorage)


@pytest.mark.parametrize("write_ahead", [True, False])
@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/study.db", "no url"])
def test_a_storage_that_cannot_be_opened_is_one_line(url, write_ahead):
    with pytest.raises(InvalidArgument, match=r"storage .* cannot be opened") as error:
        open_storage(url, write_ahead=write_ahead)
    assert "\n" not in str(error.value)
