"""A learned vector field through an adaptive solver, which gives up where the field is too wild."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import Task

TOLERANCE = 1e-3


def solve(field, y, end=1.0):
    """Heun steps whose size follows the error; as in torchdiffeq, a step may underflow."""
    t, step = 0.0, 0.25
    while t < end:
        step = min(step, end - t)
        k1 = field(y)
        k2 = field(y + step * k1)
        error = float((step * (k2 - k1) / 2).detach().abs().max())
        if error <= TOLERANCE * 10 or step <= 0:
            y, t = y + step * (k1 + k2) / 2, t + step
        step *= min(2.0, max(0.3, 0.9 * (TOLERANCE * 10 / (error + 1e-12)) ** 0.5))
        assert step > 2e-3 or t >= end, f"underflow in dt {step}"
    return y


def swirls(count, seed):
    """Points, and where they are carried by a damped rotation."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=generator)
    turn = torch.linalg.matrix_exp(torch.tensor([[-0.3, 1.5], [-1.5, -0.3]]))
    return TensorDataset(x, x @ turn.T)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.field = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 2))

    def forward(self, x):
        return solve(self.field, x)


def make_task():
    return Task(
        model=Flow,
        train=swirls(256, 0),
        valid=swirls(128, 1),
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        batch_size=32,
        epochs=8,
    )
