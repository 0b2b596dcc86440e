"""Whose fault a failure is: the same batch with the initial weights tells."""

import re

import pytest
import torch
from small_tasks import CONSTANT, linear_model, linear_task, plan, regression_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from lrfinder.errors import TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

TRAINERS = [SequentialTrainer, BatchedTrainer]
X, Y = regression_rows().tensors
VALID = TensorDataset(*regression_rows(41, seed=1).tensors)


def with_rows(x=None, y=None, **fields) -> Task:
    train = TensorDataset(X if x is None else x, Y if y is None else y)
    return linear_task(train=train, valid=VALID, **fields)


def changed(values: torch.Tensor, rows: list[int], number: float) -> torch.Tensor:
    other = values.clone()
    other[rows] = number
    return other


def ignoring(output, target):
    """Mean over the rows that count: nan for a batch without any."""
    return ((output - target).square() * (target < 1e6)).sum() / (target < 1e6).sum()


def root(output, target):
    """A loss whose gradient is not finite where a target is met exactly."""
    return ((output - target) * (target != 7)).abs().sqrt().mean()


class Dropped(nn.Module):
    """A linear model with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()

    def forward(self, x):
        return self.layer(nn.functional.dropout(x, 0.3, self.training))


BAD = {
    "an input": (lambda: with_rows(changed(X, [7], float("nan"))), "loss", "row 7 of the"),
    "inputs": (
        lambda: with_rows(changed(X, [7, 31], float("inf"))),
        "loss",
        r"row(s 7, 31| 31| 7)",
    ),
    "a target": (lambda: with_rows(y=changed(Y, [0], float("nan"))), "loss", "row 0 of the"),
    "dropout": (
        lambda: with_rows(changed(X, [7], float("nan")), model=Dropped),
        "loss",
        "row 7 of the training data",
    ),
    "accumulated": (
        lambda: with_rows(changed(X, [7], float("nan")), accumulate=2),
        "loss",
        "row 7 of the training data",
    ),
    "clipped": (
        lambda: with_rows(changed(X, [7], float("nan")), clip_norm=1.0),
        "loss",
        "row 7 of the training data",
    ),
    "a batch that counts nothing": (
        lambda: with_rows(y=changed(Y, [5], 1e7), criterion=ignoring, batch_size=1),
        "loss",
        "all its rows, 5 of the training data",
    ),
    "a gradient": (
        lambda: with_rows(y=changed(Y, [5], 7.0), criterion=root),
        "gradient",
        "row 5 of the training data",
    ),
    "of a subset": (
        lambda: with_subset(changed(X, [7], float("nan"))),
        "loss",
        "row 7 of the training data",
    ),
}


def with_subset(x: torch.Tensor) -> Task:
    others = [row for row in reversed(range(60)) if row % 3]
    return linear_task(train=torch.utils.data.Subset(TensorDataset(x, Y), others))


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("kind", BAD)
def test_a_batch_that_no_lr_can_take_is_the_tasks_fault(kind, trainer):
    make, what, rows = BAD[kind]
    plans = [Plan(lr, CONSTANT, seed) for seed in (0, 1) for lr in (1e-6, 1e-3)]
    with pytest.raises(TaskFailed, match=f"the {what} of training batch .*whatever the lr") as told:
        fit(make(), plans, trainer=trainer())
    assert "\n" not in str(told.value)
    assert re.search(rows, str(told.value)), str(told.value)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_batch_is_named_and_rows_of_a_loader_are_those_of_the_batch(trainer):
    x = changed(X, [37], float("nan"))
    task = linear_task(train=DataLoader(TensorDataset(x, Y), 16))
    says = r"training batch 3 of epoch 1 \(seed 0\) is nan .* row 5 of the batch"
    with pytest.raises(TaskFailed, match=says):
        fit(task, [plan(1e-6)], trainer=trainer())


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_high_lr_still_diverges(trainer):
    history = fit(linear_task(epochs=40), [plan(30.0), plan(1e-3)], trainer=trainer())
    assert history.diverged_at[0] >= 0
    assert history.diverged_at[1] == -1


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("every", ["batch", "epoch"])
def test_a_range_test_does_not_call_it_divergence(trainer, every):
    task = with_rows(changed(X, [7], float("nan")))
    with pytest.raises(TaskFailed, match="row 7 of the training data"):
        range_test(task, steps=20, every=every, trainer=trainer())
    held_out = linear_task(train=TensorDataset(changed(X, [7], float("nan")), Y), valid=None)
    with pytest.raises(TaskFailed, match=r"row 7 of the training data|before the first update"):
        range_test(held_out, steps=20, every=every, trainer=trainer())


@pytest.mark.parametrize("engine", ["sequential", "batched", "auto"])
@pytest.mark.parametrize("given", [{"lr": 0.01}, {"lr_range": (0.001, 0.01)}])
def test_a_run_does_not_call_it_divergence(tmp_path, engine, given):
    task = with_rows(changed(X, [7], float("nan")))
    options = {"families": ["step"], "trials": 1, "engine": engine, "progress": False, **given}
    with pytest.raises(TaskFailed, match="row 7 of the training data"):
        lrfinder.run(task, out=tmp_path / "r", **options)


def test_nothing_is_built_again_while_losses_are_finite():
    built = []

    def counted() -> nn.Module:
        built.append(1)
        return linear_model()

    task = linear_task(model=counted)
    fit(task, [plan(1e-3)])
    before = len(built)
    fit(task, [plan(1e-3)])
    assert len(built) == before + 1
