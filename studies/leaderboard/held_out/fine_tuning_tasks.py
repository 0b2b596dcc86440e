"""Fine-tuning kept for testing alone: 300 to 2,000 updates."""

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder import Task
from studies.leaderboard.data import SYMBOLS, kinds_of_names
from studies.leaderboard.entries import adam, entries, made, momentum
from studies.leaderboard.models import CharGRU
from studies.leaderboard.pretrained import (
    digits_cnn,
    digits_mlp,
    few,
    friedman_mlp,
    names_gru,
    trainable,
    two_groups,
    with_adapters,
    with_new_head,
)


class _NameKinds(CharGRU):
    """A GRU that knows names, with a new head that sorts them."""

    def __init__(self) -> None:
        super().__init__(len(SYMBOLS))
        self.load_state_dict(names_gru().state_dict())
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, 4]."""
        return super().forward(x).mean(dim=1)


def _name_kinds() -> Task:
    train, valid = kinds_of_names(length=16, rows=1600)
    train = TensorDataset(*(part[:320] for part in train.tensors))
    return made((train, valid), _NameKinds, adam, 16, 30)


def _turned_digits() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    low = y < 5
    turned = np.rot90(x[low].reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64) / 16
    split = few(turned + np.random.default_rng(2).normal(0.0, 0.2, turned.shape), y[low], rows=240)

    def model() -> nn.Module:
        return with_adapters(digits_mlp(), rank=4, alpha=4)

    return made(split, model, trainable(torch.optim.AdamW), 16, 65)


def _inverted_digits() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    split = few(1 - x[900:] / 16, y[900:], rows=240)
    return made(split, lambda: with_new_head(digits_cnn(), 10), momentum, 16, 20)


def _other_regression() -> Task:
    x, y = datasets.make_friedman1(900, 10, noise=1.5, random_state=9)
    y = (y - 14.4) / 4.9 * np.where(x[:, 6] > 0.5, 1.0, 0.4)
    split = few(x, y.reshape(-1, 1), rows=320)
    optimizer = two_groups(torch.optim.RMSprop, -1, 0.2)
    return made(split, lambda: with_new_head(friedman_mlp(), 1), optimizer, 16, 100, nn.MSELoss())


HELD_OUT_FINE_TUNING = entries(
    "fine-tuning",
    ("name_kinds", _name_kinds, "GRU of characters as a classifier, Adam"),
    ("turned_digits", _turned_digits, "MLP by LoRA, images turned round, AdamW"),
    ("inverted_digits", _inverted_digits, "CNN, inverted images, momentum"),
    ("other_regression", _other_regression, "regression, two groups, RMSprop"),
    held_out=True,
)
