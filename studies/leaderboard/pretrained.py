"""Models that were trained on other classes, targets or text, for the tasks of fine-tuning.

Each is trained here, in seconds, with fixed seeds: the same in every process.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import TensorDataset

from studies.leaderboard.data import SYMBOLS, Split, names
from studies.leaderboard.entries import MakeOptimizer, next_symbol
from studies.leaderboard.models import CharGRU, CharTransformer, LowRank, cnn, mlp

Criterion = Callable[[Any, Any], Tensor]
Net = TypeVar("Net", bound=nn.Module)


@cache
def digits_mlp() -> nn.Sequential:
    """MLP 64-96-96-5 that knows the digits 0 to 4."""
    x, y = datasets.load_digits(return_X_y=True)
    low = y < 5
    return _trained(lambda: mlp(64, 96, 96, 5), _tensors(x[low] / 16, y[low]), epochs=20)


@cache
def digits_cnn() -> nn.Sequential:
    """CNN with BatchNorm that knows the first 900 clean images."""
    x, y = datasets.load_digits(return_X_y=True)
    return _trained(lambda: cnn(8, batch_norm=True), _tensors(x[:900] / 16, y[:900]), epochs=12)


@cache
def friedman_mlp() -> nn.Sequential:
    """MLP 10-64-64-1 that knows Friedman's first regression, standardised."""
    x, y = datasets.make_friedman1(3000, 10, noise=0.5, random_state=7)
    y = ((y - 14.4) / 4.9).reshape(-1, 1)
    return _trained(lambda: mlp(10, 64, 64, 1), _tensors(x, y), nn.MSELoss(), epochs=12)


@cache
def names_transformer() -> CharTransformer:
    """Transformer that predicts the next character of names."""
    train = names(length=24, rows=4000)[0]
    parts = (train.tensors[0], train.tensors[1])
    return _trained(lambda: CharTransformer(len(SYMBOLS), 24), parts, next_symbol, epochs=5)


@cache
def names_gru() -> CharGRU:
    """GRU that predicts the next character of names."""
    train = names(length=24, rows=4000)[0]
    parts = (train.tensors[0], train.tensors[1])
    return _trained(lambda: CharGRU(len(SYMBOLS)), parts, next_symbol, epochs=5)


def with_new_head(net: nn.Sequential, outputs: int) -> nn.Sequential:
    """Return a copy of a net whose last layer is a new one."""
    *body, head = copy.deepcopy(net)
    return nn.Sequential(*body, nn.Linear(head.in_features, outputs))


def with_adapters(net: Net, rank: int, alpha: float) -> Net:
    """Return a copy of a net that is frozen but for an adapter at each of its linear layers."""
    adapted = copy.deepcopy(net).requires_grad_(requires_grad=False)
    for parent in list(adapted.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and not isinstance(parent, LowRank):
                setattr(parent, name, LowRank(child, rank, alpha))
    return adapted


def two_groups(make: Callable[..., Optimizer], head: int, ratio: float) -> MakeOptimizer:
    """Return the optimizer whose lr is for a net's layer number `head`; the others have a part."""

    def optimizer(model: nn.Module, lr: float) -> Optimizer:
        assert isinstance(model, nn.Sequential)
        body = [p for layer in model[:head] for p in layer.parameters()]
        groups = [{"params": body, "lr": lr * ratio}, {"params": list(model[head:].parameters())}]
        return make(groups, lr=lr)

    return optimizer


def trainable(make: Callable[..., Optimizer]) -> MakeOptimizer:
    """Return the optimizer of what is not frozen."""

    def optimizer(model: nn.Module, lr: float) -> Optimizer:
        return make([p for p in model.parameters() if p.requires_grad], lr=lr)

    return optimizer


def few(x: NDArray[Any] | Tensor, y: NDArray[Any] | Tensor, rows: int, seed: int = 0) -> Split:
    """So many rows for training, up to 500 others for validation."""
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = _tensors(np.asarray(x)[order], np.asarray(y)[order])
    valid = slice(rows, rows + 500)
    return TensorDataset(x[:rows], y[:rows]), TensorDataset(x[valid], y[valid])


def trained(make: Callable[[], Net], x: NDArray[Any], y: NDArray[Any], *, epochs: int) -> Net:
    """Return a classifier after so many epochs of these rows, the same in every process."""
    return _trained(make, _tensors(x, y), epochs=epochs)


def _tensors(x: NDArray[Any], y: NDArray[Any]) -> tuple[Tensor, Tensor]:
    def tensor(values: NDArray[Any]) -> Tensor:
        whole = np.issubdtype(values.dtype, np.integer)
        return torch.tensor(values, dtype=torch.int64 if whole else torch.float32)

    return tensor(x), tensor(y)


def _trained(
    make: Callable[[], Net],
    data: tuple[Tensor, Tensor],
    criterion: Criterion = nn.functional.cross_entropy,
    *,
    epochs: int,
) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make()
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(epochs):
            for x, y in _batches(*data):
                optimizer.zero_grad()
                criterion(net(x), y).backward()
                optimizer.step()
    return net.requires_grad_(requires_grad=True)


def _batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows: Iterable[Tensor] = torch.randperm(len(x)).split(32)
    return ((x[part], y[part]) for part in rows)
