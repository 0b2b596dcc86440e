"""Storages in the world: folders of any name, passwords, foreign files, servers that stop."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

import lrfinder
from lrfinder.cli import app
from lrfinder.commands import go_on, start
from lrfinder.errors import InvalidArgument, StorageFailed
from lrfinder.report.progress import Silent
from lrfinder.results.folder import own_storage
from lrfinder.settings import RunSettings, settings_from
from lrfinder.tuning.storages import storage as storages
from lrfinder.tuning.storages.storage import open_existing, open_storage

SMALL = {
    "task": "quadratic",
    "lr": 0.1,
    "families": ["step"],
    "epochs": 3,
    "trials": 2,
    "trial_seeds": 1,
    "confirm_seeds": 2,
    "engine": "sequential",
}


def settings(**changes) -> RunSettings:
    return settings_from(RunSettings, {**SMALL, **changes})


class Acting(Silent):
    """Does something at the first updates of an act, once."""

    def __init__(self, act, do) -> None:
        self.act, self.do, self.now, self.said = act, do, False, []

    def stage(self, name, updates) -> None:
        self.now = name == self.act

    def advance(self, updates) -> None:
        if self.now and updates:
            self.now = False
            self.do()

    def say(self, text) -> None:
        self.said.append(text)


def call(*words: str):
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


NAMES = ["lr=0.1?a", "x%20y", "a b", "#1", "ünï", "{x}", "%(here)s", "q'uote"]


@pytest.mark.parametrize("name", NAMES)
def test_the_storage_of_a_folder_of_any_name_lies_in_it(tmp_path, name):
    folder = tmp_path / name / name
    folder.mkdir(parents=True)
    storage = open_storage(own_storage(folder))
    optuna.create_study(storage=storage, study_name="one")
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert optuna.get_all_study_names(open_existing(own_storage(folder))) == ["one"]


def test_a_run_of_any_name_is_made_resumed_and_reported(tmp_path, monkeypatch):
    name = "lr=0.1?a b%20#1ü"
    monkeypatch.chdir(tmp_path)
    start(settings(), Path(name))
    go_on(Path(name), {})
    assert call("report", name).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (tmp_path / name / "study.db").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_a_relative_storage_lies_in_the_current_folder_whatever_that_is_called(
    tmp_path, monkeypatch, name
):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    url = settings(storage="sqlite:///mine.db").storage
    monkeypatch.chdir(tmp_path)
    optuna.create_study(storage=open_storage(url), study_name="one")
    assert (tmp_path / name / "mine.db").is_file()


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("select name from sqlite_master")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "r"
    start(settings(), folder)
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def name_storage(folder: Path, url: str) -> None:
    config = folder / "config.toml"
    config.write_text(f'storage = "{url}"\n' + config.read_text())


@pytest.mark.parametrize("words", [["report"], ["dashboard"], ["run", "--resume"]])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_put_into_what_a_folder_names(copy, tmp_path, words, there):
    mine = tmp_path / "mine.db"
    if there:
        with closing(sqlite3.connect(mine)) as connection:
            connection.execute("create table mine (x)")
    name_storage(copy, f"sqlite:///{mine}")
    result = call(*words, str(copy))
    assert (tables(mine) if there else mine.exists()) == (["mine"] if there else False)
    assert result.exit_code == (0 if words == ["report"] else 2)
    assert "holds no studies" in result.stderr or "is missing" in result.stderr
    if words[0] == "run":  # the way that is named leads on
        assert f"--storage sqlite:///{mine}" in result.stderr
        again = call(*words, str(copy), "--storage", f"sqlite:///{mine}", "-q")
        assert again.exit_code == 0
        assert "studies" in tables(mine)


def test_the_host_of_a_foreign_storage_is_said_before_it_is_opened(copy):
    name_storage(copy, "postgresql://nobody@db.invalid/x")
    for words in (["report"], ["dashboard"], ["run", "--resume"]):
        result = call(*words, str(copy))
        assert "names a storage on db.invalid" in result.stderr.splitlines()[0]


SECRETS = [
    "postgresql://me:s3cr%40t@db.invalid/x",
    "postgresql:///x?host=db.invalid&user=me&password=s3cr%40t",
    "postgresql+nosuchdriver://me:s3cr%40t@db.invalid/x",
    "mysql+pymysql://me@db.invalid/x?passwd=s3cr%40t",
    "mssql+pyodbc:///?odbc_connect=SERVER%3Ddb.invalid%3BPWD%3Ds3cr%40t%3BX%3D1",
    "nosuch://me:s3cr%40t@db.invalid/x",
    "no url://me:s3cr%40t@db.invalid/x",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_is_neither_shown_nor_written(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    words = ["run", "quadratic", "--storage", url]
    for result in (call(*words), call(*words, "--json"), call(*words, "--trials", "0")):
        assert result.exit_code == 2
        for secret in ("s3cr@t", "s3cr%40t"):
            assert secret not in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def stored_anywhere(folder: Path, text: str) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if text.encode() in path.read_bytes()]


def test_what_is_written_holds_no_password_and_what_is_resumed_needs_the_same_one_not(
    tmp_path, monkeypatch
):
    """A SQLite URL takes any query that its driver ignores; it stands for a server's here."""
    file = tmp_path / "all.db"
    monkeypatch.setattr(storages, "with_password", lambda url: f"sqlite:///{file}")
    url = "postgresql://me:s3cret@localhost/x"
    start(settings(storage=url), tmp_path / "r")
    assert stored_anywhere(tmp_path, "s3cret") == []
    assert lrfinder.open_run(tmp_path / "r").config["storage"] == "postgresql://me@localhost/x"
    for given in ({}, {"storage": url}, {"storage": "postgresql://me:other@localhost/x"}):
        assert go_on(tmp_path / "r", given).summary["status"] == "complete"
    assert stored_anywhere(tmp_path, "s3cret") == []
    with pytest.raises(InvalidArgument, match="storage must stay") as error:
        go_on(tmp_path / "r", {"storage": "postgresql://me:s3cret@elsewhere/x"})
    assert "s3cret" not in str(error.value)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(storages, "_PATIENCE", 0.3)


