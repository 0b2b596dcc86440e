"""Storages are opened by URL, and a run's own file is written ahead."""

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import event

from lrfinder.errors import InvalidArgument
from lrfinder.tuning.storages.storage import open_storage, own_file


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_file_of_our_own_is_written_ahead_and_left_alone_in_its_folder(tmp_path):
    path = tmp_path / "study.db"
    with own_file(f"sqlite:///{path}") as storage:
        study = optuna.create_study(storage=storage, study_name="one")
        study.tell(study.ask(), 1.0)
        assert journal_mode(path) == "wal"
    assert list(tmp_path.iterdir()) == [path]
    assert optuna.get_all_study_names(f"sqlite:///{path}") == ["one"]


def test_a_users_file_keeps_its_mode(tmp_path):
    path = tmp_path / "study.db"
    optuna.create_study(storage=open_storage(f"sqlite:///{path}"))
    assert journal_mode(path) == "delete"


def test_a_reader_sees_what_a_writer_that_is_still_open_has_stored(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with own_file(url) as storage:
        study = optuna.create_study(storage=storage, study_name="one")
        study.tell(study.ask(), 1.0)
        assert optuna.load_study(study_name="one", storage=url).best_value == 1.0


def test_none_is_memory_and_an_object_is_itself():
    storage = optuna.storages.InMemoryStorage()
    assert open_storage(storage) is storage
    assert isinstance(open_storage(None), optuna.storages.InMemoryStorage)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/study.db", "nosuch://x"])
def test_a_storage_that_cannot_be_opened_is_one_line(url):
    with pytest.raises(InvalidArgument, match=r"storage .* cannot be opened") as error:
        open_storage(url)
    assert "\n" not in str(error.value)
    assert "Background on" not in str(error.value)
    with pytest.raises(InvalidArgument, match=r"storage .* cannot be opened"), own_file(url):
        pass


def ended_trial() -> optuna.trial.FrozenTrial:
    """A trial that has ended, with some of everything that a trial may have."""
    return optuna.trial.create_trial(
        value=0.5,
        params={"lr": 0.1, "step_size": 3},
        distributions={
            "lr": optuna.distributions.FloatDistribution(0.01, 1.0, log=True),
            "step_size": optuna.distributions.IntDistribution(1, 19),
        },
        user_attrs={"diverged": False, "seeds": [1, 2]},
        system_attrs={"fixed_params": {"lr": 0.1}},
        intermediate_values={epoch: 1 / (epoch + 1) for epoch in range(12)},
    )


def test_a_trial_is_written_at_once_at_its_commit_and_read_as_it_was_told(tmp_path):
    url, said = f"sqlite:///{tmp_path / 'study.db'}", list[str]()
    with own_file(url) as storage:
        study = optuna.create_study(storage=storage, study_name="one")
        database = storage._backend  # pyright: ignore[reportAttributeAccessIssue]

        @event.listens_for(database.engine, "before_cursor_execute")
        def _(_connection, _cursor, statement, *_):
            said.append(" ".join(statement.split()[:3]))

        told = [ended_trial() for _ in range(3)]
        for trial in told:
            said.clear()
            study.add_trial(trial)
            rows = [place for place, one in enumerate(said) if one.endswith("intermediate_values")]
            assert len(rows) == rows[-1] - rows[0] + 1 == len(trial.intermediate_values)
    study = optuna.load_study(study_name="one", storage=url)
    for number, (read, trial) in enumerate(zip(study.get_trials(), told, strict=True)):
        assert read.number == number
        for name in ("values", "params", "user_attrs", "system_attrs", "intermediate_values"):
            assert getattr(read, name) == getattr(trial, name)
