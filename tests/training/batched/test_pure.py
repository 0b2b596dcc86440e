"""Code that may do something else at another call is never taken for pure."""

import functools
import math
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrfinder.training.batched.replay.pure import watch_pure

FACTOR, WEIGHTS, TABLE = 0.5, torch.ones(3), {"a": 1.0}
calls: list[int] = []
other_model = nn.Linear(3, 3)


def helper(x: Tensor, power: int = 2) -> Tensor:
    return x.pow(power).mean() + math.sqrt(2)


def counting_helper(x: Tensor) -> Tensor:
    calls.append(1)
    return x.mean()


def helper_with_a_store(x: Tensor, store: list[int] = []) -> Tensor:  # noqa: B006
    store.append(1)
    return x.mean()


def sets_a_global(m: nn.Module, b: list[Tensor]) -> Tensor:
    global FACTOR
    FACTOR = 2.0
    return m(b[0]).mean()


def counter():
    count = 0

    def loss(m: nn.Module, b: list[Tensor]) -> Tensor:
        nonlocal count
        count += 1
        return m(b[0]).mean()

    return loss


def imports(m: nn.Module, b: list[Tensor]) -> Tensor:
    import time

    return m(b[0]).mean() * time.time()


class Square(torch.autograd.Function):
    """One whose code Python runs."""

    @staticmethod
    def forward(ctx, x):
        return x * x


class Sizes(NamedTuple):
    """Numbers by name, with a method that counts."""

    width: int

    def counted(self) -> int:
        calls.append(1)
        return self.width


class Number(float):
    """A number whose operator counts."""

    def __rmul__(self, other):
        calls.append(1)
        return other * float(self)


class Weights(nn.Parameter):
    """A parameter with a method that counts."""

    def counted(self) -> Tensor:
        calls.append(1)
        return self.mean()


class Callable:
    def __call__(self, m, b):
        return m(b[0]).mean()


sizes, number = Sizes(3), Number(2)
PURE = {
    "torch": lambda m, b: torch.relu(m(b[0])).mean(),
    "functional": lambda m, b: F.cross_entropy(m(b[0]), b[1], label_smoothing=0.1),
    "a number": lambda m, b: m(b[0]).mean() * FACTOR,
    "a tensor": lambda m, b: (m(b[0]) * WEIGHTS).mean(),
    "another function": lambda m, b: helper(m(b[0])),
    "a comprehension": lambda m, b: sum(m(x).mean() for x in b[0].split(2)),
    "an exception": lambda m, b: m(b[0]).mean() if len(b) else ValueError("nothing"),
    "parts of a dict": lambda m, b: F.mse_loss(input=m(b["x"]), target=b["y"]),
    "nothing else": F.mse_loss,
}
IMPURE = {
    "a list": lambda m, b: calls.append(1) or m(b[0]).mean(),
    "a dict": lambda m, b: m(b[0]).mean() * TABLE["a"],
    "numpy": lambda m, b: m(b[0]).mean() * np.random.rand(),
    "random": lambda m, b: m(b[0]).mean() * random.random(),
    "printing": lambda m, b: print("loss") or m(b[0]).mean(),  # noqa: T201
    "setting an attribute": lambda m, b: setattr(m, "seen", 1) or m(b[0]).mean(),
    "a function that counts": lambda m, b: counting_helper(m(b[0])),
    "in a generator": lambda m, b: sum(counting_helper(m(x)) for x in b[0].split(2)),
    "a default that is kept": lambda m, b: helper_with_a_store(m(b[0])),
    "a global": sets_a_global,
    "a closure": counter(),
    "an import": imports,
    "another model": lambda m, b: (m(b[0]) - other_model(b[0])).mean(),
    "a function of autograd": lambda m, b: Square.apply(m(b[0])).mean(),
    "a tuple with methods": lambda m, b: m(b[0]).mean() * sizes.counted(),
    "a number with operators": lambda m, b: m(b[0]).mean() * number,
    "partial": functools.partial(helper, power=3),
    "an object": Callable(),
    "attributes by name": lambda m, b: m.__dict__.update(seen=1) or m(b[0]).mean(),
    "evaluated": lambda m, b: eval("m(b[0]).mean()"),
    "a dynamic name": lambda m, b: getattr(m, "forward")(b[0]).mean(),  # noqa: B009
}


@pytest.mark.parametrize("name", list(PURE))
def test_a_loss_of_nothing_but_torch_is_pure(name):
    assert watch_pure([PURE[name]], [nn.Linear(3, 3)]) is not None


