"""Tasks that were written after the rule, to be looked at once: no finder but lrfinder's is run.

Short ones of 500 to 750 updates, fine-tuning of 480 to 750, long ones of 3,000 to 4,500.
"""

import copy
from functools import cache

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from lrfinder import Task
from studies.leaderboard.data import (
    SYMBOLS,
    Split,
    classes,
    kinds_of_names,
    mislabelled,
    names,
    numbers,
    signs,
    standardised,
)
from studies.leaderboard.entries import (
    adam,
    adamw,
    decayed,
    entries,
    made,
    momentum,
    next_symbol,
    rmsprop,
    sgd,
)
from studies.leaderboard.further_tasks import NameKinds
from studies.leaderboard.models import (
    CharGRU,
    CharTransformer,
    batch_normalised,
    cnn,
    mlp,
)
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


def _letters_sgd() -> Task:
    split = names(length=20, rows=2000)
    return made(split, lambda: CharTransformer(len(SYMBOLS), 20), sgd, 16, 6, next_symbol)


def _tabular_batch_norm() -> Task:
    x, y = datasets.make_classification(
        2500, 25, n_informative=10, n_classes=5, flip_y=0.05, random_state=31
    )
    return made(classes(x, y), lambda: batch_normalised(25, 64, 64, 5), decayed, 32, 8)


class _Forecast(nn.Module):
    """A GRU that predicts the next value of a series float[rows, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the predictions: float[rows, 1]."""
        states, _ = self.gru(x.unsqueeze(2))
        return self.out(states[:, -1])


def _waves() -> Task:
    random = np.random.default_rng(41)
    speed = random.uniform(0.1, 0.6, (1500, 2))[:, :, None]
    phase = random.uniform(0, 2 * np.pi, (1500, 2))[:, :, None]
    series = np.sin(speed * np.arange(25) + phase).sum(axis=1)
    series += random.normal(0.0, 0.1, series.shape)
    split = numbers(series[:, :-1], series[:, -1])
    return made(split, _Forecast, adam, 32, 15, nn.MSELoss())


def _dropout_cnn() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(42).normal(0.0, 0.2, x.shape)

    def model() -> nn.Module:
        *body, head = cnn(8, batch_norm=False)
        return nn.Sequential(*body, nn.Dropout(0.3), head)

    return made(classes(x / 16 + noise, y), model, rmsprop, 32, 12)


def _wide_regression() -> Task:
    x, y = datasets.make_friedman1(800, 30, noise=1.0, random_state=43)
    return made(
        numbers(standardised(x), standardised(y)),
        lambda: mlp(30, 128, 1),
        momentum,
        16,
        15,
        nn.MSELoss(),
    )


def _few_names(rows: int) -> Split:
    train, valid = kinds_of_names(length=24, rows=2400)
    return TensorDataset(*(part[-rows:] for part in train.tensors)), valid


def _lora_kinds() -> Task:
    def model() -> nn.Module:
        net = with_adapters(NameKinds(), rank=4, alpha=8)
        net.out = NameKinds().out  # the head is new, and trained as a whole
        return net

    return made(_few_names(320), model, trainable(torch.optim.AdamW), 16, 25)


def _frozen_kinds() -> Task:
    def model() -> nn.Module:
        net = NameKinds().requires_grad_(requires_grad=False)
        net.out.requires_grad_(requires_grad=True)
        return net

    return made(_few_names(480), model, trainable(torch.optim.AdamW), 16, 25)


def _few_noisy_rows() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(44).normal(0.0, 0.4, x.shape)
    split = few((x / 16 + noise)[900:], mislabelled(y, 0.1)[900:], rows=120, seed=3)

    def grouped(groups: list[dict[str, object]], lr: float) -> Optimizer:
        return torch.optim.SGD(groups, lr=lr, momentum=0.9)

    optimizer = two_groups(grouped, -1, 0.1)
    return made(split, lambda: with_new_head(digits_mlp(), 10), optimizer, 16, 60)


def _whole_cnn() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    turned = np.rot90(x[900:].reshape(-1, 8, 8), 2, axes=(1, 2)).reshape(-1, 64) / 16
    noise = np.random.default_rng(45).normal(0.0, 0.25, turned.shape)
    split = few(turned + noise, y[900:], rows=200, seed=4)
    return made(split, lambda: copy.deepcopy(digits_cnn()), adamw, 16, 50)


def _signs_gru() -> Task:
    train, valid = signs(24, 400)
    train = TensorDataset(*(part[:240] for part in train.tensors))
    return made((train, valid), lambda: copy.deepcopy(names_gru()), adam, 8, 20, next_symbol)


