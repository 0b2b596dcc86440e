"""A body that was trained before, at an lr of its own, and a new head, whose lr is searched."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import Task


def rows(count, seed, turned):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 12, generator=generator)
    features = torch.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3], x[:, 4], x[:, 5]], 1)
    mix = torch.randn(4, 5, generator=torch.Generator().manual_seed(40 + turned))
    return TensorDataset(x, (features @ mix).argmax(1))


def pretrained_body():
    """As a checkpoint gives it: the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        net = nn.Sequential(body, nn.Linear(32, 5))
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        x, y = rows(1000, 5, turned=0).tensors
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return body


STATE = pretrained_body().state_dict()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.body.load_state_dict(STATE)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.body(x))


def make_task():
    return Task(
        model=Classifier,
        train=rows(500, 1, turned=1),
        valid=rows(300, 2, turned=1),
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.AdamW(
            [{"params": model.body.parameters(), "lr": 1e-4}, {"params": model.head.parameters()}],
            lr,
        ),
        batch_size=32,
        epochs=8,
    )
