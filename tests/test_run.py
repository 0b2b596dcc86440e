"""`lrfinder.run`: the whole run from Python, for any Task, with the options of the command."""

import inspect
import io
import runpy
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from shutil import copytree

import numpy as np
import pytest
import torch
from small_tasks import absolute_error, linear_task, regression_rows
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lrfinder
from lrfinder.commands import RunOptions
from lrfinder.errors import Interrupted, LRFinderError
from lrfinder.report.progress import NotebookCell
from lrfinder.settings import RunSettings

SMALL = {"families": ["step"], "trials": 2, "trial_seeds": 1, "confirm_seeds": 3}
SMALL |= {"steps": 30, "probes": 3}
SHORT = {**SMALL, "lr": 0.1, "epochs": 5}
QUIET = {"progress": False, "engine": "sequential"}


def from_factory():
    return linear_task(epochs=3, metrics={"error": absolute_error}, name="own task")


def from_objects():
    rows = TensorDataset(
        torch.randn(65, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(65, 1)
    )
    model = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    train, valid = DataLoader(rows, 16, shuffle=True), DataLoader(rows, 32)
    return lrfinder.Task.from_objects(
        model, optimizer, nn.MSELoss(), train, valid, epochs=3, name="live"
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a task that a factory made, never to be changed."""
    return lrfinder.run(from_factory(), out=tmp_path_factory.mktemp("runs") / "r", **SMALL, **QUIET)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A run of a name, never to be changed, and what it wrote to stderr and stdout."""
    out = tmp_path_factory.mktemp("runs") / "r"
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()) as printed:
        run = lrfinder.run("quadratic", out=out, **SHORT, **QUIET)
    return run, told.getvalue(), printed.getvalue()


def is_read_back(run, name):
    assert run.summary["status"] == "complete"
    assert run.summary["task"] == name
    assert {"constant", "step"} <= set(run.summary["families"])
    assert lrfinder.open_run(run.path).summary == run.summary
    assert f"# Learning rate and decay for {name}" in (run.path / "report.md").read_text()


def test_a_task_object_is_run_and_read_back(finished):
    is_read_back(finished, "own task")


def test_live_objects_are_run_and_read_back(tmp_path):
    is_read_back(lrfinder.run(from_objects(), out=tmp_path / "r", **SMALL, **QUIET), "live")


def test_a_name_is_run_like_by_the_command(named):
    run = named[0]
    assert run.config["task"] == "quadratic"
    assert run.summary["range_test"] is None


def test_a_run_of_an_object_is_the_run_of_its_file(named, tmp_path):
    task = lrfinder.load_task("quadratic")
    runs = [lrfinder.run(task, out=tmp_path / "object", **SHORT, **QUIET), named[0]]
    tables = [run.trials.drop(columns="value") for run in runs]
    assert tables[0].equals(tables[1])
    assert runs[0].summary["families"].keys() == runs[1].summary["families"].keys()
    np.testing.assert_array_equal(runs[0].comparison.values, runs[1].comparison.values)


class Broken(nn.Module):
    """A model that interrupts the run after some forward passes."""

    left = 10**9

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x):
        Broken.left -= 1
        if Broken.left < 0:
            raise KeyboardInterrupt
        return self.inner(x)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_object_given_again(tmp_path, share):
    task = linear_task(epochs=3, model=Broken)
    Broken.left = enough = 10**9
    whole = lrfinder.run(task, out=tmp_path / "whole", **SMALL, **QUIET)
    Broken.left = round(share * (enough - Broken.left))
    with pytest.raises(Interrupted, match=r"go on with `lrfinder.run\(task, resume='.*r'\)`"):
        lrfinder.run(task, out=tmp_path / "r", **SMALL, **QUIET)
    Broken.left = 10**9
    with pytest.raises(lrfinder.TaskLoadError, match=r"was a Task object in Python"):
        lrfinder.run(resume=tmp_path / "r", **QUIET)
    finished = lrfinder.run(task, resume=tmp_path / "r", **QUIET)
    assert finished.summary["suggestion"] == whole.summary["suggestion"]
    assert len(finished.trials) == len(whole.trials)
    assert finished.comparison.seeds == whole.comparison.seeds


