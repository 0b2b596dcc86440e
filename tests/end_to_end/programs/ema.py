"""Weights averaged by a hook of the optimizer, evaluated by their average."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import Task


def rings(count, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=generator)
    angle = 2 * torch.pi * torch.rand(count, generator=generator)
    radius = 1 + y + 0.25 * torch.randn(count, generator=generator)
    return TensorDataset(torch.stack([radius * angle.cos(), radius * angle.sin()], 1), y)


class Averaged(nn.Module):
    """The network in training, its average when it is evaluated."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.net.append(nn.Linear(32, 3))
        self.average = torch.optim.swa_utils.AveragedModel(
            self.net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
        )
        self.average.requires_grad_(False)

    def forward(self, x):
        return self.net(x) if self.training else self.average(x)


def make_optimizer(model, lr):
    optimizer = torch.optim.Adam(model.net.parameters(), lr)
    optimizer.register_step_post_hook(lambda *_: model.average.update_parameters(model.net))
    return optimizer


def make_task():
    return Task(
        model=Averaged,
        train=rings(600, 0),
        valid=rings(300, 1),
        criterion=nn.CrossEntropyLoss(),
        optimizer=make_optimizer,
        batch_size=32,
        epochs=8,
    )
