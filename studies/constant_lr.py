"""Is the constant lr that decays are compared with the best one?

    python studies/constant_lr.py            about 1 minute on one core; what is recorded is kept

A decay that is shown to be better than "the constant lr" is only worth as much as that lr is good.
For five tasks the final loss of constant lrs, each root 2 from the next, is recorded on 64 seeds
that no search has (studies/constant_lr/TASK.csv; about 3 minutes). From it searches for the lr are
drawn, seeds with replacement, from where one begins up to 2.8 times below and twice above the best:

    three lrs         the best one of a run each between a halved and a doubled one, then the three
                      best on five seeds (the rule before)
    on nine           the same three on nine seeds
    near lrs          the best one between others within root 2, then the three best on five seeds
    as it is          that, the five best on two seeds, the best three of them on four, the best two
                      on eight: the very code of the search

`excess` is by how many percent the mean loss of the lr that is chosen is above that of the best lr,
`worst tenth` the excess that one in ten is above, `runs` what all of it takes.

Beside it what whole searches of `lrfinder run` chose (studies/constant_lr/searches.csv), before the
rule was changed ("as it was", which an older version made) and as it is.
What was found stands in studies/constant_lr.md.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from markdown import markdown
from verdict_records import TASKS

from lrfinder import FAMILIES, BatchedTrainer, Schedule, Space, fit, range_test, search
from lrfinder.experiment import Experiment
from lrfinder.schedules.recipe import Recipe
from lrfinder.settings import RunSettings
from lrfinder.training.records.history import Plan
from lrfinder.tuning.rounds import ask_size, round_size
from lrfinder.tuning.samplers import FINE, lacking, next_lr
from lrfinder.tuning.second_looks import SecondLook, count_of_second_seeds
from lrfinder.tuning.trials import FamilyResult, TrialResult

FOLDER = Path(__file__).parent / "constant_lr"
RANGES = {
    "digits": (0.03, 0.7),
    "noisy_digits": (3e-4, 0.02),
    "diabetes": (1e-4, 0.02),
    "friedman": (5e-3, 0.3),
    "classifier": (1e-3, 0.1),
}
SEEDS = range(20_000_000, 20_000_064)
BEGINS = (-3, -2, -2, -1, -1, -1, 0, 0, 0, 1, 1, 2)
"""Where a search begins, in steps of root 2 from the best lr."""
TRIALS = 10
CONSTANT = Schedule(FAMILIES["constant"], {})


def record(name: str) -> pd.DataFrame:
    """Final loss by seed and lr; that before training where a run diverged."""
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        low, high = RANGES[name]
        lrs = low * 2 ** (np.arange(round(2 * np.log2(high / low)) + 1) / 2)
        plans = [Plan(float(lr), CONSTANT, seed) for lr in lrs for seed in SEEDS]
        outcomes = fit(TASKS[name](), plans, trainer=BatchedTrainer()).outcomes()
        finals = np.array([one.start if one.diverged else one.final for one in outcomes])
        table = pd.DataFrame(finals.reshape(len(lrs), -1).T, index=list(SEEDS))
        table.columns = [f"{lr:.6g}" for lr in lrs]
        table.to_csv(path, index_label="seed", float_format="%.8g")
    return pd.read_csv(path, index_col=0)


@dataclass
class Draw:
    """Constant lrs by their places in a record, each looked at on so many of the drawn seeds."""

    values: np.ndarray
    """By seed and place."""
    seeds: dict[int, int] = field(default_factory=dict[int, int])

    def look(self, place: int, seeds: int) -> None:
        """Train this lr on so many seeds, as far as it was not."""
        self.seeds[place] = max(seeds, self.seeds.get(place, 0))

    def value(self, place: int) -> float:
        """On the seed of the search."""
        return float(self.values[0, place])

    def mean(self, place: int) -> float:
        """On all seeds that it was looked at on."""
        return float(self.values[: self.seeds[place], place].mean())

    def bracket(self, begin: int, ratio: float) -> None:
        """Try lrs on one seed, as the search does."""
        last = self.values.shape[1] - 1
        for place in (begin, max(0, begin - 2), min(last, begin + 2)):
            self.look(place, 1)
        while len(self.seeds) < TRIALS:
            told = [(self.value(place), 2.0 ** (place / 2)) for place in self.seeds]
            asked: list[float] = []
            for _ in range(lacking(told, 1.0, 2.0 ** (last / 2), ratio)):
                asked.append(next_lr(told, asked, 1.0, 2.0 ** (last / 2)) or 0.0)
            places = {round(2 * float(np.log2(lr))) for lr in asked if lr} - set(self.seeds)
            if not places:
                return
            for place in sorted(places):
                self.look(place, 1)

    def best_of_three(self, seeds: int) -> int:
        """The best of the three that are best on one seed, by so many."""
        three = sorted(self.seeds, key=self.value)[:3]
        for place in three:
            self.look(place, seeds)
        return min(three, key=self.mean)

    def staged(self) -> int:
        """What the search chooses, by its own code."""
        last, count = self.values.shape[1] - 1, count_of_second_seeds(TRIALS)
        space = Space(FAMILIES["constant"], 1.0, 2.0 ** (last / 2), 1.0, 10, 10)
        while True:
            trials = tuple(self._trial(place) for place in sorted(self.seeds))
            found = FamilyResult(space, "", trials, 0, exhausted=False)
            waiting = found.contenders(count)
            if not waiting:
                return found.best.number if found.best else 0
            for trial, seeds in waiting:
                self.look(trial.number, 1 + seeds)

    def _trial(self, place: int) -> TrialResult:
        others = tuple(self.values[1 : self.seeds[place], place].tolist())
        again = SecondLook(others, (False,) * len(others), 0) if others else None
        recipe = Recipe(2.0 ** (place / 2), CONSTANT)
        return TrialResult(place, recipe, {}, self.value(place), False, 0, again)


def three_lrs(draw: Draw, begin: int, *, seeds: int = 5, ratio: float = 2.1) -> int:
    """The best of three on so many seeds."""
    draw.bracket(begin, ratio)
    return draw.best_of_three(seeds)


def as_it_is(draw: Draw, begin: int) -> int:
    """What the search does."""
    draw.bracket(begin, FINE)
    return draw.staged()


RULES: dict[str, Callable[[Draw, int], int]] = {
    "three lrs": three_lrs,
    "on nine": lambda draw, begin: three_lrs(draw, begin, seeds=9),
    "near lrs": lambda draw, begin: three_lrs(draw, begin, ratio=FINE),
    "as it is": as_it_is,
}


def drawn(tables: dict[str, pd.DataFrame], draws: int) -> pd.DataFrame:
    """One row per task and rule."""
    rows: list[dict[str, object]] = []
    for task, table in tables.items():
        values, means = table.to_numpy(), table.to_numpy().mean(axis=0)
        best, last = int(means.argmin()), values.shape[1] - 1
        for name, rule in RULES.items():
            random, excess, runs = np.random.default_rng(0), list[float](), list[int]()
            for _ in range(draws):
                seeds = random.integers(len(values), size=20)
                begin = int(np.clip(best + random.choice(BEGINS), 1, last - 1))
                draw = Draw(values[seeds])
                excess.append(100 * (means[rule(draw, begin)] / means[best] - 1))
                runs.append(sum(draw.seeds.values()))
            rows.append(
                {
                    "task": task,
                    "rule": name,
                    "excess": float(np.mean(excess)),
                    "worst tenth": float(np.quantile(excess, 0.9)),
                    "runs": float(np.mean(runs)),
                }
            )
    return pd.DataFrame(rows)


def searched(name: str, seed: int) -> dict[str, object]:
    """What a search of the default run chooses."""
    trainer = BatchedTrainer()
    experiment = Experiment(RunSettings(seed=seed), TASKS[name]())
    curve = range_test(experiment.task, seeds=experiment.find_seeds, trainer=trainer)
    spaces, _ = experiment.spaces(curve.suggest())
    found = search(
        experiment.task,
        spaces,
        trials=TRIALS,
        even=False,
        seeds=experiment.search_seeds,
        again=experiment.second_seeds,
        seed=seed,
        trainer=trainer,
        ask_size=ask_size(TRIALS, one_lr=False),
        together=256,
        round_size=round_size(1, 32, 256),
    )
    constant = next(one for one in found if one.space.family.name == "constant")
    lr = constant.best.lr if constant.best else float("nan")
    runs = sum(1 + trial.looks for trial in constant.trials)
    return {"task": name, "seed": seed, "lr": lr, "lrs": len(constant.trials), "runs": runs}


def searches(repeats: int) -> pd.DataFrame:
    """Whole searches, one row each; what is not recorded is made."""
    path = FOLDER / "searches.csv"
    kept = pd.read_csv(path)
    for seed in range(1, repeats + 1):
        for name in sorted(set(kept["task"])):
            now = kept[(kept["rule"] == "as it is") & (kept["task"] == name)]
            if seed not in set(now["seed"]):
                row = pd.DataFrame([{"rule": "as it is", **searched(name, seed)}])
                kept = pd.concat([kept, row])
                kept.to_csv(path, index=False, float_format="%.6g")
    return kept


def of_searches(kept: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per task and rule; between two recorded lrs the mean loss is interpolated."""
    excess: list[float] = []
    for row in kept.to_dict("records"):
        table = tables[row["task"]]
        lrs, means = np.log(table.columns.astype(float)), table.to_numpy().mean(axis=0)
        excess.append(100 * (np.interp(np.log(row["lr"]), lrs, means) / means.min() - 1))
    grouped = kept.assign(excess=excess).groupby(["task", "rule"])
    found = grouped.agg(
        searches=("seed", "count"),
        excess=("excess", "mean"),
        worst=("excess", "max"),
        lrs=("lrs", "mean"),
        runs=("runs", "mean"),
    )
    return found.reset_index().sort_values(["task", "rule"], ascending=[True, False])


def main() -> None:
    """Simulate, search where it is missing, print and write the tables."""
    parser = argparse.ArgumentParser(description="Is the constant lr the best one?")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tables = {name: record(name) for name in RANGES}
    rows = drawn(tables, asked.draws)
    means = rows.groupby("rule", sort=False)[["excess", "worst tenth", "runs"]].mean()
    whole = of_searches(searches(asked.repeats), tables)
    lines = [
        "# Is the constant lr that decays are compared with the best one?",
        f"Made by `python studies/constant_lr.py`: {asked.draws} draws from {len(SEEDS)} recorded "
        f"seeds; torch {version('torch')}. What rules and columns are stands at the top of the "
        "script.",
        markdown(rows),
        "Means over the tasks:",
        markdown(means.reset_index()),
        "## Whole searches",
        "Of `lrfinder run` with other run seeds, against the best recorded lr; `worst` is the "
        "largest excess of them.",
        markdown(whole),
    ]
    (FOLDER.parent / "constant_lr.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print("\n\n".join(lines))


if __name__ == "__main__":
    main()
