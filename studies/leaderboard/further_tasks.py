"""More fine-tuning for tuning, on which no finder but lrfinder's is run: 375 to 1,200 updates."""

import copy
from functools import cache

import numpy as np
import torch
from sklearn import datasets
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from lrfinder import Task
from studies.leaderboard.data import SYMBOLS, Split, kinds_of_names, mislabelled, signs
from studies.leaderboard.entries import (
    adam,
    adamw,
    entries,
    made,
    momentum,
    nesterov,
    next_symbol,
)
from studies.leaderboard.models import NameTransformer, mlp
from studies.leaderboard.pretrained import (
    digits_cnn,
    digits_mlp,
    few,
    friedman_mlp,
    names_gru,
    names_transformer,
    trainable,
    trained,
    two_groups,
    with_adapters,
    with_new_head,
)


class NameKinds(NameTransformer):
    """The transformer that knows names, with a new head that sorts them."""

    def __init__(self) -> None:
        super().__init__(len(SYMBOLS), 24, 4)
        known = names_transformer().state_dict()
        body = {name: value for name, value in known.items() if not name.startswith("out")}
        self.load_state_dict(body, strict=False)


def _few_names(rows: int) -> Split:
    train, valid = kinds_of_names(length=24, rows=2400)
    return TensorDataset(*(part[:rows] for part in train.tensors)), valid


def _kinds_whole() -> Task:
    return made(_few_names(240), NameKinds, adamw, 16, 25)


def _kinds_head() -> Task:
    def model() -> nn.Module:
        net = NameKinds().requires_grad_(requires_grad=False)
        net.out.requires_grad_(requires_grad=True)
        return net

    def optimizer(model: nn.Module, lr: float) -> Optimizer:
        return torch.optim.SGD(model.get_submodule("out").parameters(), lr, momentum=0.9)

    return made(_few_names(480), model, optimizer, 16, 20)


def _kinds_groups() -> Task:
    def optimizer(model: nn.Module, lr: float) -> Optimizer:
        head = list(model.get_submodule("out").parameters())
        body = [p for name, p in model.named_parameters() if not name.startswith("out")]
        return torch.optim.AdamW([{"params": body, "lr": lr * 0.1}, {"params": head}], lr=lr)

    return made(_few_names(320), NameKinds, optimizer, 16, 40)


def _noisy(rows: int, seed: int, noise: float) -> Split:
    x, y = datasets.load_digits(return_X_y=True)
    x = x / 16 + np.random.default_rng(seed).normal(0.0, noise, x.shape)
    return few(x[900:], y[900:], rows=rows, seed=seed)


def _cnn_momentum() -> Task:
    return made(_noisy(120, 3, 0.3), lambda: with_new_head(digits_cnn(), 10), momentum, 16, 60)


def _cnn_head() -> Task:
    def model() -> nn.Module:
        net = with_new_head(digits_cnn(), 10)
        net[:-1].requires_grad_(requires_grad=False)
        return net

    return made(_noisy(240, 4, 0.25), model, trainable(torch.optim.Adam), 16, 60)


def _mlp_lora() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    low = y < 5
    x = x[low] / 16 + np.random.default_rng(5).normal(0.0, 0.2, x[low].shape)
    split = few(x[:, ::-1].copy(), y[low], rows=240)

    def optimizer(model: nn.Module, lr: float) -> Optimizer:
        kept = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.SGD(kept, lr, momentum=0.9)

    return made(split, lambda: with_adapters(digits_mlp(), 4, 8), optimizer, 16, 40)


def _mlp_mislabelled() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    high = y >= 5
    x = x[high] / 16 + np.random.default_rng(6).normal(0.0, 0.2, x[high].shape)
    split = few(x, mislabelled(y[high] - 5, 0.25), rows=320)
    return made(split, lambda: with_new_head(digits_mlp(), 5), adamw, 16, 50)


