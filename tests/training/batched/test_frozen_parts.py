"""Parts that are not trained, alike in every run or not: batched they train as each run alone."""

import numpy as np
import pytest
import torch
from small_tasks import plan
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.batched.trial_step import plan_of
from lrfinder.training.fit import fit

CLASSES, SYMBOLS, WIDTH, ROWS, LENGTH = 3, 7, 5, 48, 4


class Reader(nn.Module):
    """An embedding, a middle and a head; of these only some are trained."""

    def __init__(self, middle: type[nn.Module], *, alike: bool, trained: tuple[str, ...]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            if alike:  # as weights that are given are
                torch.manual_seed(0)
            self.symbol = nn.Embedding(SYMBOLS, WIDTH)
            self.middle = middle(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.requires_grad_(requires_grad=False)
        for name in trained:
            self.get_submodule(name).requires_grad_(requires_grad=True)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read = self.middle(self.symbol(x))
        states = read[0] if isinstance(read, tuple) else read
        return self.head(states.mean(dim=1))


def task_of(middle: type[nn.Module], *, alike: bool, trained: tuple[str, ...]) -> Task:
    numbers = torch.Generator().manual_seed(3)
    x = torch.randint(SYMBOLS, (ROWS, LENGTH), generator=numbers)
    y = x[:, 0] % CLASSES

    def optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr)

    return Task(
        model=lambda: Reader(middle, alike=alike, trained=trained),
        train=TensorDataset(x[:32], y[:32]),
        valid=TensorDataset(x[32:], y[32:]),
        criterion=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        batch_size=8,
        epochs=2,
    )


@pytest.mark.parametrize("seeds", [(1, 1, 1), (1, 1, 2)])
@pytest.mark.parametrize("trained", [("head",), ("symbol", "head")])
@pytest.mark.parametrize("alike", [True, False])
def test_a_frozen_part_trains_batched_as_it_does_alone(alike, trained, seeds):
    task = task_of(nn.GRU, alike=alike, trained=trained)
    trainer = BatchedTrainer()
    assert trainer.why_not(task) is None
    plans = [plan(0.1 * (k + 1), seed) for k, seed in enumerate(seeds)]
    alone, together = fit(task, plans), fit(task, plans, trainer=trainer)
    np.testing.assert_allclose(together.train_loss, alone.train_loss, rtol=1e-9)
    np.testing.assert_allclose(together.measures["loss"], alone.measures["loss"], rtol=1e-9)


def test_a_frozen_part_that_is_alike_in_every_run_is_computed_once():
    plan = plan_of(task_of(nn.Linear, alike=True, trained=("head",)), None)
    assert not isinstance(plan, str)
    assert plan.shares
