"""Final losses of tuned candidates on many seeds, which the designs of verdict.py draw from.

    python studies/verdict_records.py    about 12 minutes on one core; what is recorded is kept

For every task a range test and ten trials of each default family, as `lrfinder run` does them; then
the best of each family, and the suggested lr under the default cosine ("start"), on common seeds
that neither has seen: studies/verdict/TASK.csv, a row per seed and a column per candidate.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.trial import FixedTrial
from sklearn.datasets import load_breast_cancer, load_wine, make_friedman1
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import BatchedTrainer, Candidate, Task, fit, load_task, range_test, search
from lrfinder.experiment import Experiment
from lrfinder.settings import RunSettings
from lrfinder.tasks.builtin.digits import split
from lrfinder.training.records.history import Plan

FOLDER = Path(__file__).parent / "verdict"
SEEDS = range(10_000, 10_096)
"""Training seeds of the records."""
START = "start"


def noisy_digits() -> Task:
    """Digits with a fifth of the training labels drawn at random, with Adam."""
    train, valid = split()
    x, y = train.tensors
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(10, y.shape, generator=random)
    wrong = torch.rand(len(y), generator=random) < 0.2
    return Task(
        name="noisy_digits",
        model=lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
        train=TensorDataset(x, torch.where(wrong, drawn, y)),
        valid=valid,
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        batch_size=64,
        epochs=15,
    )


def classes(name: str, load: Callable[..., tuple[np.ndarray, np.ndarray]], epochs: int) -> Task:
    """Standardised columns of one of scikit-learn's tables, an MLP and AdamW."""
    x, y = load(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    x_train, x_valid = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    y_train, y_valid = (torch.tensor(part, dtype=torch.int64) for part in parts[2:])
    mean, deviation, kinds = x_train.mean(0), x_train.std(0), len(set(y))
    return Task(
        name=name,
        model=lambda: nn.Sequential(
            nn.Linear(len(mean), 32), nn.Tanh(), nn.Dropout(0.2), nn.Linear(32, kinds)
        ),
        train=TensorDataset((x_train - mean) / deviation, y_train),
        valid=TensorDataset((x_valid - mean) / deviation, y_valid),
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.AdamW(model.parameters(), lr),
        batch_size=16,
        epochs=epochs,
    )


def friedman() -> Task:
    """Friedman's first function with noise, an MLP and SGD with momentum."""
    x, y = make_friedman1(n_samples=600, n_features=10, noise=1.0, random_state=0)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]
    y = (y - y[:400].mean()) / y[:400].std()
    return Task(
        name="friedman",
        model=lambda: nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1)),
        train=TensorDataset(x[:400], y[:400]),
        valid=TensorDataset(x[400:], y[400:]),
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9),
        batch_size=32,
        epochs=20,
    )


TASKS: dict[str, Callable[[], Task]] = {
    "digits": lambda: load_task("digits"),
    "noisy_digits": noisy_digits,
    "diabetes": lambda: load_task("diabetes"),
    "friedman": friedman,
    "breast_cancer": lambda: classes("breast_cancer", load_breast_cancer, 10),
    "wine": lambda: classes("wine", load_wine, 20),
    "classifier": lambda: replace(load_task("classifier"), baseline=None),
}


def candidates(task: Task) -> list[Candidate]:
    """The best of every default family after ten trials, and the start."""
    trainer = BatchedTrainer()
    suggestion = range_test(task, trainer=trainer).suggest()
    experiment = Experiment(RunSettings(), task)
    spaces, _ = experiment.spaces(suggestion)
    results = search(
        task,
        spaces,
        trials=10,
        seeds=experiment.search_seeds,
        ask_size=3,
        together=24,
        trainer=trainer,
    )
    best = {result.space.family.name: result.best for result in results}
    found = [Candidate(name, one.lr, one.schedule) for name, one in best.items() if one is not None]
    cosine = next(space for space in spaces if space.family.name == "cosine")
    return [*found, Candidate(START, *cosine.ask(FixedTrial(cosine.first_trials()[0])))]


def record(task: Task) -> pd.DataFrame:
    """Final loss by seed and candidate; that before training where a run diverged."""
    compared = candidates(task)
    plans = [Plan(one.lr, one.schedule, seed) for one in compared for seed in SEEDS]
    outcomes = fit(task, plans, trainer=BatchedTrainer()).outcomes()
    finals = [o.start if o.diverged else o.final for o in outcomes]
    table = np.array(finals).reshape(len(compared), -1).T
    print(*(f"{one.name}: {one.recipe}" for one in compared), sep="\n", flush=True)
    return pd.DataFrame(table, index=list(SEEDS), columns=[one.name for one in compared])


def records() -> dict[str, pd.DataFrame]:
    """Every task's record, made where there is none."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    FOLDER.mkdir(exist_ok=True)
    found: dict[str, pd.DataFrame] = {}
    for name, make in TASKS.items():
        path, began = FOLDER / f"{name}.csv", time.process_time()
        if not path.exists():
            record(make()).to_csv(path, index_label="seed", float_format="%.8g")
            print(f"{name}: {time.process_time() - began:.0f} s", flush=True)
        found[name] = pd.read_csv(path, index_col="seed")
    return found


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    for task, table in records().items():
        print(f"\n{task}\n{table.describe().T[['mean', 'std']]}")
