"""What a resumed run relies on: it is compared, mended or refused, and never believed unseen."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
import torch
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from small_tasks import absolute_error, linear_task
from torch.utils.data import DataLoader

import lrfinder
from lrfinder.commands import finished_run
from lrfinder.errors import InvalidArgument, RunFolderError
from lrfinder.results.folder import own_storage

OPTIONS = {
    "families": ["mine", "step"],
    "trials": 2,
    "trial_seeds": 1,
    "confirm_seeds": 2,
    "lr_range": (0.01, 0.05),
    "engine": "sequential",
    "progress": False,
}


def doubled(output, target):
    return 2 * absolute_error(output, target)


def family(**searched) -> lrfinder.Family:
    def build(optimizer, params):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, params["gamma"])

    def space(trial, budget):
        found = {"gamma": trial.suggest_float("gamma", 0.5, 0.9)}
        for name, choices in searched.items():
            trial.suggest_categorical(name, choices)
        return found

    return lrfinder.Family(name="mine", build=build, space=space)


METRICS = {"a": absolute_error, "b": doubled}


def task(metrics=METRICS, **searched) -> lrfinder.Task:
    return linear_task(metrics=metrics, schedules={"mine": family(**searched)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "r"
    lrfinder.run(task(), out=folder, **OPTIONS)
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def resumed(folder: Path, again: lrfinder.Task | None = None) -> lrfinder.Run:
    return lrfinder.run(again or task(), resume=folder, progress=False)


OTHER = {
    "order": (task(dict(reversed(METRICS.items()))), r"metrics \['a', 'b'\], but got \['b', 'a'\]"),
    "one more": (task({**METRICS, "c": doubled}), "made with metrics"),
    "one less": (task({"a": absolute_error}), "made with metrics"),
    "none": (task({}), "made with metrics"),
    "searched": (task(mode=["x", "y"]), r"made with searched .*gamma.*, but got .*mode"),
}


@pytest.mark.parametrize("other", OTHER)
@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_what_the_record_depends_on_is_compared(copy, other, whole):
    again, says = OTHER[other]
    if not whole:  # as if it had been interrupted in the comparison
        (copy / "comparison.csv").unlink()
    files = {path: path.read_bytes() for path in copy.glob("*.csv")}
    with pytest.raises(InvalidArgument, match=says) as told:
        resumed(copy, again)
    assert "\n" not in str(told.value)
    assert lrfinder.open_run(copy).summary["status"] == "complete"
    assert {path: path.read_bytes() for path in copy.glob("*.csv")} == files
    assert resumed(copy).summary["status"] == "complete"


def test_the_choices_of_a_parameter_are_compared(tmp_path):
    lrfinder.run(task(mode=["x", "y"]), out=tmp_path / "r", **OPTIONS)
    with pytest.raises(InvalidArgument, match="made with searched"):
        resumed(tmp_path / "r", task(mode=["x", "z"]))


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run, but for the updates of a run, which it may share with another one."""
    names = ("comparison.csv", "trials.csv")
    return {n: pd.read_csv(folder / n).drop(columns="updates", errors="ignore") for n in names}


def without_its_last_newline(path: Path, cut: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-cut])


@pytest.mark.parametrize("cut", [1, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["comparison.csv", "curves.csv", "trials.csv"])
def test_a_last_line_that_was_cut_is_not_believed_and_is_made_again(copy, name, cut):
    before, curves = tables(copy), lrfinder.open_run(copy).curves
    without_its_last_newline(copy / name, cut)
    if name == "comparison.csv":
        assert len(lrfinder.open_run(copy).confirmed) == 2 * 3 - 1
    with pytest.raises(RunFolderError, match=rf"{name} is missing or damaged"):
        finished_run(copy)
    run = resumed(copy)
    assert run.summary["status"] == "complete"
    assert all(tables(copy)[name].equals(before[name]) for name in before)
    keys = ["act", "name", "trial", "seed", "update"]
    assert run.curves.set_index(keys).sort_index().equals(curves.set_index(keys).sort_index())
    finished_run(copy)


@pytest.mark.parametrize("name", ["comparison.csv", "curves.csv", "trials.csv"])
def test_a_missing_table_is_made_again_where_it_can_be(copy, name):
    (copy / name).unlink()
    assert resumed(copy).summary["status"] == "complete"
    finished_run(copy)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 5])
def test_a_range_test_whose_last_line_was_cut_is_made_again(tmp_path, cut):
    options = {k: v for k, v in OPTIONS.items() if k != "lr_range"} | {"steps": 20, "probes": 3}
    folder = tmp_path / "r"
    before = lrfinder.run(task(), out=folder, **options)
    table = (folder / "range_test.csv").read_text()
    without_its_last_newline(folder / "range_test.csv", cut)
    with pytest.raises(RunFolderError, match=r"range_test.csv is missing or damaged"):
        finished_run(folder)
    assert resumed(folder).suggestion == before.suggestion
    assert (folder / "range_test.csv").read_text() == table