def test_a_run_is_resumed_with_a_task_of_its_own_name_only(finished, tmp_path):
    task = from_factory()
    copytree(finished.path, tmp_path / "r")
    with pytest.raises(lrfinder.RunFolderError, match=r"task must stay '<own task>'"):
        lrfinder.run(replace(task, name="other"), resume=tmp_path / "r", **QUIET)
    with pytest.raises(lrfinder.RunFolderError, match=r"trials must stay 2"):
        lrfinder.run(task, resume=tmp_path / "r", trials=3, **QUIET)


@pytest.mark.slow
def test_workers_train_an_object_that_can_be_sent(tmp_path):
    options = {**SMALL, **QUIET, "lr": 0.01}
    alone = lrfinder.run(from_factory(), out=tmp_path / "a", **options)
    several = lrfinder.run(from_factory(), out=tmp_path / "b", workers=2, **options)
    np.testing.assert_array_equal(alone.comparison.values, several.comparison.values)


def test_workers_are_refused_for_an_object_that_cannot_be_sent(tmp_path):
    lock = threading.Lock()

    def locked(output, target):
        with lock:
            return absolute_error(output, target)

    task = linear_task(metrics={"error": locked})
    with pytest.raises(lrfinder.InvalidArgument, match="must be trained in this process") as error:
        lrfinder.run(task, out=tmp_path / "r", workers=2, **SMALL, **QUIET)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r").exists()


def test_a_run_by_the_executor_of_another_library_is_that_of_this_process(finished, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        other = lrfinder.run(from_factory(), out=tmp_path / "b", executor=pool, **SMALL, **QUIET)
    runs = [
        sorted((r.candidate, r.seed, r.value) for r in one.comparison.runs)
        for one in (finished, other)
    ]
    assert runs[0] == runs[1]
    assert other.answers.engine.workers == 2


@pytest.mark.parametrize("options", [{"workers": 2}, {"ray": "auto"}])
def test_an_executor_excludes_workers_and_ray(tmp_path, options):
    with pytest.raises(lrfinder.InvalidArgument, match="executor excludes workers and ray"):
        lrfinder.run("quadratic", out=tmp_path / "r", executor=lrfinder.InProcess(), **options)
    assert not (tmp_path / "r").exists()


def test_workers_and_ray_exclude_each_other():
    with pytest.raises(lrfinder.InvalidArgument, match="workers and ray exclude each other"):
        lrfinder.run("quadratic", workers=2, ray="auto")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed_is_one_line_and_leaves_no_folder(tmp_path):
    with pytest.raises(
        lrfinder.InvalidArgument, match=r"pip install 'lrfinder\[ray\]', or"
    ) as error:
        lrfinder.run("quadratic", out=tmp_path / "r", ray="auto", **QUIET)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r").exists()


def test_nothing_of_the_callers_is_changed(tmp_path):
    rows = TensorDataset(torch.randn(64, 4), torch.randn(64, 1))
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    task = lrfinder.Task.from_objects(
        model, optimizer, nn.MSELoss(), DataLoader(rows, 16), DataLoader(rows, 16), epochs=2
    )
    random = torch.get_rng_state()
    lrfinder.run(task, out=tmp_path / "r", lr=0.1, **SMALL, **QUIET)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not model.training
    assert optimizer.state == {}
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "a run needs a task or a folder to resume"),
        ({"task": "quadratic", "out": "a", "resume": "b"}, "out and resume exclude each other"),
        ({"task": "quadratic", "trials": 0}, "trials must "),
        ({"task": "quadratic", "epocs": 3}, "did you mean 'epochs'"),
        ({"task": "quadratic", "families": ["stepp"]}, "did you mean 'step'"),
    ],
)
def test_misuse_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lrfinder.InvalidArgument, match=said) as error:
        lrfinder.run(**arguments)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_options_are_those_of_the_settings():
    options = set(RunOptions.__annotations__)
    assert options == set(RunSettings.model_fields) - {"task"}
    parameters = inspect.signature(lrfinder.run).parameters
    assert set(parameters) == options | {"task", "out", "resume", "progress", "executor"}
    for name in options:
        assert parameters[name].default == RunSettings.model_fields[name].default


