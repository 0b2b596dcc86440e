"""Does the search earn its cost? lrfinder against other ways to spend as many runs.

    python studies/search_quality.py                          about 20 minutes on one core
    python studies/search_quality.py --budgets 10 30 100 --repeats 10

A budget is so many run-equivalents: the updates that a method trains over those of one training,
everything counted. What each recommends is trained on fresh seeds; `excess` is by how many percent
its loss there is above the lowest that any method, budget and repeat reached on the task. Rows are
kept in a file under build/, so that a study that was interrupted, or is asked for more, goes on.

start              the suggested lr x multiplier with the default cosine: no search
lrfinder           range test, shared trials, second looks, and a comparison of the best families on
                   other seeds, as far as the budget goes
TPE                one Optuna study over the family, its parameters and the lr in 1e-5 to 1
TPE and halving    the same with successive halving on the validation loss of every epoch
random             random search in the same space
grid, then cosine  constant lrs, two a decade (at 10 runs one), then cosine at multiples of the best
schedule-free      SGD or AdamW of the package schedulefree at the lr it recommends, no search
Prodigy            of the package prodigyopt at lr 1 with cosine, no search
D-Adaptation       SGD or Adam of the package dadaptation at lr 1 with cosine, no search
GreedyLR           of the package transformers, stepped by the validation loss of every epoch, with
                   its own defaults but no patience, from the lr 1e-3; no search

The last four need `pip install schedulefree prodigyopt dadaptation transformers` and are left out
without.
What was found stands in studies/search_quality.md.
"""

import argparse
import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from markdown import markdown
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_friedman1
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import FAMILIES, BatchedTrainer, Space, Task, fit, range_test, search
from lrfinder.experiment import training_seeds
from lrfinder.schedules import DEFAULT_FAMILIES, Family, Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.training.records.history import History, Plan
from lrfinder.tuning import lr_ranges
from lrfinder.tuning.second_looks import count_of_second_seeds

KEPT = Path(__file__).parent.parent / "build" / "search_quality.csv"
FRESH = tuple(range(900_000, 900_010))
EPOCHS = 15
ASKED = 4
"""Trials that TPE is asked for at once."""


def _sets(x: Any, y: Any) -> tuple[TensorDataset, TensorDataset]:  # noqa: ANN401 (of scikit-learn)
    """Training and validation rows, three to one, in a fixed random order."""
    x = np.asarray(x, np.float32)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    kind = np.float32 if y.dtype.kind == "f" else np.int64
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    data = torch.tensor(x)[rows], torch.tensor(np.asarray(y, kind))[rows]
    cut = 3 * len(x) // 4
    return TensorDataset(*(part[:cut] for part in data)), TensorDataset(*(p[cut:] for p in data))


def _net(inputs: int, outputs: int, width: int = 48) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, outputs),
    )  # fmt: skip


def _sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


def _adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr)


def tasks() -> dict[str, Task]:
    """Five tasks of 135 to 330 updates."""
    digits = load_digits(return_X_y=True)
    wrong = digits[1].copy()
    draw = np.random.default_rng(0)
    wrong[draw.random(len(wrong)) < 0.2] = draw.integers(10)
    friedman = make_friedman1(1200, noise=1.0, random_state=0)
    cancer, wine = load_breast_cancer(return_X_y=True), load_wine(return_X_y=True)

    def task(data: Any, outputs: int, optimizer: Any, size: int, **more: Any) -> Task:  # noqa: ANN401
        train, valid = _sets(*data)
        criterion = more.pop("criterion", nn.CrossEntropyLoss())
        inputs = train.tensors[0].shape[1]
        return Task(
            model=_net(inputs, outputs),
            train=train,
            valid=valid,
            criterion=criterion,
            optimizer=optimizer,
            batch_size=size,
            epochs=EPOCHS,
        )

    scaled = (friedman[0], (friedman[1] - friedman[1].mean()) / friedman[1].std())
    squared = {"criterion": lambda output, y: nn.functional.mse_loss(output[:, 0], y)}
    return {
        "digits": task(digits, 10, _sgd, 64),
        "noisy digits": task((digits[0], wrong), 10, _adam, 64),
        "friedman": task(scaled, 1, _sgd, 48, **squared),
        "cancer": task(cancer, 2, _adam, 32),
        "wine": task(wine, 3, _sgd, 16),
    }