def spoil(path: Path) -> None:
    """Overwrite the pages of a file from outside."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(size - 100))


@pytest.mark.parametrize("act", ["studies", "comparison"])
@pytest.mark.slow
def test_a_storage_that_is_locked_ends_the_run_in_one_line_that_leads_on(tmp_path, impatient, act):
    url = f"sqlite:///{tmp_path / 'all.db'}?timeout=0.1"
    other = sqlite3.connect(tmp_path / "all.db", isolation_level=None)
    locked = Acting(act, lambda: other.execute("begin exclusive"))
    with pytest.raises(
        StorageFailed, match=r"storage 'sqlite:.*all\.db.*' fails: .*locked"
    ) as told:
        start(settings(storage=url), tmp_path / "r", locked)
    assert f"go on with `lrfinder run --resume {tmp_path / 'r'}`" in str(told.value)
    assert "\n" not in str(told.value)
    assert lrfinder.open_run(tmp_path / "r").summary["status"] == "failed"
    other.close()
    assert go_on(tmp_path / "r", {}).summary["status"] == "complete"


def test_a_storage_that_is_locked_for_a_moment_is_waited_for(tmp_path):
    other = sqlite3.connect(tmp_path / "all.db", isolation_level=None, check_same_thread=False)
    url = f"sqlite:///{tmp_path / 'all.db'}?timeout=0.05"

    def lock() -> None:
        other.execute("begin exclusive")
        threading.Timer(0.5, lambda: other.execute("rollback")).start()

    run = start(settings(storage=url), tmp_path / "r", Acting("studies", lock))
    assert run.summary["status"] == "complete"
    other.close()


@pytest.mark.slow
def test_a_file_that_is_damaged_while_it_runs_is_one_line(tmp_path, impatient):
    file = tmp_path / "all.db"
    with pytest.raises(StorageFailed, match=r"all\.db' fails: .*; go on with `lrfinder run"):
        start(
            settings(storage=f"sqlite:///{file}"),
            tmp_path / "r",
            Acting("studies", lambda: spoil(file)),
        )


@pytest.mark.parametrize("damage", [spoil, lambda path: path.write_bytes(b"no database" * 99)])
def test_a_damaged_file_of_a_finished_run_leaves_it_finished(copy, damage):
    file = copy / "study.db"
    whole = file.read_bytes()
    damage(file)
    result = call("run", "--resume", str(copy), "-q")
    assert result.exit_code in (1, 2)
    assert len(result.stderr.splitlines()) == 1
    assert lrfinder.open_run(copy).summary["status"] == "complete"
    assert call("report", str(copy)).exit_code == 0
    file.write_bytes(whole)
    assert call("run", "--resume", str(copy), "-q").exit_code == 0


def test_a_study_that_is_deleted_while_it_runs_is_one_line(tmp_path):
    url = f"sqlite:///{tmp_path / 'all.db'}"

    def delete() -> None:
        for name in optuna.get_all_study_names(url):
            optuna.delete_study(study_name=name, storage=url)

    with pytest.raises(StorageFailed, match="has lost a study or a trial; go on with"):
        start(settings(storage=url), tmp_path / "r", Acting("studies", delete))
    assert go_on(tmp_path / "r", {}).summary["status"] == "complete"


@pytest.mark.slow
def test_four_processes_make_one_new_file_at_once(tmp_path):
    code = (
        "import optuna, sys; from lrfinder.tuning.storages.storage import open_storage; "
        "storage = open_storage(sys.argv[1]); "
        "optuna.create_study(storage=storage, study_name=sys.argv[2])"
    )
    url = f"sqlite:///{tmp_path / 'all.db'}"
    words = [sys.executable, "-W", "ignore", "-c", code, url]
    ones = [subprocess.Popen([*words, str(i)], stderr=subprocess.PIPE) for i in range(4)]
    told = [one.communicate(timeout=120)[1] for one in ones]
    assert [one.returncode for one in ones] == [0] * 4, told
    assert set(optuna.get_all_study_names(url)) == set("0123")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_that_stops_is_told_and_one_that_restarts_is_waited_for(
    server, tmp_path, monkeypatch
):
    url, begin, end = server
    bare = url.replace(":s3cret", "")

    def restart() -> None:
        end()
        begin()

    run = start(settings(storage=url), tmp_path / "a", Acting("studies", restart))
    assert run.summary["status"] == "complete"
    monkeypatch.setattr(storages, "_PATIENCE", 0.3)
    with pytest.raises(StorageFailed, match=r"go on with `lrfinder run --resume .*b`") as told:
        start(settings(storage=url), tmp_path / "b", Acting("studies", end))
    assert "s3cret" not in str(told.value)
    begin()
    with pytest.raises(InvalidArgument, match=r"cannot be opened.*password") as told:
        go_on(tmp_path / "b", {})
    assert "s3cret" not in str(told.value)
    assert go_on(tmp_path / "b", {"storage": url}).summary["status"] == "complete"
    with monkeypatch.context() as given:
        given.setenv("LRFINDER_STORAGE", url)
        assert go_on(tmp_path / "b", {}).config["storage"] == bare
        assert call("report", str(tmp_path / "b")).exit_code == 0
    with monkeypatch.context() as given:
        given.setenv("PGPASSWORD", "s3cret")
        assert call("run", "--resume", str(tmp_path / "b"), "-q").exit_code == 0
        again = [str(tmp_path / "b" / "config.toml"), "--out", str(tmp_path / "c"), "-q"]
        assert call("run", *again).exit_code == 0
    assert stored_anywhere(tmp_path, "s3cret") == []
    gc.collect()  # connections are closed here, where that is no error