def _friedman(rows: int, seed: int, noise: float) -> Split:
    x, y = datasets.make_friedman1(rows + 500, 10, noise=noise, random_state=seed)
    y = (y - 14.4) / 4.9 * 1.3 + 0.6 * np.cos(3 * x[:, 7])
    return few(x, y.reshape(-1, 1), rows=rows)


def _friedman_groups() -> Task:
    optimizer = two_groups(torch.optim.Adam, -1, 0.1)
    split = _friedman(120, 11, 1.0)
    return made(split, lambda: with_new_head(friedman_mlp(), 1), optimizer, 16, 150, nn.MSELoss())


def _friedman_last_two() -> Task:
    def model() -> nn.Module:
        net = with_new_head(friedman_mlp(), 1)
        net[:2].requires_grad_(requires_grad=False)
        return net

    optimizer = trainable(torch.optim.RMSprop)
    return made(_friedman(240, 12, 1.5), model, optimizer, 16, 60, nn.MSELoss())


def _friedman_momentum() -> Task:
    split = _friedman(160, 13, 1.0)
    return made(split, lambda: copy.deepcopy(friedman_mlp()), momentum, 16, 60, nn.MSELoss())


def _gru_text() -> Task:
    return made(signs(24, 300), lambda: copy.deepcopy(names_gru()), adam, 16, 30, next_symbol)


def _gru_momentum() -> Task:
    return made(signs(24, 300), lambda: copy.deepcopy(names_gru()), momentum, 16, 40, next_symbol)


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_classification(
        6000, 30, n_informative=12, n_classes=4, n_clusters_per_class=2, random_state=21
    )


@cache
def _table_mlp() -> nn.Sequential:
    x, y = _table()
    return trained(lambda: mlp(30, 96, 96, 4), x[:3000], y[:3000], epochs=15)


def _changed_table(seed: int) -> Split:
    x, y = _table()
    x = x[3000:] + np.random.default_rng(seed).normal(0.0, 0.7, (3000, 30))
    x[:, :6] *= -1
    return few(x, y[3000:], rows=320)


def _table_whole() -> Task:
    return made(_changed_table(1), lambda: copy.deepcopy(_table_mlp()), adam, 16, 50)


def _table_nesterov() -> Task:
    return made(_changed_table(2), lambda: with_new_head(_table_mlp(), 4), nesterov, 32, 60)


def _table_lora() -> Task:
    optimizer = trainable(torch.optim.Adam)
    return made(_changed_table(3), lambda: with_adapters(_table_mlp(), 8, 8), optimizer, 16, 40)


FURTHER = entries(
    "fine-tuning",
    ("kinds_whole", _kinds_whole, "transformer as a classifier, 240 rows, AdamW"),
    ("kinds_head", _kinds_head, "the same with its body frozen, momentum"),
    ("kinds_groups", _kinds_groups, "the same, body at a tenth of the lr, AdamW"),
    ("cnn_momentum", _cnn_momentum, "CNN, 120 noisy images, momentum"),
    ("cnn_head", _cnn_head, "the same with its body frozen, Adam"),
    ("mlp_lora", _mlp_lora, "MLP by LoRA, mirrored images, momentum"),
    ("mlp_mislabelled", _mlp_mislabelled, "MLP, a quarter of the labels wrong, AdamW"),
    ("friedman_groups", _friedman_groups, "regression, two groups, 120 rows, Adam"),
    ("friedman_last_two", _friedman_last_two, "regression, first layer frozen, RMSprop"),
    ("friedman_momentum", _friedman_momentum, "regression that has changed, momentum"),
    ("gru_text", _gru_text, "GRU on text of another kind, Adam"),
    ("gru_momentum", _gru_momentum, "the same with momentum"),
    ("table_whole", _table_whole, "MLP on a table that has changed, Adam"),
    ("table_nesterov", _table_nesterov, "the same with a new head, Nesterov"),
    ("table_lora", _table_lora, "the same by LoRA, Adam"),
)