BY_HAND = {
    "without parameters": create_trial(value=-1.0),
    "with its own": create_trial(
        value=-1.0,
        params={"lr": 0.02},
        distributions={"lr": FloatDistribution(0.01, 0.05, log=True)},
    ),
    "failed": create_trial(state=TrialState.FAIL),
    "pruned": create_trial(state=TrialState.PRUNED),
    "waiting": create_trial(state=TrialState.WAITING),
}


@pytest.mark.parametrize("kind", BY_HAND)
@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_trial_that_was_put_in_by_hand_is_not_counted(copy, kind, whole):
    storage = own_storage(copy)
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        if not whole:
            (copy / "comparison.csv").unlink(missing_ok=True)
        study.add_trial(BY_HAND[kind])
    before = lrfinder.open_run(copy)
    run = resumed(copy)
    assert run.summary["status"] == "complete"
    assert run.summary["best"] == before.summary["best"]
    noted = any("by hand is not counted: 1 trial" in note for note in run.summary["notes"])
    assert noted == (BY_HAND[kind].state == TrialState.COMPLETE)
    assert resumed(copy).summary["notes"] == run.summary["notes"]


def test_the_task_may_change_in_what_the_record_does_not_depend_on(copy):
    assert resumed(copy, replace(task(), batch_size=16)).summary["status"] == "complete"


UNSEEDED = """
import torch
from torch.utils.data import TensorDataset
import lrfinder

{seed}
x = torch.randn(60, 4)
y = x.sum(1, keepdim=True)

def make_task():
    return lrfinder.Task(
        model=lambda: torch.nn.Linear(4, 1),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        criterion=torch.nn.MSELoss(),
        train=TensorDataset(x[:40], y[:40]),
        valid=TensorDataset(x[40:], y[40:]),
        epochs=2,
    )
"""


def task_file(folder: Path, seed: str = "") -> str:
    path = folder / "drawn.py"
    path.write_text(UNSEEDED.format(seed=seed))
    return str(path)


def test_data_drawn_without_a_seed_are_refused_when_a_run_is_resumed(tmp_path):
    options = {**OPTIONS, "families": ["step"], "trials": 1}
    name = task_file(tmp_path)
    lrfinder.run(name, out=tmp_path / "r", **options)
    says = "the training data and the validation data must be those that the run began with"
    torch.seed()
    with pytest.raises(InvalidArgument, match=says) as told:
        lrfinder.run(resume=tmp_path / "r", progress=False)
    assert "\n" not in str(told.value)
    assert lrfinder.open_run(tmp_path / "r").summary["status"] == "complete"
    task_file(tmp_path, "torch.manual_seed(0)")  # as it says
    lrfinder.run(name, out=tmp_path / "s", **options)
    torch.seed()
    assert lrfinder.run(resume=tmp_path / "s", progress=False).summary["status"] == "complete"


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["", "torch.manual_seed(0)"])
def test_workers_with_other_data_are_refused_before_anything_is_trained(tmp_path, seed):
    options = {**OPTIONS, "families": ["step"], "trials": 1, "workers": 2}
    torch.seed()
    name = task_file(tmp_path, seed)
    if seed:
        assert lrfinder.run(name, out=tmp_path / "r", **options).summary["status"] == "complete"
        return
    with pytest.raises(InvalidArgument, match="the same in every process, but a worker"):
        lrfinder.run(name, out=tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_a_run_on_a_cluster_that_is_gone_goes_on_elsewhere(copy):
    """Who trains makes no difference, so that workers need not stay what they were."""
    config = copy / "config.toml"
    config.write_text(f'ray = "127.0.0.1:1"\n{config.read_text()}')
    with pytest.raises(InvalidArgument, match=r"ray"):
        lrfinder.run(task(), resume=copy, progress=False)
    run = lrfinder.run(task(), resume=copy, progress=False, workers=1)
    assert run.summary["status"] == "complete"


def test_a_folder_without_a_fingerprint_goes_on_and_gets_one(copy):
    path = copy / "summary.json"
    summary = json.loads(path.read_text())
    assert set(summary.pop("fingerprint")) == {
        "training data",
        "validation data",
        "initial weights",
    }
    path.write_text(json.dumps(summary))
    (copy / "comparison.csv").unlink()
    assert resumed(copy).summary["fingerprint"]


def test_weights_given_by_other_objects_are_refused(tmp_path):
    def given() -> lrfinder.Task:
        model = torch.nn.Linear(4, 1, dtype=torch.float64)
        train, valid = (DataLoader(data, 16) for data in (linear_task().train, linear_task().valid))
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        return lrfinder.Task.from_objects(
            model, optimizer, torch.nn.MSELoss(), train, valid, epochs=2
        )

    options = {**OPTIONS, "families": ["step"], "trials": 1}
    lrfinder.run(given(), out=tmp_path / "r", **options)
    with pytest.raises(InvalidArgument, match="the initial weights must be those that the run"):
        resumed(tmp_path / "r", given())
