"""Measures that take gradients themselves are evaluated as they are written, by either trainer."""

import numpy as np
import pytest
import torch
from small_tasks import plan
from torch import nn
from torch.func import functional_call
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

from lrfinder import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

X = torch.linspace(-1, 1, 64)[:, None]
FORCES = X.cos()


def residual(model, batch):
    """Of a differential equation, by the derivative of the model's output."""
    x = batch[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return ((slope - batch[1]) ** 2).mean()


def after_a_step(model, batch):
    """The loss after one step of an inner loop, as in meta-learning."""
    x, y = batch
    parameters = dict(model.named_parameters())
    inner = mse_loss(model(x), y)
    gradients = torch.autograd.grad(inner, list(parameters.values()), create_graph=True)
    moved = {k: p - 0.1 * g for (k, p), g in zip(parameters.items(), gradients, strict=True)}
    return mse_loss(functional_call(model, moved, (x,)), y)


def fitted(model, batch):
    return mse_loss(model(batch[0]), batch[1])


class WithForces(nn.Module):
    """Energies, and the forces that are their derivatives."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]


def net():
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


KINDS = {
    "loss": {"model": net, "loss": residual},
    "inner loop": {"model": net, "loss": after_a_step},
    "valid_loss": {"model": net, "loss": fitted, "valid_loss": residual},
    "metric": {"model": net, "loss": fitted, "metrics": {"residual": residual}},
    "model": {"model": WithForces, "criterion": nn.MSELoss()},
    "evaluate": {
        "model": net,
        "loss": fitted,
        "evaluate": lambda model: {"residual": residual(model, (X, FORCES))},
    },
}


def task_of(kind):
    rows = TensorDataset(X, FORCES)
    return Task(
        train=rows,
        valid=rows,
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        batch_size=16,
        epochs=3,
        **KINDS[kind],
    )


def by_hand(task, model):
    """The measures of the whole set with gradients enabled, as the user's own program has them."""
    batch = (X, FORCES)
    if task.criterion is not None:
        return {"loss": task.criterion(model(X), FORCES)}
    found = {"loss": (task.valid_loss or task.loss)(model, batch)}
    found |= {name: metric(model, batch) for name, metric in task.metrics.items()}
    return found | ({} if task.evaluate is None else task.evaluate(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_measure_may_take_gradients(kind):
    task = task_of(kind)
    found = fit(task, [plan(0.01, 0)], trainer=SequentialTrainer()).measures
    assert set(found) == set(task.measures)
    for name, value in by_hand(task, task.built(0)).items():
        assert found[name][0, 0] == pytest.approx(value.item(), rel=1e-5), name
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize("kind", ["inner loop", "valid_loss", "metric", "evaluate"])
def test_both_trainers_evaluate_it_alike_where_it_can_be_batched(kind):
    task, plans = task_of(kind), [plan(0.01, 0), plan(0.02, 1)]
    one = fit(task, plans, trainer=SequentialTrainer()).measures
    other = fit(task, plans, trainer=BatchedTrainer()).measures
    for name in task.measures:
        assert np.allclose(one[name], other[name], rtol=1e-3)


def test_what_takes_no_gradients_is_evaluated_without_them():
    enabled = set()

    def metric(model, batch):
        enabled.add(torch.is_grad_enabled())
        return fitted(model, batch)

    rows = TensorDataset(X, FORCES)
    task = Task(
        model=net,
        loss=fitted,
        metrics={"seen": metric},
        train=rows,
        valid=rows,
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        epochs=1,
    )
    fit(task, [plan(0.01, 0)], trainer=SequentialTrainer())
    assert enabled == {False}
