"""Two classes of synthetic points under cosine annealing."""

import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.builtin.digits import accuracy
from lrfinder.tasks.task import Baseline, Task


def make_task() -> Task:
    """MLP 20-64-2 with Adam at 0.01 and CosineAnnealingLR(T_max=10); 10 epochs of 13 batches."""
    x, y = make_classification(n_samples=1000, n_features=20, n_classes=2, random_state=42)
    parts = train_test_split(x, y, test_size=0.2, random_state=42)
    x_train, x_valid = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    y_train, y_valid = (torch.tensor(part, dtype=torch.int64) for part in parts[2:])
    return Task(
        name="classifier",
        model=lambda: nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)),
        train=TensorDataset(x_train, y_train),
        valid=TensorDataset(x_valid, y_valid),
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        metrics={"accuracy": accuracy},
        batch_size=64,
        epochs=10,
        baseline=Baseline(0.01, Schedule(FAMILIES["cosine"], {"T_max": 10, "eta_min": 0.0})),
    )
