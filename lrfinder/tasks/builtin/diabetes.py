"""Diabetes: disease progression from ten measurements, scikit-learn's `load_diabetes`."""

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder.tasks.task import Task


def make_task() -> Task:
    """MLP 10-64-64-1 with Adam on standardised columns and target; 20 epochs of 12 batches."""
    x, y = load_diabetes(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.2, random_state=0)
    x_train, x_valid, y_train, y_valid = (torch.tensor(p, dtype=torch.float32) for p in parts)
    x_mean, x_std, y_mean, y_std = x_train.mean(0), x_train.std(0), y_train.mean(), y_train.std()

    def rows(x: Tensor, y: Tensor) -> TensorDataset:
        return TensorDataset((x - x_mean) / x_std, ((y - y_mean) / y_std)[:, None])

    return Task(
        name="diabetes",
        model=lambda: nn.Sequential(
            nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        ),
        train=rows(x_train, y_train),
        valid=rows(x_valid, y_valid),
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        batch_size=32,
        epochs=20,
    )
