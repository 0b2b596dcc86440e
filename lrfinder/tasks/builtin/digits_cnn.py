"""Digits again, with a small convolutional network and batch normalisation."""

import torch
from torch import nn

from lrfinder.tasks.builtin.digits import accuracy, split
from lrfinder.tasks.task import Task


def make_task() -> Task:
    """Two 3x3 convolutions with batch normalisation, AdamW; 8 epochs of 12 batches."""
    train, valid = split()
    return Task(
        name="digits_cnn",
        model=_network,
        train=train,
        valid=valid,
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.AdamW(model.parameters(), lr),
        metrics={"accuracy": accuracy},
        batch_size=128,
        epochs=8,
    )


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )
