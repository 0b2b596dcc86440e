"""What a task uses today: a number, a schedule, or any function that builds a scheduler."""

import io
import runpy
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_tasks import PER_EPOCH, linear_task
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    ReduceLROnPlateau,
    StepLR,
)

import lrfinder
from lrfinder import Baseline
from lrfinder.comparison.candidates import Candidate
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.experiment import Experiment
from lrfinder.report.scripts.training_script import training_loop
from lrfinder.results.answers import best_facts
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.settings import RunSettings
from lrfinder.tasks.loading import load_named
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

FACTORIES = {
    "lambda": lambda optimizer: LambdaLR(optimizer, lambda t: 1 / (1 + t)),
    "class": partial(StepLR, step_size=1, gamma=0.5),
    "bare class": partial(ExponentialLR, gamma=0.5),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
}
SETTINGS = RunSettings(
    task="own", families=["step"], lr=0.02, trials=1, trial_seeds=1, confirm_seeds=2, epochs=3
)


@pytest.mark.parametrize("lr", [0.1, 1, np.float64(0.1)])
def test_a_number_is_a_constant_lr(lr):
    baseline = linear_task(baseline=lr).baseline
    assert baseline == Baseline(float(lr))
    assert baseline.recipe.schedule == Schedule(FAMILIES["constant"])


@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()])
@pytest.mark.parametrize("name", FACTORIES)
def test_a_function_that_builds_a_scheduler_trains_as_it_is_pasted(name, trainer):
    task = linear_task(baseline=Baseline(0.02, FACTORIES[name]), epochs=4)
    recipe = task.baseline.recipe
    history = fit(task, [Plan(recipe.lr, recipe.schedule, 0)], trainer=trainer)
    optimizer, rows = task.optimizer(task.model(), recipe.lr), []
    scheduler = FACTORIES[name](optimizer)
    for epoch in range(task.epochs):
        rows.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        measured = [history.measures["loss"][0, epoch + 1]] if name == "plateau" else []
        scheduler.step(*measured)
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH, 0], rows, rtol=1e-12)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_is_a_candidate_of_a_run_and_of_one_that_is_resumed(tmp_path, workers):
    task = linear_task(baseline=Baseline(0.02, FACTORIES["lambda"]), name="own")
    options = SETTINGS.model_dump(exclude_unset=True, exclude={"task"})
    run = lrfinder.run(task, out=tmp_path / "run", progress=False, workers=workers, **options)
    assert "baseline" in set(run.comparison.values.columns)
    again = lrfinder.run(task, resume=tmp_path / "run", progress=False)
    assert again.comparison.values.equals(run.comparison.values)


HEAD = """
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import TensorDataset
from lrfinder import Baseline, Task

x = torch.randn(65, 4, generator=torch.Generator().manual_seed(0))
rows = TensorDataset(x, x.sum(1, keepdim=True))


def make_task():
    return Task(
        model=lambda: nn.Linear(4, 1),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        criterion=nn.MSELoss(), epochs=3, train=rows, valid=rows,
        baseline=Baseline(0.1, lambda optimizer: StepLR(optimizer, 1, 0.5)),
    )
"""


@pytest.mark.parametrize("as_object", [False, True])
def test_its_script_runs(tmp_path, as_object):
    (tmp_path / "own_baseline.py").write_text(HEAD, encoding="utf-8")
    task, reference = load_named(str(tmp_path / "own_baseline.py"))
    recipe = task.baseline.recipe
    best = best_facts(Candidate("baseline", recipe.lr, recipe.schedule), "valid_loss")
    script = training_loop(task, None if as_object else reference, best)
    if as_object:
        filled = {
            "model = ...": "task = made.make_task(); model = task.model()",
            "optimizer = ...": "optimizer = task.optimizer(model, LR)",
            "train_loader = ...": "train_loader = torch.utils.data.DataLoader(task.train, 64)",
            "valid_loader = ...": "valid_loader = train_loader",
            "criterion = ...": "criterion = task.criterion",
            "task = ...": "task = task",
        }
        for line, code in filled.items():
            assert line in script
            script = script.replace(line, code)
        script = f"import own_baseline as made\n{script}"
    (tmp_path / "best_schedule.py").write_text(script, encoding="utf-8")
    with redirect_stdout(io.StringIO()) as shown:
        runpy.run_path(str(tmp_path / "best_schedule.py"))
    assert [line.split()[3] for line in shown.getvalue().splitlines()] == ["0.1", "0.05", "0.025"]


def fails(optimizer):
    raise ZeroDivisionError("by nothing")


def on_adam_only(optimizer):
    return LambdaLR(optimizer, lambda t: optimizer.param_groups[0]["betas"][0] ** t)


def plateau(mode):
    return lambda optimizer: ReduceLROnPlateau(optimizer, mode=mode)


@pytest.mark.parametrize(
    ("schedule", "error", "said"),
    [
        (fails, TaskFailed, r"starting the schedule baseline, .*by nothing \(test_baseline.py"),
        (lambda optimizer: None, InvalidArgument, "build of baseline must return"),
        (
            plateau("max"),
            InvalidArgument,
            "mode of baseline must be 'min' .* but got 'max'; name .*watch=",
        ),
        (
            Schedule(FAMILIES["plateau"], {"mode": "max", "factor": 0.5, "patience": 0}),
            InvalidArgument,
            "mode of plateau must be 'min'",
        ),
    ],
)
def test_what_is_wrong_with_it_is_one_line_before_anything_trains(schedule, error, said):
    with pytest.raises(error, match=said) as raised:
        Experiment(SETTINGS, linear_task(baseline=Baseline(0.1, schedule)))
    assert "\n" not in str(raised.value)