@pytest.mark.parametrize("name", list(IMPURE))
def test_a_loss_that_does_more_is_not(name):
    assert watch_pure([IMPURE[name]], [nn.Linear(3, 3)]) is None


class Block(nn.Module):
    """A model of a common shape."""

    power = 2

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.act, self.sizes = nn.Linear(3, 3), torch.tanh, (3, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[1] != self.sizes[0]:
            raise ValueError(f"needs {self.sizes}")
        return self.act(self._inner(x)) ** self.power + self.gain

    def _inner(self, x: Tensor) -> Tensor:
        return self.inner(x)

    @property
    def gain(self) -> float:
        return self.power / 2


class OnTop(Block):
    """A subclass that calls what is above."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class Counts(Block):
    """A module that counts in a method."""

    def _inner(self, x: Tensor) -> Tensor:
        self.seen = 1
        return self.inner(x)


class Counted(Block):
    """A module that counts in a property."""

    @property
    def gain(self) -> float:
        return float(calls.append(1) or 0)


class Queue(Block):
    """A module that keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = []

    def _inner(self, x: Tensor) -> Tensor:
        self.queue.append(x)
        return self.inner(x)


class Indexed(Block):
    """A module whose operator counts."""

    def __getitem__(self, place: int) -> int:
        calls.append(place)
        return place


class Called(Block):
    """A module that is called in a way of its own."""

    def __call__(self, x: Tensor) -> Tensor:
        calls.append(1)
        return super().__call__(x)


def hooked() -> nn.Module:
    model = Block()
    model.inner.register_forward_hook(lambda *_: calls.append(1))
    return model


def replaced() -> nn.Module:
    model = Block()
    model.forward = lambda x: x * len(calls)
    return model


def weighted() -> nn.Module:
    model = nn.Linear(3, 3)
    model.weight = Weights(torch.ones(3, 3))
    return model


def activated() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, activation=counting_helper)


def criterion(m: nn.Module, b: list[Tensor]) -> Tensor:
    return m(b[0]).mean()


def is_pure(model: nn.Module) -> bool:
    return watch_pure([criterion], model.modules()) is not None


@pytest.mark.parametrize(
    "build",
    [
        Block,
        OnTop,
        lambda: nn.Sequential(Block(), nn.Dropout(), nn.BatchNorm1d(3), nn.GRU(3, 3)),
        lambda: nn.TransformerEncoderLayer(4, 2),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    ],
)
def test_a_model_that_computes_is_pure(build):
    assert is_pure(build())


@pytest.mark.parametrize(
    "build", [Counts, Counted, Queue, Indexed, Called, hooked, replaced, activated, weighted]
)
def test_a_model_that_keeps_something_is_not(build):
    assert not is_pure(build())
    assert not is_pure(nn.Sequential(nn.Linear(3, 3), build()))


def test_what_is_read_is_watched(monkeypatch):
    weights, model = torch.ones(3), Block()

    def loss(m: nn.Module, b: list[Tensor]) -> Tensor:
        return (m(b[0]) * weights).mean() * FACTOR

    def watch():
        found = watch_pure([loss], model.modules())
        assert found is not None
        assert found.unchanged()
        return found

    first = watch()
    monkeypatch.setitem(globals(), "FACTOR", 0.25)
    assert not first.unchanged()
    second = watch()
    weights *= 2
    assert not second.unchanged()
    third = watch()
    model.sizes = (4, 4)
    assert not third.unchanged()
    fourth = watch()
    model.inner.weight.data.add_(1)
    assert fourth.unchanged()
    monkeypatch.setattr(Block, "power", 3)
    assert not fourth.unchanged()


@pytest.mark.parametrize("change", [{"p": 0.1}, {"training": False}])
def test_what_a_module_of_torch_holds_is_watched(change):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    found = watch_pure([criterion], model.modules())
    assert found is not None
    assert found.unchanged()
    vars(model[1]).update(change)
    assert not found.unchanged()


def test_a_hook_of_all_modules_is_called():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: calls.append(1))
    try:
        assert not is_pure(nn.Linear(3, 3))
    finally:
        handle.remove()
    assert is_pure(nn.Linear(3, 3))


def test_the_same_code_of_another_file_reads_other_names():
    losses = []
    for helper_of_file in (helper, counting_helper):
        names = {"own": helper_of_file}
        exec("def loss(m, b):\n    return own(m(b[0]))", names)
        losses.append(names["loss"])
    first, second = losses
    assert first.__code__ == second.__code__
    assert watch_pure([first], [nn.Linear(3, 3)]) is not None
    assert watch_pure([first, second], [nn.Linear(3, 3)]) is None
