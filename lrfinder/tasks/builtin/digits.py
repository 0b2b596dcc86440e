"""Digits: 8x8 grey images of ten digits, scikit-learn's `load_digits`, with a small MLP."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder.tasks.task import Task


def make_task() -> Task:
    """MLP 64-128-10 with SGD and momentum 0.9; 20 epochs of 23 batches."""
    train, valid = split()
    return Task(
        name="digits",
        model=lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
        train=train,
        valid=valid,
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9),
        metrics={"accuracy": accuracy},
        batch_size=64,
        epochs=20,
    )


def split() -> tuple[TensorDataset, TensorDataset]:
    """1437 training and 360 validation rows: x float32[rows, 64] in 0..1, y int64[rows]."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.2, stratify=y, random_state=0)
    x_train, x_valid = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    y_train, y_valid = (torch.tensor(part, dtype=torch.int64) for part in parts[2:])
    return TensorDataset(x_train, y_train), TensorDataset(x_valid, y_valid)


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Share of rows whose largest logit is the target's."""
    return (output.argmax(dim=-1) == target).float().mean()