def test_plateau_may_follow_a_metric_that_is_maximised():
    metrics = {"share": lambda output, y: (output * y > 0).double().mean()}
    task = linear_task(baseline=Baseline(0.1, plateau("max")), metrics=metrics)
    Experiment(SETTINGS.model_copy(update={"objective": "share"}), task)


def test_a_scheduler_for_another_optimizer_than_sgd_is_taken():
    adam = {"optimizer": lambda model, lr: torch.optim.Adam(model.parameters(), lr)}
    task = linear_task(baseline=Baseline(0.1, on_adam_only), **adam)
    Experiment(SETTINGS, task)
    assert replace(task, epochs=4).baseline == task.baseline


@pytest.mark.parametrize(
    "given",
    [
        FAMILIES["step"],
        "cosine",
        CosineAnnealingLR(torch.optim.SGD([torch.zeros(1)], 0.1), 10),
    ],
)
def test_what_is_no_schedule_is_refused(given):
    with pytest.raises(InvalidArgument, match="write lambda optimizer") as error:
        Baseline(0.1, given)
    assert "\n" not in str(error.value)


def warm(it):
    return 0.05 * (it + 1) / 4 if it < 4 else 0.05 * 0.9 ** (it - 4)


@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()])
def test_a_function_of_the_updates_number_is_what_is_trained_by(trainer):
    task = linear_task(baseline=warm, epochs=3)
    recipe = task.baseline.recipe
    assert recipe.lr == 0.05
    history = fit(task, [Plan(recipe.lr, recipe.schedule, 0)], trainer=trainer)
    np.testing.assert_allclose(
        history.lr[0, :, 0], [warm(it) for it in range(3 * PER_EPOCH)], rtol=1e-12
    )
    again = replace(task, epochs=4).baseline
    assert again.recipe.schedule.per == "batch"
    assert str(recipe.schedule) == "own warm()"


def test_what_stands_for_a_baseline_is_that_baseline():
    factory = FACTORIES["class"]
    spelt = linear_task(baseline="0.1, step, step_size=3, gamma=0.5").baseline
    step = Schedule(FAMILIES["step"], {"step_size": 3, "gamma": 0.5})
    assert spelt == Baseline(0.1, step) == linear_task(baseline=(0.1, step)).baseline
    assert linear_task(baseline="0.1").baseline == Baseline(0.1)
    pair = linear_task(baseline=(0.1, factory)).baseline
    assert pair.recipe.schedule.rows([0.1], 3).ravel().tolist() == [0.1, 0.05, 0.025]


def test_a_scheduler_is_stepped_as_the_schedules_of_its_task_are():
    pairs = [
        (linear_task(baseline=(0.1, FACTORIES["class"])), "epoch"),
        (linear_task(baseline=(0.1, FACTORIES["class"]), updates=21), "batch"),
        (linear_task(baseline=Baseline(0.1, FACTORIES["class"], per="batch")), "batch"),
        (linear_task(baseline=Baseline(0.1, FACTORIES["class"], per="epoch"), updates=21), "epoch"),
        (linear_task(baseline="0.1,exponential,gamma=0.9", updates=21), "batch"),
    ]
    assert [task.baseline.recipe.schedule.per for task, _ in pairs] == [per for _, per in pairs]


@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("watch", ["valid_loss", "share"])
def test_plateau_may_follow_any_measure_in_either_mode(watch, mode, trainer):
    def factory(optimizer):
        return ReduceLROnPlateau(optimizer, mode=mode, factor=0.5, patience=0)

    metrics = {"share": lambda output, y: (output * y > 0).double().mean()}
    task = linear_task(baseline=Baseline(0.02, factory, watch=watch), metrics=metrics, epochs=6)
    recipe = task.baseline.recipe
    Experiment(SETTINGS, task)  # whose objective is another one, or in another direction
    others = Plan(recipe.lr, Schedule(FAMILIES["constant"]), 0)
    history = fit(task, [Plan(recipe.lr, recipe.schedule, 0), others], trainer=trainer)
    optimizer, rows = task.optimizer(task.model(), recipe.lr), []
    scheduler = factory(optimizer)
    for measured in history.measures["loss" if watch == "valid_loss" else watch][0, 1:]:
        rows.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(measured)
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH, 0], rows, rtol=1e-12)
    assert f"# after every epoch: scheduler.step({watch})" in recipe.schedule.code("other")


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (lambda: Baseline(0.1, plateau("max"), watch="f1"), "watch must be one of valid_loss, but"),
        (lambda: Baseline(0.1, FACTORIES["class"], watch="valid_loss"), "but got a StepLR|partial"),
        (lambda: Baseline(0.1, plateau("max"), per="step"), "baseline: per must be 'epoch' or"),
        (
            lambda: Baseline(0.1, Schedule(FAMILIES["constant"]), per="batch"),
            "but got a Schedule; say per in it",
        ),
        (lambda: FACTORIES["lambda"], "a function that gives no lr at update 0"),
    ],
)
def test_a_measure_or_a_period_that_does_not_fit_is_told_in_one_line(baseline, said):
    with pytest.raises(InvalidArgument, match=said) as error:
        Experiment(SETTINGS, linear_task(baseline=baseline()))
    assert "\n" not in str(error.value)