@dataclass
class Bench:
    """A task, and the updates that a method has trained on it."""

    task: Task
    repeat: int
    trainer: BatchedTrainer = field(default_factory=BatchedTrainer)
    updates: int = 0

    @property
    def per_epoch(self) -> int:
        """Updates of an epoch."""
        return self.task.data().updates_per_epoch

    @property
    def length(self) -> int:
        """Updates of a training."""
        return self.task.epochs * self.per_epoch

    @property
    def spent(self) -> float:
        """Run-equivalents so far."""
        return self.updates / self.length

    def trained(self, recipes: Sequence[Recipe], seeds: Sequence[int]) -> History:
        """Train every recipe under every seed, in this order, and count it."""
        plans = [Plan(one.lr, one.schedule, seed) for one in recipes for seed in seeds]
        self.updates += len(plans) * self.length
        return fit(self.task, plans, trainer=self.trainer)

    def values(self, recipes: Sequence[Recipe], seeds: Sequence[int]) -> Any:  # noqa: ANN401
        """Loss of every recipe, the mean over seeds."""
        ended = [outcome.value for outcome in self.trained(recipes, seeds).outcomes()]
        return np.array(ended).reshape(len(recipes), len(seeds)).mean(1)

    def spaces(self) -> list[Space]:
        """The default families', at lr 1 until a range is known."""
        budget = {"epochs": self.task.epochs, "updates_per_epoch": self.per_epoch}
        lr = {"lr_low": 1.0, "lr_high": 1.0, "lr_default": 1.0}
        return [Space(family=FAMILIES[name], **lr, **budget) for name in DEFAULT_FAMILIES]

    def suggestion(self, cost: float | None = None) -> Any:  # noqa: ANN401
        """Of a range test, which is counted, of so many run-equivalents at most."""
        seeds = training_seeds("find", self.repeat, 1)
        curve = range_test(self.task, seeds=seeds, cost=cost, trainer=self.trainer)
        self.updates += curve.updates
        return curve.suggest()


Method = Callable[[Bench, int], Recipe]


def start(bench: Bench, budget: int) -> Recipe:
    """The default cosine at the lr that the range test suggests for it."""
    ranged, _ = lr_ranges.from_range_test(bench.spaces(), bench.task, bench.suggestion())
    space = next(one for one in ranged if one.family.name == "cosine")
    return Recipe(*space.ask(optuna.trial.FixedTrial(space.first_trials()[0])))


