"""What does a whole study cost, against the loop that everybody writes?

    python studies/speed.py            all models, about 15 minutes; --quick: two models
    python studies/speed.py --models "tiny MLP" CNN --rounds 5

Three ways to run the same list of trials of one family at one lr, with Optuna's in-memory storage:

    usual    an Optuna objective with DataLoader, torch.optim, scheduler, a validation every epoch
    lean     the same, its batches cut from tensors by indexing
    lrfinder lrfinder.search with the trainer that `lrfinder run` would choose

All train the same weights on the same batches, which the last column checks: the largest relative
difference between final losses of lean and lrfinder (float32; a ReLU that flips makes more of it).
One process, one intra-op thread, CPU time, the three ways in turns, the median of the rounds. The
cost of the usual and the lean loop does not depend on the trials' parameters, so a few trials are
timed and multiplied. `shared` is what lrfinder asks for over what it trains.

The machine, the versions and what was found stand in studies/speed.md, which this script writes.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from sklearn.datasets import load_digits, make_classification
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from lrfinder import FAMILIES, Space, Task, search
from lrfinder.cost import Work
from lrfinder.engine import Engine, choose
from lrfinder.schedules import Schedule
from lrfinder.training.sequential import SequentialTrainer

FOLDER = Path(__file__).parent
SEED = 0
FAMILY_NAMES = ("step", "multistep", "wsd", "cosine")


class GRU(nn.Module):
    """The last state of a GRU over the rows of an image, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [rows, 10] of images [rows, 1, 8, 8]."""
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


class Transformer(nn.Module):
    """Two encoder layers over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [rows, 10] of images [rows, 1, 8, 8]."""
        return self.head(self.encoder(self.embed(x.squeeze(1))).mean(dim=1))


def cnn() -> nn.Module:
    """Two convolutions with batch normalisation."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


def mlp(*sizes: int) -> nn.Module:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@dataclass(frozen=True)
class Case:
    """A model and the length of its study."""

    model: Callable[[], nn.Module]
    lr: float
    trials: int
    epochs: int
    images: bool = True

    def task(self) -> Task:
        """Return the task: digits, or two classes of 20 features."""
        x, y = _digits() if self.images else _two_classes()
        cut = len(x) * 4 // 5
        return Task(
            model=self.model,
            train=TensorDataset(x[:cut], y[:cut]),
            valid=TensorDataset(x[cut:], y[cut:]),
            criterion=nn.CrossEntropyLoss(),
            optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9),
            epochs=self.epochs,
        )


CASES = {
    "tiny MLP": Case(lambda: mlp(20, 64, 2), 0.05, 64, 30, images=False),
    "digits MLP": Case(lambda: mlp(64, 128, 10), 0.05, 64, 30),
    "GRU": Case(GRU, 0.05, 32, 10),
    "CNN": Case(cnn, 0.02, 32, 10),
    "transformer": Case(Transformer, 0.02, 32, 10),
    "wide MLP": Case(lambda: mlp(64, 1024, 1024, 10), 0.02, 32, 10),
}


def space(case: Case, task: Task, family: str) -> Space:
    """Return the family's search space at one lr."""
    per_epoch = task.data().updates_per_epoch
    return Space(FAMILIES[family], case.lr, case.lr, case.lr, case.epochs, per_epoch)


def trials_of(case: Case, one: Space) -> list[dict[str, object]]:
    """Parameters that a random sampler draws from the space."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    drawn: list[dict[str, object]] = []
    for _ in range(case.trials):
        trial = study.ask()
        one.ask(trial)
        drawn.append(trial.params)
        study.tell(trial, 0.0)
    return drawn


class Order(Sampler[int]):
    """The rows of an epoch in the order in which lrfinder reads them."""

    def __init__(self, orders: Sequence[list[int]]) -> None:
        self._epochs = iter(orders)
        self._rows = len(orders[0])

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(next(self._epochs))


def orders_of(task: Task) -> list[list[int]]:
    """Return the order of the training rows in every epoch."""
    x, y = task.train.tensors
    by_number = TensorDataset(x, y, torch.arange(len(x)))
    numbered = Task(model=task.model, train=by_number, optimizer=task.optimizer, loss=_no_loss)
    source = numbered.data().source
    return [
        torch.cat([batch[2] for batch in source.epoch(SEED, epoch)]).tolist()
        for epoch in range(task.epochs)
    ]


def loop(case: Case, task: Task, params: Sequence[dict[str, object]], *, lean: bool) -> list[float]:
    """Train the trials one after another, as people do; return the final losses."""
    one, orders = space(case, task, str(params[0]["schedule"])), orders_of(task)
    (x, y), (valid_x, valid_y) = task.train.tensors, task.valid.tensors

    def objective(trial: optuna.Trial) -> float:
        lr, schedule = one.ask(trial)
        model = _seeded(task)
        optimizer = task.optimizer(model, lr)
        scheduler = scheduler_of(schedule, optimizer)
        loader = DataLoader(task.train, task.batch_size, sampler=Order(orders))
        valid = DataLoader(task.valid, 256)
        value = float("nan")
        for epoch in range(case.epochs):
            model.train()
            batches = _cut(x, y, orders[epoch], task.batch_size) if lean else loader
            for inputs, target in batches:
                optimizer.zero_grad()
                task.criterion(model(inputs), target).backward()
                optimizer.step()
            scheduler.step()
            value = _validate(task, model, [(valid_x, valid_y)] if lean else valid)
            trial.report(value, epoch)
        return value

    study = optuna.create_study()
    for one_trial in params:
        study.enqueue_trial(one_trial)
    study.optimize(objective, n_trials=len(params))
    return [trial.value for trial in study.trials]


def scheduler_of(schedule: Schedule, optimizer: torch.optim.Optimizer) -> object:
    """Return torch's scheduler of a schedule."""
    return schedule.family.build(optimizer, schedule.params)


def with_lrfinder(
    case: Case, task: Task, params: Sequence[dict[str, object]], engine: Engine
) -> tuple[list[float], float]:
    """Search with the trials enqueued; return the final losses and asked over trained updates."""
    one = space(case, task, str(params[0]["schedule"]))
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name=f"speed-{one.family.name}")
    for one_trial in params:
        study.enqueue_trial(one_trial)
    finals: dict[int, float] = {}
    [found] = search(
        task,
        [one],
        trials=len(params),
        seeds=[SEED],
        storage=storage,
        name="speed",
        ask_size=ASK_SIZE,
        together=max(ASK_SIZE, engine.population),
        trainer=engine.trainer,
        trial_done=lambda family, number, history: finals.update(
            {number: float(history.measures["loss"][0, -1])}
        ),
    )
    asked = len(params) * case.epochs * task.data().updates_per_epoch
    trained = sum(trial.updates for trial in found.trials)
    return [finals[number] for number in sorted(finals)], asked / trained


ASK_SIZE = 10