def _lora_regression() -> Task:
    x, y = datasets.make_friedman1(700, 10, noise=1.0, random_state=46)
    y = (y - 14.4) / 4.9 * np.where(x[:, 8] > 0.6, -0.5, 1.0)
    split = few(x, y.reshape(-1, 1), rows=240)

    def model() -> nn.Module:
        return with_adapters(friedman_mlp(), rank=4, alpha=8)

    return made(split, model, trainable(torch.optim.Adam), 16, 50, nn.MSELoss())


@cache
def _rows_with_gaps() -> Split:
    x, y = datasets.make_classification(
        3000, 40, n_informative=15, n_classes=3, n_clusters_per_class=3, flip_y=0.1, random_state=47
    )
    gaps = np.random.default_rng(47).random(x.shape) < 0.1
    return classes(np.where(gaps, 0.0, x), y)


def _gaps() -> Task:
    def model() -> nn.Module:
        return nn.Sequential(mlp(40, 128), nn.ReLU(), nn.Dropout(0.2), mlp(128, 128, 3))

    return made(_rows_with_gaps(), model, adamw, 32, 60)


class _Bag(nn.Module):
    """The mean of what is learnt of each character, and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.symbol = nn.Embedding(len(SYMBOLS), 24)
        self.body = mlp(24, 48, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of strings int64[rows, length]: float[rows, 4]."""
        return self.body(self.symbol(x).mean(dim=1))


def _bag_of_letters() -> Task:
    return made(kinds_of_names(length=20, rows=1600), _Bag, adam, 32, 12)


def _moons() -> Task:
    x, y = datasets.make_moons(1000, noise=0.35, random_state=48)
    return made(classes(x, y), lambda: mlp(2, 96, 96, 2), adam, 16, 60)


def _squashed() -> Task:
    x, y = datasets.make_regression(1200, 20, n_informative=8, noise=30.0, random_state=49)
    split = numbers(standardised(x), standardised(np.tanh(y / 150)))
    return made(split, lambda: batch_normalised(20, 64, 64, 1), sgd, 32, 100, nn.MSELoss())


class _GRUKinds(CharGRU):
    """A GRU that knows names, with a new head that sorts them by their last state."""

    def __init__(self) -> None:
        super().__init__(len(SYMBOLS))
        self.load_state_dict(names_gru().state_dict())
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, 4]."""
        return super().forward(x)[:, -1]


def _last_states() -> Task:
    return made(_few_names(400), _GRUKinds, momentum, 16, 24)


def _four_digits() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    some = np.isin(y, (3, 5, 8, 9))
    noise = np.random.default_rng(50).normal(0.0, 0.35, x[some].shape)
    split = few(x[some] / 16 + noise, np.searchsorted([3, 5, 8, 9], y[some]), rows=160, seed=5)
    optimizer = two_groups(torch.optim.Adam, -1, 0.1)
    return made(split, lambda: with_new_head(digits_mlp(), 4), optimizer, 16, 50)


LATER = {
    **entries(
        "short",
        ("letters_sgd", _letters_sgd, "transformer on characters, plain SGD"),
        ("tabular_batch_norm", _tabular_batch_norm, "MLP with BatchNorm, AdamW"),
        ("waves", _waves, "GRU that goes on with a series, Adam"),
        ("dropout_cnn", _dropout_cnn, "CNN with dropout, noisy images, RMSprop"),
        ("bag_of_letters", _bag_of_letters, "mean of embedded characters, Adam"),
        ("wide_regression", _wide_regression, "regression, 30 inputs of which 5 count, momentum"),
        held_out=True,
    ),
    **entries(
        "fine-tuning",
        ("lora_kinds", _lora_kinds, "transformer as a classifier by LoRA and a new head, AdamW"),
        ("few_noisy_rows", _few_noisy_rows, "MLP, 120 noisy images, two groups, momentum"),
        ("frozen_kinds", _frozen_kinds, "new head of a frozen transformer, AdamW"),
        ("whole_cnn", _whole_cnn, "CNN, noisy images upside down, AdamW"),
        ("signs_gru", _signs_gru, "GRU on text of another kind, 240 rows, Adam"),
        ("last_states", _last_states, "GRU as a classifier from its last state, momentum"),
        ("four_digits", _four_digits, "MLP, 160 noisy images, two groups, Adam"),
        ("lora_regression", _lora_regression, "regression by LoRA, Adam"),
        held_out=True,
    ),
    **entries(
        "long",
        ("gaps", _gaps, "MLP with dropout, inputs with gaps, AdamW"),
        ("moons", _moons, "two moons that overlap, MLP, Adam"),
        ("squashed", _squashed, "regression, MLP with BatchNorm, SGD"),
        held_out=True,
    ),
}
