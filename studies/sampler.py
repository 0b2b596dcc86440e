"""Which sampler should search a family: Optuna's Gaussian process, TPE, or random search?

    python studies/sampler.py            about 20 minutes on one core

All try a family's defaults first, at the lr given, at half and at twice of it; *TPE, random first*
draws at random after the defaults instead, as Optuna does by itself; *around the best* moves the
best trial so far by a seventh of the range of each parameter (Cauchy), one of ten at random.

For every sampler the best trial of each family is trained again on fresh seeds: a row tells what
the sampler is worth (`loss`, the mean over tasks, families and repeats of the fresh loss,
relative to that of random search with as many trials, with its standard error over repeats and
tasks) and what it costs (`ask`, milliseconds of CPU a trial).

What was found stands in studies/sampler.md; this script prints the table.
"""

import argparse
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from markdown import markdown
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from lrfinder import FAMILIES, BatchedTrainer, Space, Task, fit, load_task, search
from lrfinder.training.records.history import Plan
from lrfinder.tuning.rounds import ask_size

TASKS = {"digits": 0.1, "diabetes": 0.05, "classifier": 0.01}
"""Built-in tasks, and an lr in the middle of the two decades that are searched."""
FAMILIES_SEARCHED = ("step", "exponential", "cosine", "polynomial", "wsd")
REPEATS = {5: 6, 20: 4, 100: 2}
"""Repeats of the studies of so many trials."""
FRESH = tuple(range(900, 916))


def gaussian_process(space: Space, startup: int, seed: int) -> BaseSampler:
    """Optuna's GPSampler."""
    return GPSampler(seed=seed % 2**32, n_startup_trials=startup, warn_independent_sampling=False)


def tpe(space: Space, startup: int, seed: int) -> BaseSampler:
    """Optuna's default."""
    return TPESampler(seed=seed % 2**32, n_startup_trials=startup)


class AroundTheBest(RandomSampler):
    """Local search: moves every parameter of the best trial so far a little, or a lot."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self._draw = np.random.default_rng(seed)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 (a value of the parameter)
        """The best trial's value, moved; a choice is kept in three of four."""
        ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        best = min(ended, key=lambda t: t.values[0], default=None)
        kept = None if best is None else best.params.get(param_name)
        if kept is None or self._draw.random() < 0.1:
            return super().sample_independent(study, trial, param_name, param_distribution)
        if isinstance(param_distribution, CategoricalDistribution):
            choices = param_distribution.choices
            return (
                kept if self._draw.random() < 0.75 else choices[self._draw.integers(len(choices))]
            )
        low, high = param_distribution.low, param_distribution.high  # pyright: ignore
        log = bool(param_distribution.log)  # pyright: ignore
        at, low, high = (math.log(v) if log else v for v in (kept, low, high))
        moved = at + (high - low) * 0.15 * float(self._draw.standard_cauchy())
        period = 2 * (high - low) or 1.0  # reflected at the ends
        place = abs((moved - low) % period)
        value = low + min(place, period - place)
        value = math.exp(value) if log else value
        first, last = param_distribution.low, param_distribution.high  # pyright: ignore
        value = min(max(value, first), last)
        return round(value) if isinstance(param_distribution, IntDistribution) else value


def around_the_best(space: Space, startup: int, seed: int) -> BaseSampler:
    """A local search."""
    return AroundTheBest(seed % 2**32)


def at_random(space: Space, startup: int, seed: int) -> BaseSampler:
    """Random search."""
    return RandomSampler(seed=seed % 2**32)


RANDOM_FIRST = "TPE, random first"
SAMPLERS = {
    "random": at_random,
    RANDOM_FIRST: tpe,
    "TPE": tpe,
    "Gaussian process": gaussian_process,
    "around the best": around_the_best,
}


class Timed(BaseSampler):
    """A sampler that adds up the CPU time of its work."""

    seconds = 0.0

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def _timed(self, name: str, *args: object) -> Any:  # noqa: ANN401 (what the sampler answers)
        began = time.process_time()
        answer = getattr(self._sampler, name)(*args)
        Timed.seconds += time.process_time() - began
        return answer

    def infer_relative_search_space(self, *args: object) -> Any:  # noqa: ANN401
        """As the sampler does."""
        return self._timed("infer_relative_search_space", *args)

    def sample_relative(self, *args: object) -> Any:  # noqa: ANN401
        """As the sampler does."""
        return self._timed("sample_relative", *args)

    def sample_independent(self, *args: object) -> Any:  # noqa: ANN401
        """As the sampler does."""
        return self._timed("sample_independent", *args)


def measure(name: str, sampler: str, trials: int, repeat: int) -> Iterator[dict[str, object]]:
    """One row per family."""
    task: Task = load_task(name)
    task = replace(task, epochs=min(task.epochs, 20))
    lr = TASKS[name]
    ranges = {"lr_low": lr / 10, "lr_default": lr, "lr_high": lr * 10}
    ranges |= {"lr_spread": 1.0} if sampler == RANDOM_FIRST else {}
    budget = {"epochs": task.epochs, "updates_per_epoch": task.data().updates_per_epoch}
    trainer = BatchedTrainer()
    Timed.seconds = 0.0
    found = search(
        task,
        [Space(family=FAMILIES[family], **ranges, **budget) for family in FAMILIES_SEARCHED],
        trials=trials,
        seeds=[repeat],
        seed=repeat,
        ask_size=ask_size(trials, one_lr=False),
        together=256,
        trainer=trainer,
        sampler=lambda *args: Timed(SAMPLERS[sampler](*args)),
    )
    asked = 1000 * Timed.seconds / (trials * len(found))
    best = [result.best for result in found]
    plans = [Plan(one.lr, one.schedule, seed) for one in best for seed in FRESH]
    finals = np.array([o.value for o in fit(task, plans, trainer=trainer).outcomes()])
    for family, losses in zip(FAMILIES_SEARCHED, finals.reshape(-1, len(FRESH)), strict=True):
        yield {
            "trials": trials,
            "sampler": sampler,
            "task": name,
            "family": family,
            "repeat": repeat,
            "loss": float(losses.mean()),
            "ask": asked,
        }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per number of trials and sampler."""
    lines: list[dict[str, object]] = []
    for trials, part in rows.groupby("trials"):
        keys = ["task", "family"]
        by_chance = part[part["sampler"] == "random"].groupby(keys)["loss"].mean()
        for sampler in SAMPLERS:
            own = part[part["sampler"] == sampler]
            ratio = own.set_index([*keys, "repeat"])["loss"] / by_chance
            each = ratio.groupby(["task", "repeat"]).mean()
            families = ratio.groupby("family").mean()
            lines.append(
                {
                    "trials": trials,
                    "sampler": sampler,
                    "loss": f"{each.mean():.3f} ± {each.sem():.3f}",
                    **{name: f"{families[name]:.3f}" for name in FAMILIES_SEARCHED},
                    "ask": f"{own['ask'].mean():.1f}",
                }
            )
    return pd.DataFrame(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Which sampler should search a family?")
    parser.add_argument("--trials", nargs="+", type=int, choices=REPEATS, default=[5, 20])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    rows: list[dict[str, object]] = []
    for trials in asked.trials:
        for name in TASKS:
            for sampler in SAMPLERS:
                for repeat in range(REPEATS[trials]):
                    rows += measure(name, sampler, trials, repeat)
        print(summary(pd.DataFrame(rows)).to_string(), flush=True)
    print(markdown(summary(pd.DataFrame(rows))))


if __name__ == "__main__":
    main()
