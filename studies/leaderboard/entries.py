"""What a task of the leaderboard is, and the parts that tasks share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder import Task
from studies.leaderboard.data import Split

Kind = Literal["short", "long", "fine-tuning"]
Row = tuple[str, Callable[[], Task], str]
"""Name of a task, its function, and what is special about it."""
MakeOptimizer = Callable[[nn.Module, float], Optimizer]


@dataclass(frozen=True)
class Entry:
    """One task of the leaderboard."""

    make: Callable[[], Task]
    about: str
    """What is special about it."""
    held_out: bool = False
    """Whether it was never looked at while a rule or a constant was chosen."""
    kind: Kind = "short"


def entries(kind: Kind, *rows: Row, held_out: bool = False) -> Mapping[str, Entry]:
    """Return tasks of one kind by name."""
    return {name: Entry(make, about, held_out, kind) for name, make, about in rows}


def sgd(model: nn.Module, lr: float) -> Optimizer:
    """SGD."""
    return torch.optim.SGD(model.parameters(), lr)


def momentum(model: nn.Module, lr: float) -> Optimizer:
    """SGD with momentum 0.9."""
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


def adam(model: nn.Module, lr: float) -> Optimizer:
    """Adam."""
    return torch.optim.Adam(model.parameters(), lr)


def adamw(model: nn.Module, lr: float) -> Optimizer:
    """AdamW with its default weight decay."""
    return torch.optim.AdamW(model.parameters(), lr)


def nesterov(model: nn.Module, lr: float) -> Optimizer:
    """SGD with Nesterov momentum 0.9."""
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True)


def decayed(model: nn.Module, lr: float) -> Optimizer:
    """AdamW with a weight decay of 0.1."""
    return torch.optim.AdamW(model.parameters(), lr, weight_decay=0.1)


def rmsprop(model: nn.Module, lr: float) -> Optimizer:
    """RMSprop."""
    return torch.optim.RMSprop(model.parameters(), lr)


def made(
    split: Split,
    model: Callable[[], nn.Module],
    optimizer: MakeOptimizer,
    batch_size: int,
    epochs: int,
    criterion: Callable[[Any, Any], Tensor] | None = None,
) -> Task:
    """Return the task of these parts; cross-entropy where no criterion is given."""
    return Task(
        model=model,
        train=split[0],
        valid=split[1],
        criterion=criterion or nn.CrossEntropyLoss(),
        optimizer=optimizer,
        batch_size=batch_size,
        epochs=epochs,
    )


def next_symbol(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits float[rows, length, symbols] of symbols int64[rows, length]."""
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())
