"""Gradient descent on (w + 1)**2 from w = 5: every run can be checked with a pocket calculator."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.task import Baseline, Task


class Quadratic(nn.Module):
    """One parameter w, which starts at 5."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(5.0))

    def forward(self) -> Tensor:
        """Return (w + 1)**2."""
        return (self.w + 1) ** 2


def make_task() -> Task:
    """40 epochs of one update; the loss has no data, training and validation are one empty row."""
    row = TensorDataset(torch.zeros(1, 1))
    decay = {"decay_rate": 0.99, "decay_steps": 1, "staircase": True}
    return Task(
        name="quadratic",
        model=Quadratic,
        train=row,
        valid=row,
        loss=_loss,
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        batch_size=1,
        epochs=40,
        baseline=Baseline(0.1, Schedule(FAMILIES["exponential_steps"], decay)),
    )


def _loss(model: nn.Module, batch: Any) -> Tensor:  # noqa: ANN401 (there is nothing in it)
    return model()
