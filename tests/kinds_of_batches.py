"""One regression, its batches in every kind that a loader may give."""

from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from small_tasks import BATCH, FEATURES, linear_model, linear_task, plain_sgd, regression_rows
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, default_collate

from lrfinder.tasks.task import Task


class Named(NamedTuple):
    x: Tensor
    y: Tensor


class Encoding(UserDict):
    """Like that of a tokenizer: entries are attributes, and `.to` moves it in place."""

    def __getattr__(self, name: str):
        if name in ("data", "__setstate__"):
            raise AttributeError(name)
        return self.data[name]

    def to(self, device):
        self.data = {name: tensor.to(device) for name, tensor in self.data.items()}
        return self


class Attributes(dict):
    """Its entries are its attributes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Output(OrderedDict):
    """Entries are attributes, and `update` is refused, as in the outputs of transformers."""

    def __getattr__(self, name: str):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def update(self, *args, **kwargs):
        raise TypeError("no update")


@dataclass
class Record:
    x: Tensor
    y: Tensor
    name: str = "record"


@dataclass(frozen=True, slots=True)
class Frozen:
    x: Tensor
    y: Tensor


class Rows(list):
    """A list with an attribute."""

    note = None


class Graph:
    """Moved by its own `.to`; it refers to itself."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.whole = x, y, self

    def to(self, device):
        return Graph(self.x.to(device), self.y.to(device))


class Opaque:
    """An object that cannot be moved."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y


def of_pair(make):
    """What makes a batch of x [rows, features] and y [rows, 1]."""

    def collate(rows):
        return make(*default_collate(rows))

    return collate


def packed(x: Tensor, y: Tensor):
    return pack_sequence(list(x[:, None])), y  # sequences of one element each


def by_name(batch) -> tuple[Tensor, Tensor]:
    return batch["x"], batch["y"]


def by_attribute(batch) -> tuple[Tensor, Tensor]:
    return batch.x, batch.y


def in_order(batch) -> tuple[Tensor, Tensor]:
    return batch[0], batch[1]


def first_by_attribute(batch) -> tuple[Tensor, Tensor]:
    return batch[0].x, batch[0].y


def of_packed(batch) -> tuple[Tensor, Tensor]:
    assert isinstance(batch[0], PackedSequence)
    return pad_packed_sequence(batch[0], batch_first=True)[0][:, 0], batch[1]


KINDS = {
    "list": (of_pair(lambda x, y: [x, y]), in_order, list),
    "tuple with None": (of_pair(lambda x, y: (x, y, None)), in_order, tuple),
    "dict of anything": (
        of_pair(
            lambda x, y: {
                "name": "a", "x": x, "y": y, "flag": True, "n": 3, "none": None,
                "words": ["b"], "array": np.zeros(2), "f": 0.5, "nested": [(x, 1), {"y": y}],
            }
        ),
        by_name,
        dict,
    ),
    "named tuple": (of_pair(Named), by_attribute, Named),
    "named tuple in a list": (of_pair(lambda x, y: [Named(x, y), 1]), first_by_attribute, list),
    "encoding": (of_pair(lambda x, y: Encoding({"x": x, "y": y})), by_attribute, Encoding),
    "attributes": (of_pair(lambda x, y: Attributes(x=x, y=y)), by_attribute, Attributes),
    "output": (of_pair(lambda x, y: Output(x=x, y=y)), by_attribute, Output),
    "default dict": (of_pair(lambda x, y: defaultdict(int, x=x, y=y)), by_name, defaultdict),
    "mapping": (
        of_pair(lambda x, y: MappingProxyType({"x": x, "y": y})), by_name, MappingProxyType
    ),
    "dataclass": (of_pair(Record), by_attribute, Record),
    "frozen dataclass": (of_pair(Frozen), by_attribute, Frozen),
    "list of a class": (of_pair(lambda x, y: Rows([x, y])), in_order, Rows),
    "graph": (of_pair(Graph), by_attribute, Graph),
    "list of graphs": (of_pair(lambda x, y: [Graph(x, y)]), first_by_attribute, list),
    "opaque": (of_pair(Opaque), by_attribute, Opaque),
    "packed sequence": (of_pair(packed), of_packed, tuple),
}  # fmt: skip
"""By name: collate function, how x and y are read, class."""
COUNTED = ("graph", "list of graphs", "opaque")
"""Those whose rows only the task can count."""


def task_of(kind: str, **fields) -> Task:
    """The regression with batches of the kind; its loss refuses another one."""
    collate, read, cls = KINDS[kind]

    def loss(model: nn.Module, batch) -> Tensor:
        if type(batch) is not cls:
            raise TypeError(f"got a {type(batch)}")
        x, y = read(batch)
        return nn.functional.mse_loss(model(x), y)

    if kind in COUNTED:
        fields["rows"] = lambda batch: len(read(batch)[1])
    return linear_task(
        model=linear_model,
        optimizer=plain_sgd,
        train=DataLoader(regression_rows(), BATCH, shuffle=True, collate_fn=collate),
        valid=DataLoader(regression_rows(41, seed=1), BATCH, collate_fn=collate),
        criterion=None,
        loss=loss,
        **fields,
    )


class TimeFirst(nn.Module):
    """A linear model of the mean over time of [time, rows, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mean(0))
