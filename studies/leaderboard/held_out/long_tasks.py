"""Long tasks kept for testing alone: 2,300 to 12,000 updates."""

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor, nn

from lrfinder import Task
from studies.leaderboard.data import SYMBOLS, classes, names, numbers, standardised
from studies.leaderboard.entries import (
    adam,
    entries,
    made,
    momentum,
    nesterov,
    next_symbol,
    rmsprop,
)
from studies.leaderboard.models import CharLSTM, batch_normalised, bottleneck, mlp


def _spirals() -> Task:
    random = np.random.default_rng(0)
    turn = 3 * np.pi * np.sqrt(random.random(2400))
    side = random.integers(0, 2, 2400)
    angle = turn + np.pi * side
    x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / 5
    split = classes(x + random.normal(0.0, 0.05, x.shape), side)
    return made(split, lambda: mlp(2, 48, 48, 2, activation=nn.Tanh), adam, 32, 200)


def _char_lstm() -> Task:
    split = names(length=16, rows=4800)
    return made(split, lambda: CharLSTM(len(SYMBOLS)), momentum, 24, 15, next_symbol)


def _wide_batch_norm() -> Task:
    x, y = datasets.make_classification(
        4000, 60, n_informative=20, n_classes=6, n_clusters_per_class=2, random_state=5
    )
    return made(classes(x, y), lambda: batch_normalised(60, 64, 64, 6), nesterov, 64, 50)


def _many_labels() -> Task:
    x, y = datasets.make_multilabel_classification(3000, 40, n_classes=12, random_state=0)
    split = numbers(standardised(x), y.astype(float))
    return made(split, lambda: mlp(40, 96, 12), rmsprop, 16, 30, nn.BCEWithLogitsLoss())


def _pinball(output: Tensor, target: Tensor) -> Tensor:
    """The loss of the 80% quantile."""
    above = target - output
    return torch.maximum(0.8 * above, -0.2 * above).mean()


def _quantile() -> Task:
    x, y = datasets.make_friedman3(4000, noise=0.0, random_state=0)
    tails = np.random.default_rng(0).standard_t(3, len(y))
    split = numbers(standardised(x), 40 + 3 * y + 0.5 * tails)
    return made(split, lambda: mlp(4, 64, 64, 1), momentum, 32, 40, _pinball)


def _bottleneck() -> Task:
    x, _ = datasets.load_digits(return_X_y=True)
    return made(numbers(x / 16, x / 16), lambda: bottleneck(6), adam, 16, 50, nn.MSELoss())


HELD_OUT_LONG = entries(
    "long",
    ("spirals", _spirals, "two spirals, tanh MLP, Adam, 12,000 updates"),
    ("char_lstm", _char_lstm, "LSTM on characters of text, momentum"),
    ("wide_batch_norm", _wide_batch_norm, "MLP with BatchNorm, SGD with Nesterov"),
    ("many_labels", _many_labels, "12 labels a row, RMSprop"),
    ("quantile", _quantile, "80% quantile of targets with heavy tails, momentum"),
    ("bottleneck", _bottleneck, "convolutional autoencoder, 6 numbers an image, Adam"),
    held_out=True,
)
