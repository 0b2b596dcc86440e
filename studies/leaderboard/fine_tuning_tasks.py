"""Fine-tuning, for tuning: few rows, a model that knows a neighbouring task."""

import copy

import numpy as np
import torch
from sklearn import datasets
from torch import nn

from lrfinder import Task
from studies.leaderboard.data import mislabelled, signs
from studies.leaderboard.entries import adam, adamw, entries, made, next_symbol
from studies.leaderboard.pretrained import (
    digits_cnn,
    digits_mlp,
    few,
    friedman_mlp,
    names_transformer,
    trainable,
    two_groups,
    with_adapters,
    with_new_head,
)


def _high_digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(0.0, 0.2, x.shape)
    return (x / 16 + noise)[y >= 5], y[y >= 5] - 5


def _new_classes() -> Task:
    split = few(*_high_digits(), rows=160)
    return made(split, lambda: with_new_head(digits_mlp(), 5), adam, 16, 60)


def _head_only() -> Task:
    split = few(*_high_digits(), rows=160)

    def model() -> nn.Module:
        net = with_new_head(digits_mlp(), 5)
        net[:-1].requires_grad_(requires_grad=False)
        return net

    def optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return trainable(torch.optim.SGD)(model, lr)

    return made(split, model, optimizer, 16, 40)


def _two_groups() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(1).normal(0.0, 0.35, x.shape)
    split = few((x / 16 + noise)[900:], mislabelled(y, 0.1)[900:], rows=320)
    optimizer = two_groups(torch.optim.AdamW, -1, 0.1)
    return made(split, lambda: with_new_head(digits_cnn(), 10), optimizer, 16, 40)


def _new_text() -> Task:
    model = names_transformer
    return made(signs(24, 400), lambda: copy.deepcopy(model()), adamw, 16, 40, next_symbol)


def _adapters() -> Task:
    def model() -> nn.Module:
        return with_adapters(names_transformer(), rank=4, alpha=8)

    return made(signs(24, 400), model, trainable(torch.optim.AdamW), 16, 40, next_symbol)


def _new_targets() -> Task:
    x, y = datasets.make_friedman1(800, 10, noise=2.0, random_state=8)
    y = (y - 14.4) / 4.9 + 0.8 * np.sin(4 * x[:, 5])
    split = few(x, y.reshape(-1, 1), rows=200)
    return made(split, lambda: copy.deepcopy(friedman_mlp()), adam, 16, 115, nn.MSELoss())


FINE_TUNING = entries(
    "fine-tuning",
    ("new_classes", _new_classes, "MLP, five new digits from 160 noisy rows, Adam"),
    ("head_only", _head_only, "the same with its body frozen, SGD"),
    ("two_groups", _two_groups, "CNN, noisy images, body at a tenth of the lr, AdamW"),
    ("new_text", _new_text, "transformer on text of another kind, AdamW"),
    ("adapters", _adapters, "the same by LoRA of rank 4, AdamW"),
    ("new_targets", _new_targets, "regression that has changed, 200 rows, Adam"),
)