def test_progress_goes_to_stderr_and_can_be_left_out(named, tmp_path):
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()) as printed:
        lrfinder.run("quadratic", out=tmp_path / "r", engine="sequential", **SHORT)
    assert "studies" in told.getvalue()
    assert "studies" not in named[1]
    assert printed.getvalue() == named[2] == ""


def test_a_notebook_cell_has_a_bar_per_act_and_escapes_what_it_is_told():
    shown: list[str] = []
    cell = NotebookCell(shown.append)
    cell.say("<b>note</b>")
    cell.stage("range test", 100)
    cell.advance(40)
    cell.stage("studies", 50)
    cell.advance(50)
    assert "&lt;b&gt;note&lt;/b&gt;" in shown[-1]
    assert shown[-1].count("<progress") == 2
    assert "100 of 100 updates" in shown[-1]
    drawn = len(shown)
    for _ in range(5):
        cell.advance(0)
    assert len(shown) == drawn  # not drawn again without a new percent


def test_the_script_of_an_object_has_a_marked_place_that_is_filled_in(finished, tmp_path):
    script = (finished.path / "best_schedule.py").read_text()
    compile(script, "best_schedule.py", "exec")
    assert "task." not in script.replace("task.py", "")
    filled = {
        "model": "torch.nn.Linear(4, 1)",
        "optimizer": "torch.optim.SGD(model.parameters(), LR)",
        "train_loader": "[(torch.ones(8, 4), torch.ones(8, 1))] * 3",
        "valid_loader": "train_loader",
        "criterion": "torch.nn.functional.mse_loss",
        "metric_functions": '{"error": torch.nn.functional.l1_loss}',
    }
    lines = script.splitlines()
    for name, value in filled.items():
        places = [i for i, line in enumerate(lines) if line.startswith(f"{name} = ...")]
        assert len(places) == 1, name
        lines[places[0]] = f"{name} = {value}"
    assert not any(line.endswith("= ...") or " = ...  #" in line for line in lines)
    (tmp_path / "filled.py").write_text("\n".join(lines))
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(tmp_path / "filled.py"))
    assert len(printed.getvalue().splitlines()) == 3


def drop_some(rows):
    batch = torch.utils.data.default_collate(rows)
    return batch if float(batch[1][0]) < 1 else None


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_that_were_none_are_noted_in_the_record_and_the_report(tmp_path, workers):
    rows = regression_rows(60)
    task = linear_task(
        epochs=2,
        train=DataLoader(rows, 4, collate_fn=drop_some),
        valid=DataLoader(rows, 4, collate_fn=drop_some),
    )
    run = lrfinder.run(task, out=tmp_path / "run", workers=workers, **SMALL, **QUIET)
    notes = [note for note in run.summary["notes"] if "None" in note]
    assert [note.split(" batches")[0].split()[-1] for note in notes] == ["training", "validation"]
    assert (tmp_path / "run" / "report.md").read_text(encoding="utf-8").count("were None") == 2
    script = (tmp_path / "run" / "best_schedule.py").read_text(encoding="utf-8")
    assert "batches_of(valid_loader)" in script


class EndlessRows(IterableDataset):
    def __iter__(self):
        rows = list(regression_rows())
        while True:
            yield from rows


def test_an_endless_validation_stream_ends_a_run_in_one_line(tmp_path):
    task = linear_task(valid=DataLoader(EndlessRows(), 1))
    with pytest.raises(LRFinderError, match=r"must end.*__len__") as error:
        lrfinder.run(task, out=tmp_path / "run", **SMALL, **QUIET)
    assert "\n" not in str(error.value)
