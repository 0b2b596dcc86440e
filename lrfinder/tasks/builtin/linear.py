"""One linear layer under step decay: the smallest program that shows StepLR at work."""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.task import Baseline, Task


def make_task() -> Task:
    """nn.Linear(10, 1), mean squared error, SGD; 100 epochs of one batch of 32 rows.

    The rows come from a fixed pool of 1024: y = x @ w + noise with standard deviation 0.5.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(10, 1, generator=generator)

    def rows(count: int) -> TensorDataset:
        x: Tensor = torch.randn(count, 10, generator=generator)
        return TensorDataset(x, x @ weights + 0.5 * torch.randn(count, 1, generator=generator))

    return Task(
        name="linear",
        model=lambda: nn.Linear(10, 1),
        train=rows(1024),
        valid=rows(256),
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        batch_size=32,
        epochs=100,
        steps_per_epoch=1,
        baseline=Baseline(0.1, Schedule(FAMILIES["step"], {"step_size": 30, "gamma": 0.1})),
    )
