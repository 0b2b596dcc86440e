"""Fine-tuning: a trained body and a new head, each with its own lr and its own rule.

The body learns 1000 clean images of digits once, when the task is made. Every run then starts from
that body and a new head, and learns from 100 noisy images by other writers. The optimizer gives the
body a tenth of the head's lr; three families of the task's own are LambdaLR with one rule per
parameter group.
"""

import copy
from collections.abc import Callable

import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

from lrfinder import Family, Task
from lrfinder.schedules import Budget, Params
from lrfinder.tasks.builtin.digits import accuracy

EARLIER, LATER = slice(0, 1000), slice(1000, None)
TRAIN_ROWS = 100
NOISE = 0.3
Factor = Callable[[int], float]


class Net(nn.Module):
    """A body that makes features, and a head for ten classes."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, 10]."""
        return self.head(self.body(x))


def make_task() -> Task:
    """Adam on two groups, the body at lr / 10 and the head at lr; 20 epochs of 7 batches."""
    body, (train, valid) = _trained_body(), _later_digits()
    return Task(
        name="fine_tuning",
        model=lambda: Net(copy.deepcopy(body)),
        train=train,
        valid=valid,
        criterion=nn.CrossEntropyLoss(),
        optimizer=_optimizer,
        metrics={"accuracy": accuracy},
        batch_size=16,
        epochs=20,
        schedules={family.name: family for family in (PER_GROUP, SAME_LR, FROZEN_BODY)},
    )


def _optimizer(model: nn.Module, lr: float) -> Optimizer:
    groups = [
        {"params": model.get_submodule("body").parameters(), "lr": lr / 10},
        {"params": model.get_submodule("head").parameters(), "lr": lr},
    ]
    return torch.optim.Adam(groups)


def _trained_body() -> nn.Module:
    """Train a network on the earlier images and return its body; the same in every process."""
    x, y = _images(EARLIER)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        net = Net(body)
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return body


def _later_digits() -> tuple[TensorDataset, TensorDataset]:
    """Return noisy later images: 100 rows to train on, the rest held out."""
    x, y = _images(LATER)
    generator = torch.Generator().manual_seed(0)
    x = x + NOISE * torch.randn(x.shape, generator=generator)
    order = torch.randperm(len(x), generator=generator)
    first, rest = order[:TRAIN_ROWS], order[TRAIN_ROWS:]
    return TensorDataset(x[first], y[first]), TensorDataset(x[rest], y[rest])


def _images(rows: slice) -> tuple[Tensor, Tensor]:
    """Images and their digits: x float32[rows, 64] in 0..1, y int64[rows]."""
    x, y = load_digits(return_X_y=True)
    images, digits = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y, dtype=torch.int64)
    return images[rows], digits[rows]


def _rules(body: Factor, head: Factor) -> Callable[[Optimizer, Params], LambdaLR]:
    """Build a LambdaLR with a rule for each of the two groups."""
    return lambda optimizer, _: LambdaLR(optimizer, [body, head])


def _per_group(optimizer: Optimizer, params: Params) -> LambdaLR:
    body, head = float(params["body_gamma"]), float(params["head_gamma"])
    return LambdaLR(optimizer, [lambda t: body**t, lambda t: head**t])


def _per_group_space(trial: optuna.Trial, budget: Budget) -> Params:
    low = _gamma_that_ends_at(1e-4, budget)
    names = ("body_gamma", "head_gamma")
    return {name: trial.suggest_float(name, low, 1.0, log=True) for name in names}


def _per_group_defaults(budget: Budget) -> list[Params]:
    """The usual hundredth at the end, for both."""
    gamma = _gamma_that_ends_at(0.01, budget)
    return [{"body_gamma": gamma, "head_gamma": gamma}]


def _gamma_that_ends_at(share: float, budget: Budget) -> float:
    return share ** (1 / (budget.steps - 1))


PER_GROUP = Family(
    name="per_group",
    build=_per_group,
    space=_per_group_space,
    defaults=_per_group_defaults,
    min_steps=2,
    formula="body: lr(t) = lr0 * body_gamma**t; head: lr(t) = lr0 * head_gamma**t",
)
"""An exponential decay of its own for each group."""
SAME_LR = Family(
    name="same_lr",
    build=_rules(body=lambda _: 10.0, head=lambda _: 1.0),
    space=lambda _trial, _budget: {},
)
"""Constant, the body at the head's lr: what a single parameter group would do."""
FROZEN_BODY = Family(
    name="frozen_body",
    build=_rules(body=lambda _: 0.0, head=lambda _: 1.0),
    space=lambda _trial, _budget: {},
)
"""Constant, only the head learns."""
