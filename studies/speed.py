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
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import optuna
import pandas as pd
import torch
from markdown import markdown
from sklearn.datasets import load_digits, make_classification
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from lrfinder import FAMILIES, Space, Task, search
from lrfinder.tasks.state.random_states import Stream
from lrfinder.training.engine import Engine, choose
from lrfinder.training.speed import Work
from lrfinder.tuning.rounds import ask_size
from lrfinder.tuning.storages.storage import open_storage, own_file

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
    for inputs, outputs in pairwise(sizes):
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
    "GRU": Case(GRU, 0.05, 32, 6),
    "CNN": Case(cnn, 0.02, 32, 6),
    "transformer": Case(Transformer, 0.02, 32, 6),
    "wide MLP": Case(lambda: mlp(64, 1024, 1024, 10), 0.02, 32, 6),
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
        scheduler = schedule.family.build(optimizer, schedule.params)
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
        ask_size=ask_size(len(params), one_lr=True),
        together=max(ask_size(len(params), one_lr=True), engine.population),
        trainer=engine.trainer,
        trial_done=lambda family, number, history: finals.update(
            {number: float(history.measures["loss"][0, -1])}
        ),
    )
    asked = len(params) * case.epochs * task.data().updates_per_epoch
    trained = sum(trial.updates for trial in found.trials)
    by_params = {
        _key(trial.params): finals[trial.number] for trial in study.trials if trial.number in finals
    }
    return [by_params[_key(one_trial)] for one_trial in params], asked / trained


def _key(params: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """Parameters of a trial as a key: the search may train trials in another order."""
    return tuple(sorted(params.items()))


def measure(name: str, family: str, rounds: int, timed: int) -> dict[str, object]:
    """Return one row of the table; the loops train `timed` of the trials."""
    case = CASES[name]
    task = case.task()
    params = trials_of(case, space(case, task, family))
    work = Work(len(params), case.epochs * task.data().updates_per_epoch, case.epochs + 1)
    engine = choose(task, None, work)
    few = params[:timed]
    ways = {
        "usual": lambda: loop(case, task, few, lean=False),
        "lean": lambda: loop(case, task, few, lean=True),
        "lrfinder": lambda: with_lrfinder(case, task, params, engine),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, object] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            before = time.process_time()
            results[way] = run()
            seconds[way].append(time.process_time() - before)
    usual, lean, ours = (np.array(seconds[way]) for way in ways)
    usual, lean = usual * len(params) / len(few), lean * len(params) / len(few)
    finals, shared = results["lrfinder"]
    expected = np.array(results["lean"])
    return {
        "model": name,
        "family": family,
        "trials": len(params),
        "epochs": case.epochs,
        "trainer": f"{engine.chosen.trainer}, {engine.population}",
        "usual s": np.median(usual),
        "lean s": np.median(lean),
        "lrfinder s": np.median(ours),
        "usual / lrfinder": np.median(usual / ours),
        "lean / lrfinder": np.median(lean / ours),
        "shared": shared,
        "difference": np.max(np.abs(np.array(finals[: len(few)]) / expected - 1)),
    }


def trial_costs() -> pd.DataFrame:
    """Milliseconds of CPU that Optuna takes for a trial, by how many points it reports.

    Step by step a trial is written as it goes, a transaction a point, as the usual loop does it;
    whole, it is written when it has ended.
    """
    points = (5, 21, 50)
    rows: dict[str, list[float]] = {}
    memory = [_step_by_step(None, count) for count in points]
    rows["in memory, step by step (TPE)"] = memory
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/"
        for name, opened in (("as Optuna opens it", open_storage), ("written ahead", own_file)):
            ways = (("step by step", _step_by_step), ("a trial whole", _whole))
            for way, cost in ways:
                spent: list[float] = []
                for count in points:
                    address = f"{url}{len(rows)}_{count}.db"
                    if opened is own_file:
                        with own_file(address) as storage:
                            spent.append(cost(storage, count))
                    else:
                        spent.append(cost(open_storage(address), count))
                rows[f"SQLite {name}, {way}"] = spent
    table = pd.DataFrame(rows, index=[f"{count} points" for count in points]).T
    return table.rename_axis("storage").reset_index()


def _step_by_step(storage: optuna.storages.BaseStorage | None, points: int) -> float:
    """Milliseconds of CPU a trial of 3 parameters, over a study of 20."""
    sampler = optuna.samplers.TPESampler(n_startup_trials=4, seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler)
    before = time.process_time()
    for number in range(20):
        trial = study.ask()
        x, y, z = (trial.suggest_float(name, 0.0, 1.0) for name in "xyz")
        for epoch in range(points):
            trial.report(x, epoch)
        study.tell(number, (x - 0.3) ** 2 + (y - 0.6) ** 2 + z)
    return (time.process_time() - before) / 20 * 1000


def _whole(storage: optuna.storages.BaseStorage, points: int) -> float:
    """The same, with trials that are added when they have ended."""
    study = optuna.create_study(storage=storage)
    floats = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "xyz"}
    before = time.process_time()
    for number in range(20):
        params = dict.fromkeys(floats, number / 20)
        reported = dict.fromkeys(range(points), 0.5)
        study.add_trial(
            optuna.create_trial(
                value=0.5, params=params, distributions=floats, intermediate_values=reported
            )
        )
    return (time.process_time() - before) / 20 * 1000


def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    return images, torch.tensor(digits.target)


def _two_classes() -> tuple[Tensor, Tensor]:
    x, y = make_classification(n_samples=1000, n_features=20, n_classes=2, random_state=42)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def _no_loss(model: nn.Module, batch: object) -> Tensor:
    raise NotImplementedError  # only the order of the batches is asked for


def _seeded(task: Task) -> nn.Module:
    with Stream(SEED).active():
        return task.model()


def _cut(x: Tensor, y: Tensor, order: list[int], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows = torch.tensor(order)
    for some in rows.split(size):
        yield x[some], y[some]


def _validate(task: Task, model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> float:
    model.eval()
    total, rows = 0.0, 0
    with torch.no_grad():
        for x, y in batches:
            total += float(task.criterion(model(x), y)) * len(x)
            rows += len(x)
    return total / rows


def _written(table: pd.DataFrame, costs: pd.DataFrame, rounds: int, timed: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "optuna", "lrfinder"))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return (
        "# What a study costs\n\n"
        f"Made by `python studies/speed.py`: medians of {rounds} rounds, CPU seconds, one thread; "
        f"{timed} trials of each loop timed and multiplied. {machine}; {packages}.\n\n"
        f"{markdown(table)}\n\n"
        "What Optuna itself takes for a trial of 3 parameters, in ms of CPU, by how many points "
        f"it reports:\n\n{markdown(costs)}\n"
    )


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="What does a whole study cost?")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--families", nargs="+", choices=FAMILY_NAMES, default=list(FAMILY_NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timed", type=int, default=4, help="trials of each loop that are timed")
    parser.add_argument("--quick", action="store_true", help="two models, one round, no file")
    asked = parser.parse_args()
    models = asked.models[:2] if asked.quick else asked.models
    rounds = 1 if asked.quick else asked.rounds
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    for model in models:
        for family in asked.families:
            rows.append(measure(model, family, rounds, asked.timed))
            print(markdown(pd.DataFrame(rows[-1:])).splitlines()[-1], flush=True)
    text = _written(pd.DataFrame(rows), trial_costs(), rounds, asked.timed)
    if not asked.quick:
        (FOLDER / "speed.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
