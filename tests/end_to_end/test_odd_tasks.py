"""Task files of odd names, in odd places, that change the process: each works, or is one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_tasks import linear_task
from typer.testing import CliRunner

import lrfinder
from lrfinder.cli import app
from lrfinder.commands import new_run

SMALL = ["--families", "step", "--trials", "2", "--trial-seeds", "1", "--confirm-seeds", "2"]
SMALL += ["--engine", "sequential", "-q"]
TASK = """
import os
import numpy as np
import optuna
import torch
from torch import nn
from torch.utils.data import TensorDataset
import lrfinder

{at_import}

class Net(nn.Linear):
    def __init__(self):
        {in_model}
        super().__init__(4, 1)

def make_task():
    {in_factory}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    rows = TensorDataset(x, x.sum(1, keepdim=True))
    def loss(output, target):
        {in_loss}
        return nn.functional.mse_loss(output, target)
    return lrfinder.Task(
        model=Net, train=rows, valid=rows, criterion=loss, epochs=3,
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
    )
"""
MOVED = "os.path.basename(os.getcwd()) != 'elsewhere' and os.chdir('elsewhere')"
FINE = {"at_import": "", "in_model": "pass", "in_factory": "pass", "in_loss": "pass"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory; path, modules and NumPy's settings are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    modules = sys.modules.copy()
    with np.errstate():
        yield tmp_path
    for name in set(sys.modules) - set(modules):
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: str, **parts: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(TASK.format(**{**FINE, **parts}), encoding="utf-8")
    return path


def call(*words: str):
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def runs(path: str, *words: str) -> None:
    """A sweep of the task, its resumption and its script all work."""
    at = Path.cwd()
    result = call("sweep", path, "--lr", "0.05", *SMALL, "--out", "r", *words)
    assert result.exit_code == 0, result.stderr
    folder = at / "r"
    assert call("run", "--resume", str(folder), "-q").exit_code == 0
    script = [sys.executable, str(folder / "best_schedule.py")]
    # An editable installation is found after everything on sys.path; a plain one is not.
    env = {**os.environ, "PYTHONPATH": str(Path(lrfinder.__file__).parents[1])}
    done = subprocess.run(script, capture_output=True, text=True, cwd=at, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def slowly(value):
    """A value that only the slow tests try."""
    return pytest.param(value, marks=pytest.mark.slow)


LIBRARIES = ["optuna.py", "torch.py", "random.py", "lrfinder.py", "numpy.py"]
PLACES = [
    *LIBRARIES,
    *("class.py", "my.v2.py", "a b.py", "ünï.py", "1st.py", "q'uote.py"),
    *("a:b/task.py", "with space/task.py", "ünï/täsk.py", "x%20y/lr=0.1?/task.py", "tests/task.py"),
]


@pytest.mark.parametrize("path", ["my.v2.py", "optuna.py"])
@pytest.mark.slow
def test_a_task_file_may_be_called_anything(path):
    runs(write(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PLACES if p not in ("my.v2.py", "optuna.py")])
def test_a_task_file_may_lie_anywhere(path):
    runs(write(path))


@pytest.mark.parametrize("path", PLACES)
def test_a_task_is_loaded_again_by_the_name_that_its_run_has(path, here):
    task, reference = lrfinder.tasks.loading.load_named(write(path))
    assert task.name == Path(path).stem
    assert lrfinder.load_task(reference.text).name == task.name
    assert lrfinder.load_task(f"{path}:make_task").name == task.name
    import optuna
    import torch

    assert (Path(optuna.__file__).name, Path(torch.__file__).name) == ("__init__.py",) * 2


@pytest.mark.slow
@pytest.mark.parametrize("path", ["optuna.py", "torch.py", "my.v2.py", "a:b/task.py"])
def test_workers_load_such_a_file_too(path):
    runs(write(path), "--workers", "2")


@pytest.mark.parametrize("name", [LIBRARIES[0], *map(slowly, LIBRARIES[1:])])
def test_the_command_takes_no_library_from_the_current_folder(name):
    write(name)
    words = [sys.executable, "-m", "lrfinder", "find", name, "--steps", "20", "-q", "--json"]
    if name in ("lrfinder.py", "random.py"):  # which `python -m` itself takes from there
        words[1:3] = ["-c", "import sys; sys.path.pop(0); from lrfinder.cli import main; main()"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr


@pytest.mark.parametrize("place", ["in_model", slowly("at_import"), slowly("in_factory")])
@pytest.mark.slow
def test_a_task_may_change_the_directory(here, place):
    Path("elsewhere").mkdir()
    runs(write("task.py", **{place: MOVED}))
    assert (here / "r" / "report.md").is_file()
    assert list((here / "elsewhere").iterdir()) == []


def test_a_folder_of_a_range_test_stays_where_it_was_asked_for(here):
    Path("elsewhere").mkdir()
    write("task.py", in_factory="os.chdir('elsewhere')")
    assert call("find", "task.py", "--steps", "20", "-q", "--out", "f").exit_code in (0, 4)
    assert (here / "f" / "summary.json").is_file()
    assert lrfinder.open_run(here / "f").config["task"] == str(here / "task.py")


@pytest.mark.slow
def test_workers_of_a_task_that_changes_the_directory(here):
    Path("elsewhere").mkdir()
    runs(write("task.py", at_import=MOVED), "--workers", "2")


@pytest.mark.parametrize(
    "place", ["in_loss", *map(slowly, ("at_import", "in_factory", "in_model"))]
)
@pytest.mark.slow
def test_a_task_may_set_numpys_errors(place):
    runs(write("task.py", **{place: "np.seterr(all='raise')"}))
    assert call("find", "task.py", "--max-lr", "1e6", "-q").exit_code in (0, 4)


def test_numpys_errors_may_be_set_around_a_call(here):
    with np.errstate(all="raise"):
        task = linear_task()
        lrfinder.range_test(task, max_lr=1e6, steps=60).suggest()
        options = {"families": ["step"], "trials": 2, "confirm_seeds": 2, "progress": False}
        lrfinder.run(task, out="r", max_lr=1e6, **options)
        assert np.geterr()["under"] == "raise"


def test_a_seed_that_is_too_large_is_one_line():
    for words in (["find"], ["run"], ["sweep", "--lr", "1"]):
        result = call(words[0], "quadratic", *words[1:], "--seed", "6000000000000000")
        assert result.exit_code == 2
        assert "seed must be at most 10" in result.stderr
    assert not Path("runs").exists()


@pytest.mark.slow
def test_the_largest_seed_works():
    words = ["--lr", "0.05", *SMALL, "--out", "r", "--seed", str(10**15)]
    assert call("sweep", write("task.py"), *words).exit_code == 0


def test_files_may_have_a_byte_order_mark(here):
    write("task.py")
    Path("task.py").write_bytes(b"\xef\xbb\xbf" + Path("task.py").read_bytes())
    Path("s.toml").write_bytes(b'\xef\xbb\xbftask = "task.py"\nlr = 0.05\n')
    assert call("run", "s.toml", *SMALL, "--out", "r").exit_code == 0
    for name in ("config.toml", "summary.json"):
        path = Path("r") / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert call("report", "r").exit_code == 0
    assert call("run", "--resume", "r", "-q").exit_code == 0


@pytest.mark.slow
def test_runs_of_the_same_second_have_folders_of_their_own(here, monkeypatch):
    class Stopped(new_run.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(new_run, "datetime", Stopped)
    words = ["sweep", write("task.py"), "--lr", "0.05", *SMALL]
    for _ in range(3):
        assert call(*words).exit_code == 0
    names = [f"task-20260102-030405{end}" for end in ("", "-2", "-3")]
    assert sorted(path.name for path in (here / "runs").iterdir()) == names
    for name in names:
        assert call("report", f"runs/{name}").exit_code == 0
        assert lrfinder.open_run(f"runs/{name}").name == name
