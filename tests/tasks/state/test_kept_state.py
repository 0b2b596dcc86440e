"""Evaluating changes nothing of a run, wherever its model keeps what it remembers."""

import random
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_tasks import linear_model, linear_task, plan
from torch import Tensor, nn

from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

TRAINERS = {"sequential": SequentialTrainer(), "batched": BatchedTrainer()}


class Remembering(nn.Module):
    """A linear model whose output depends on how often it was called, in any mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()
        self.begin()

    def begin(self) -> None: ...

    def remember(self) -> float: ...

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (1 + 0.1 * self.remember())


def remembering(begin, remember) -> type[Remembering]:
    return type("Own", (Remembering,), {"begin": begin, "remember": remember})


def counter(self) -> float:
    self.calls += 1
    return np.sin(self.calls)


def in_place(self) -> float:
    self.mean.mul_(0.9).add_(0.1)
    return self.mean.item()


def replaced(self) -> float:
    self.mean = 0.9 * self.mean + 0.1
    return float(self.mean)


def appended(self) -> float:
    self.seen.append(len(self.seen))
    return np.sin(len(self.seen))


def keyed(self) -> float:
    self.seen["calls"] = self.seen.get("calls", 0) + 1
    return np.sin(self.seen["calls"])


def nested(self) -> float:
    self.seen["own"][0].calls += 1
    return np.sin(self.seen["own"][0].calls)


def added(self) -> float:
    self.late = getattr(self, "late", 0) + 1
    return np.sin(self.late)


def drawn(self) -> float:
    return float(torch.rand((), generator=self.numbers))


MEMORIES = {
    "a number": (lambda self: setattr(self, "calls", 0), counter),
    "a tensor": (lambda self: setattr(self, "mean", torch.zeros(())), in_place),
    "a tensor put in its place": (lambda self: setattr(self, "mean", torch.zeros(())), replaced),
    "a buffer": (lambda self: self.register_buffer("mean", torch.zeros(())), in_place),
    "a buffer put in its place": (
        lambda self: self.register_buffer("mean", torch.zeros(())),
        replaced,
    ),
    "an array": (
        lambda self: setattr(self, "seen", np.zeros(1)),
        lambda self: np.add(self.seen, 0.1, out=self.seen).item(),
    ),
    "a list": (lambda self: setattr(self, "seen", []), appended),
    "a deque": (lambda self: setattr(self, "seen", deque()), appended),
    "a set": (
        lambda self: setattr(self, "seen", set()),
        lambda self: self.seen.add(len(self.seen)) or np.sin(len(self.seen)),
    ),
    "a dict": (lambda self: setattr(self, "seen", {}), keyed),
    "an object inside": (
        lambda self: setattr(self, "seen", {"own": [SimpleNamespace(calls=0)]}),
        nested,
    ),
    "an attribute that comes late": (lambda self: None, added),
    "torch's generator": (lambda self: setattr(self, "numbers", torch.Generator()), drawn),
    "numpy's generator": (
        lambda self: setattr(self, "numbers", np.random.default_rng(0)),
        lambda self: self.numbers.random(),
    ),
    "Python's generator": (
        lambda self: setattr(self, "numbers", random.Random(0)),
        lambda self: self.numbers.random(),
    ),
}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("memory", MEMORIES)
def test_how_often_it_is_evaluated_does_not_change_a_run(memory, trainer):
    task = linear_task(model=remembering(*MEMORIES[memory]))
    way = TRAINERS[trainer]
    if trainer == "batched" and way.why_not(task) is not None:
        return
    often = fit(task, [plan()], evaluate_every=1, trainer=way)
    rarely = fit(task, [plan()], evaluate_every=12, trainer=way)
    np.testing.assert_array_equal(often.train_loss, rarely.train_loss)
    assert often.measures["loss"][0, -1] == rarely.measures["loss"][0, -1]
    plain = fit(linear_task(), [plan()], trainer=way)
    assert not np.array_equal(often.train_loss, plain.train_loss)


class Remembers(nn.MSELoss):
    """A criterion that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(output, target) * (1 + 0.1 * np.sin(self.calls))


@pytest.mark.parametrize("role", ["criterion", "metric"])
def test_nor_does_what_a_criterion_or_a_metric_remembers(role):
    fields = {"criterion": Remembers()} if role == "criterion" else {"metrics": {"m": Remembers()}}
    often = fit(linear_task(**fields), [plan()], evaluate_every=1)
    rarely = fit(linear_task(**fields), [plan()], evaluate_every=12)
    np.testing.assert_array_equal(often.train_loss, rarely.train_loss)
    for name in often.measures:
        assert often.measures[name][0, -1] == rarely.measures[name][0, -1]


def test_the_state_is_put_back_where_an_evaluation_raises():
    class Raising(Remembering):
        def begin(self) -> None:
            self.seen = []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(1)
            if not self.training:
                raise ValueError("in eval mode")
            return self.layer(x)

    trainer = SequentialTrainer()
    state = trainer.start(linear_task(model=Raising), [0], [0.1])
    with pytest.raises(Exception, match="in eval mode"):
        trainer.evaluate(state, [(torch.zeros(1, 4).double(), torch.zeros(1, 1).double())])
    assert state.runs[0].model.seen == []


def test_batch_normalisation_in_train_mode_moves_nothing_in_an_evaluation():
    """As where a metric of the user's own forgets to go back to eval mode."""

    def error(model, batch):
        model.train()
        return (model(batch[0]) - batch[1]).abs().mean()

    def loss(model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    def task(**fields):
        return linear_task(
            model=lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)).double(),
            criterion=None,
            loss=loss,
            **fields,
        )

    # the metric comes last: what is measured before it is in eval mode
    ends = [
        fit(one, [plan()], evaluate_every=every).measures["loss"][0, -1]
        for one in (task(metrics={"error": error}), task())
        for every in (1, 12)
    ]
    assert len(set(ends[2:])) == 1
    assert len(set(ends[:2])) == 1