def lrfinder(bench: Bench, budget: int) -> Recipe:
    """Two thirds for range test and trials; then second looks, and the best families again."""
    suggestion = bench.suggestion(cost=budget / 5)
    ranged, _ = lr_ranges.from_range_test(bench.spaces(), bench.task, suggestion)
    trials = max(1, int((2 / 3 * budget - bench.spent) / len(ranged)))
    seeds = training_seeds("search", bench.repeat, 1 + count_of_second_seeds(trials))
    room = budget - bench.spent
    found = search(
        bench.task,
        ranged,
        trials=trials,
        even=False,
        seeds=seeds[:1],
        again=seeds[1:] if room >= (trials + 1) * len(ranged) else (),
        seed=bench.repeat,
        trainer=bench.trainer,
        ask_size=2,
        together=256,
    )
    made = [trial for one in found for trial in one.trials]
    looks = sum(one.again.runs for one in made if one.again is not None)
    bench.updates += (len(made) + looks) * bench.length
    ended = [best for one in found if (best := one.best) is not None]
    ended.sort(key=lambda best: best.mean)
    left = int(budget - bench.spent)
    compared = [best.recipe for best in ended[: max(2, left // 4)]]
    if left < len(compared):
        return ended[0].recipe
    fresh = training_seeds("confirm", bench.repeat, left // len(compared))
    return compared[int(bench.values(compared, fresh).argmin())]


class _Prefixed:
    """A trial whose parameters are called by their family, too."""

    def __init__(self, trial: optuna.Trial, family: str) -> None:
        self._trial, self._family = trial, family

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        suggest = getattr(self._trial, name)
        return lambda parameter, *given, **options: suggest(
            f"{self._family} {parameter}", *given, **options
        )


def _optuna(sampler: Callable[[int], optuna.samplers.BaseSampler], *, halving: bool) -> Method:
    """One study over everything."""

    def method(bench: Bench, budget: int) -> Recipe:
        pruner = optuna.pruners.SuccessiveHalvingPruner() if halving else None
        study = optuna.create_study(
            sampler=sampler(bench.repeat), pruner=pruner or optuna.pruners.NopPruner()
        )
        by_name = {space.family.name: space for space in bench.spaces()}
        tried: dict[int, Recipe] = {}
        seeds = training_seeds("search", bench.repeat, 1)
        while bench.spent < budget:
            room = math.ceil(budget - bench.spent)
            asked = [study.ask() for _ in range(min(ASKED, room))]
            for trial in asked:
                name = trial.suggest_categorical("family", list(by_name))
                lr = trial.suggest_float("lr", 1e-5, 1.0, log=True)
                space = replace(by_name[name], lowest_lr=lambda _, lr=lr: lr)
                params = space.family.space(_Prefixed(trial, name), space.budget)
                tried[trial.number] = Recipe(lr, Schedule(space.family, params))
            before = bench.updates
            history = bench.trained([tried[trial.number] for trial in asked], seeds)
            bench.updates = before
            for row, (trial, outcome) in enumerate(zip(asked, history.outcomes(), strict=True)):
                bench.updates += _told(study, trial, history.measures["loss"][row], outcome, bench)
        return tried[study.best_trial.number]

    return method


def _told(study: Any, trial: Any, losses: Any, outcome: Any, bench: Bench) -> int:  # noqa: ANN401
    """Tell a trial, as far as the pruner lets it run; the updates that it takes."""
    for epoch, loss in enumerate(losses[1:], start=1):
        trial.report(float(np.nan_to_num(loss, nan=1e9, posinf=1e9)), epoch)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch * bench.per_epoch
    study.tell(trial, outcome.value)
    return bench.length


def grid_then_cosine(bench: Bench, budget: int) -> Recipe:
    """Constant lrs first; then cosine, and the best of all."""
    seeds = training_seeds("search", bench.repeat, 1)
    lrs = np.logspace(-4, 0, 5 if budget <= 10 else 9)
    constant = Schedule(FAMILIES["constant"], {})
    recipes = [Recipe(float(lr), constant) for lr in lrs]
    values = list(bench.values(recipes, seeds))
    best = recipes[int(np.argmin(values))].lr
    cosine = Schedule(FAMILIES["cosine"], {"T_max": bench.task.epochs, "eta_min": 0.0})
    count = int(budget - bench.spent)
    more = [Recipe(best * ratio, cosine) for ratio in np.geomspace(0.5, 8, count)]
    values += list(bench.values(more, seeds))
    return (recipes + more)[int(np.argmin(values))]


METHODS: dict[str, Method] = {
    "start": start,
    "lrfinder": lrfinder,
    "TPE": _optuna(lambda seed: optuna.samplers.TPESampler(seed=seed), halving=False),
    "TPE and halving": _optuna(lambda seed: optuna.samplers.TPESampler(seed=seed), halving=True),
    "random": _optuna(lambda seed: optuna.samplers.RandomSampler(seed=seed), halving=False),
    "grid, then cosine": grid_then_cosine,
}


def _schedule_free(module: Any, task: Task) -> tuple[Task, Recipe]:  # noqa: ANN401
    sgd = task.prototype.optimizer == "SGD"
    kind = module.SGDScheduleFree if sgd else module.AdamWScheduleFree
    switched = replace(task, optimizer=lambda model, lr: kind(model.parameters(), lr=lr))
    return switched, Recipe(1.0 if sgd else 0.0025, Schedule(FAMILIES["constant"], {}))


def _prodigy(module: Any, task: Task) -> tuple[Task, Recipe]:  # noqa: ANN401
    switched = replace(task, optimizer=lambda model, lr: module.Prodigy(model.parameters(), lr=lr))
    cosine = Schedule(FAMILIES["cosine"], {"T_max": task.epochs, "eta_min": 0.0})
    return switched, Recipe(1.0, cosine)


def _d_adaptation(module: Any, task: Task) -> tuple[Task, Recipe]:  # noqa: ANN401
    def sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return module.DAdaptSGD(model.parameters(), lr=lr, momentum=0.9)

    def adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return module.DAdaptAdam(model.parameters(), lr=lr, decouple=True, weight_decay=0.01)

    switched = replace(task, optimizer=sgd if task.prototype.optimizer == "SGD" else adam)
    cosine = Schedule(FAMILIES["cosine"], {"T_max": task.epochs, "eta_min": 0.0})
    return switched, Recipe(1.0, cosine)


def _greedy_lr(module: Any, task: Task) -> tuple[Task, Recipe]:  # noqa: ANN401
    class Greedy(torch.optim.lr_scheduler.ReduceLROnPlateau):
        """The scheduler of transformers, which is none of torch's, in the clothes of one."""

        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            super().__init__(optimizer)
            self._greedy = module.GreedyLR(optimizer, patience=0)

        def step(self, metrics: Any, epoch: int | None = None) -> None:  # noqa: ANN401
            self._greedy.step(float(metrics), epoch)

    family = Family(
        name="greedy_lr",
        build=lambda optimizer, _: Greedy(optimizer),
        space=lambda _trial, _budget: {},
        by_measure=True,
    )
    return task, Recipe(1e-3, Schedule(family, {}))


RIVALS = {
    "schedule-free": ("schedulefree", _schedule_free),
    "Prodigy": ("prodigyopt", _prodigy),
    "D-Adaptation": ("dadaptation", _d_adaptation),
    "GreedyLR": ("transformers.optimization", _greedy_lr),
}
"""What is to need no lr, or no schedule, by the module that has it."""


def rival(name: str, task: Task) -> float:
    """Mean loss on the fresh seeds; nan where the package is not there."""
    module, made = RIVALS[name]
    try:
        switched, recipe = made(importlib.import_module(module), task)
    except ImportError:
        return math.nan
    plans = [Plan(recipe.lr, recipe.schedule, seed) for seed in FRESH]
    return float(np.mean([outcome.value for outcome in fit(switched, plans).outcomes()]))


def measure(budgets: Sequence[int], repeats: int) -> pd.DataFrame:
    """One row per task, method, budget and repeat; those that are kept are not made again."""
    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    made = {(r["task"], r["method"], r["budget"], r["repeat"]) for r in rows}
    KEPT.parent.mkdir(exist_ok=True)

    def keep(*key: Any, runs: float, loss: float) -> None:  # noqa: ANN401
        named = dict(zip(("task", "method", "budget", "repeat"), key, strict=True))
        rows.append({**named, "runs": runs, "loss": loss})
        pd.DataFrame(rows).to_csv(KEPT, index=False)

    for repeat in range(repeats):
        for name, task in tasks().items():
            for method, recommend in METHODS.items():
                for budget in (0,) if method == "start" else budgets:
                    if (name, method, budget, repeat) in made:
                        continue
                    bench = Bench(task, repeat)
                    best = recommend(bench, budget)
                    runs = bench.spent
                    loss = float(bench.values([best], FRESH)[0])
                    keep(name, method, budget, repeat, runs=runs, loss=loss)
            for method in RIVALS:
                if repeat == 0 and (name, method, 0, 0) not in made:
                    loss = rival(method, task)
                    if loss == loss:
                        keep(name, method, 0, 0, runs=1.0, loss=loss)
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Median and worst excess in percent by method, budget and task."""
    floor = rows.groupby("task")["loss"].transform("min")
    rows = rows.assign(excess=100 * (rows["loss"] / floor - 1))
    lines: list[dict[str, object]] = []
    order = [*METHODS, *RIVALS]
    groups = sorted(
        rows.groupby(["budget", "method"]), key=lambda g: (g[0][0], order.index(g[0][1]))
    )
    for (_, method), part in groups:
        line: dict[str, object] = {"runs": f"{part['runs'].mean():.1f}", "method": method}
        for task in dict.fromkeys(rows["task"]):
            own = part.loc[part["task"] == task, "excess"]
            line[task] = f"{own.median():.1f} ({own.max():.1f})" if len(own) else ""
        line["all"] = f"{part.groupby('task')['excess'].median().mean():.1f}"
        lines.append(line)
    return pd.DataFrame(lines)


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """By how many percent each other method's loss is above lrfinder's: mean and 95% interval.

    Of the ratio, in its logarithm, since now and then a recommendation fails by far; and in how
    many repeats it is above.
    """
    from lrfinder.statistics import student_t

    keys = ["task", "repeat"]
    rows = rows.assign(log_loss=np.log(rows["loss"]))
    lines: list[dict[str, object]] = []
    for budget in sorted(set(rows["budget"]) - {0}):
        at = rows[rows["budget"].isin([budget, 0])]
        ours = at[at["method"] == "lrfinder"].set_index(keys)["log_loss"]
        for method in METHODS:
            if method == "lrfinder":
                continue
            gap = at[at["method"] == method].set_index(keys)["log_loss"] - ours
            line: dict[str, object] = {"budget": budget, "against": method}
            for task, own in gap.dropna().groupby("task", sort=False):
                found = 100 * np.expm1(student_t(own.to_numpy(), 0.95))
                mean, low, high = (f"{one:+.1f}" for one in found)
                line[str(task)] = f"{mean} [{low}, {high}], {(own > 0).sum()} of {len(own)}"
            lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description="Does the search earn its cost?")
    parser.add_argument("--budgets", nargs="+", type=int, default=[10, 30])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    rows = measure(asked.budgets, asked.repeats)
    print(markdown(table(rows)), markdown(paired(rows)), sep="\n\n")


if __name__ == "__main__":
    main()
