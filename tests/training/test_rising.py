"""A loss that rises whatever the lr is does not make a run diverge, and a divergence still does."""

import numpy as np
import pytest
import torch
from small_loops import small_loop
from small_tasks import FEATURES, linear_model, linear_task, plan
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.rising import rise_by_itself
from lrfinder.training.trainers.sequential import SequentialTrainer

UPDATES = 60
TRAINERS = (SequentialTrainer, BatchedTrainer)


def harder_and_harder():
    """Rows by their difficulty: the targets of a batch are larger than those of the one before."""
    x = torch.tensor(np.random.default_rng(0).standard_normal((8 * UPDATES, FEATURES)))
    size = torch.arange(len(x))[:, None] / len(x)
    data = TensorDataset(x, size * x.sum(dim=1, keepdim=True))
    return linear_task(train=DataLoader(data, 8), epochs=1)


class Margin(nn.Module):
    """A penalty whose weight a buffer of the model counts up."""

    def __init__(self):
        super().__init__()
        self.layer = linear_model()
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.layer(x)


def growing_penalty():
    def loss(model, batch):
        x, y = batch
        return nn.functional.mse_loss(model(x), y) + model.calls**2

    return linear_task(model=Margin, criterion=None, loss=loss, epochs=UPDATES // 4)


def growing_weight():
    """A loop that weighs its loss by the number of updates so far."""

    def train(training):
        model = linear_model()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        training.drive(optimizer)
        x = torch.ones(4, FEATURES, dtype=torch.float64)
        training.measure(lambda: {"valid_loss": (model(x) - 3).square().mean()})
        for update in range(training.updates):
            optimizer.zero_grad()
            loss = update * (model(x) - 3).square().mean()
            loss.backward()
            optimizer.step()
            training.log(loss)

    return small_loop(train, epochs=1, steps_per_epoch=UPDATES)


@pytest.mark.parametrize("make", [harder_and_harder, growing_penalty, growing_weight])
@pytest.mark.parametrize(("lr", "diverges"), [(1e-7, False), (1e4, True)])
def test_what_rises_at_any_lr_is_no_divergence(make, lr, diverges):
    history = fit(make(), [plan(lr, seed=3)])
    assert (history.diverged_at[0] >= 0) == diverges
    assert np.isfinite(history.measures["loss"][0, -1]) == (not diverges)


def test_both_trainers_take_the_rise_off():
    plans = [plan(lr, seed) for lr in (1e-7, 1e4) for seed in (0, 1)]
    one, other = (fit(harder_and_harder(), plans, trainer=t()) for t in TRAINERS)
    assert one.diverged_at.tolist() == other.diverged_at.tolist()
    assert (one.diverged_at < 0).tolist() == [True, True, False, False]


def test_a_loss_that_only_varies_does_not_rise():
    assert rise_by_itself(linear_task(epochs=20), None, 80, 0, 80).tolist() == [0.0] * 80
