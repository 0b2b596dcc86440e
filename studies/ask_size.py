"""How many trials of a family should be asked at once, and should their lr come from a grid?

    python studies/ask_size.py            about 15 minutes on one core

Trials that are asked together know nothing of each other, but share prefixes and fill the batched
trainer; an lr from a small grid makes more of them share. For every setting the family's best trial
is trained again on fresh seeds, so a row tells what the setting costs in quality (`loss`, the mean
over tasks, families and repeats of the fresh validation loss, relative to that of the first row of
its part, with its standard error over repeats) and what it saves in updates (`shared`, asked over
trained).

What was found stands in studies/ask_size.md, which this script writes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from markdown import markdown

from lrfinder import FAMILIES, BatchedTrainer, Schedule, Space, Task, fit, load_task, search
from lrfinder.training.records.history import Plan

TASKS = {"digits": 0.1, "diabetes": 0.05, "classifier": 0.01}
"""Built-in tasks, and an lr in the middle of what is searched."""
FAMILIES_SEARCHED = ("step", "exponential", "cosine", "wsd")
FRESH = tuple(range(900, 916))


@dataclass(frozen=True)
class Setting:
    """How trials are asked."""

    part: str
    trials: int
    ask: int
    points: int | None = None
    """Learning rates on the grid; None: continuous."""
    width: float = 0.0
    """Decades of lr that are searched; 0: one lr."""


@dataclass(frozen=True)
class Gridded(Space):
    """A space whose lr is one of a few values, evenly spaced on a log scale."""

    points: int = 2

    def ask(self, trial: object) -> tuple[float, Schedule]:
        """Peak lr and schedule of a trial."""
        lr, schedule = super().ask(trial)
        place = np.log(lr / self.lr_low) / np.log(self.lr_high / self.lr_low) * (self.points - 1)
        return self.lr_low * (self.lr_high / self.lr_low) ** (
            round(place) / (self.points - 1)
        ), schedule


SETTINGS = (
    *(Setting("one lr, 10 trials", 10, ask) for ask in (1, 2, 5, 10)),
    *(Setting("lr searched, 10 trials", 10, ask, width=2.0) for ask in (1, 2, 4, 10)),
    *(Setting("lr searched, 10 trials", 10, 2, points, 2.0) for points in (5, 9)),
    *(Setting("one lr, 32 trials", 32, ask) for ask in (2, 8, 16, 32)),
    *(Setting("lr searched, 32 trials", 32, ask, width=2.0) for ask in (2, 8, 16)),
    *(Setting("lr searched, 32 trials", 32, 8, points, 2.0) for points in (5, 9)),
)


def spaces(task: Task, middle: float, setting: Setting) -> list[Space]:
    """Return what is searched, one space per family."""
    half = 10 ** (setting.width / 2)
    ranges = {"lr_low": middle / half, "lr_default": middle, "lr_high": middle * half}
    per_epoch = task.data().updates_per_epoch
    budget = {"epochs": task.epochs, "updates_per_epoch": per_epoch}
    kind, more = (Space, {}) if setting.points is None else (Gridded, {"points": setting.points})
    return [kind(family=FAMILIES[name], **ranges, **budget, **more) for name in FAMILIES_SEARCHED]


def measure(name: str, setting: Setting, repeats: int) -> Iterator[dict[str, object]]:
    """One row per family and repeat."""
    task = load_task(name)
    task = replace(task, epochs=min(task.epochs, 20))
    trainer = BatchedTrainer()
    for repeat in range(repeats):
        found = search(
            task,
            spaces(task, TASKS[name], setting),
            trials=setting.trials,
            seeds=[2 * repeat, 2 * repeat + 1],
            seed=repeat,
            ask_size=setting.ask,
            together=256,
            trainer=trainer,
        )
        best = [result.best for result in found]
        plans = [Plan(one.lr, one.schedule, seed) for one in best for seed in FRESH]
        finals = [o.value for o in fit(task, plans, trainer=trainer).outcomes()]
        for place, result in enumerate(found):
            asked = len(result.trials) * 2 * task.epochs * task.data().updates_per_epoch
            yield {
                "task": name,
                "family": FAMILIES_SEARCHED[place],
                "repeat": repeat,
                "loss": float(np.mean(finals[place * len(FRESH) : (place + 1) * len(FRESH)])),
                "shared": asked / sum(trial.updates for trial in result.trials),
            }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: loss relative to the first of its part, and updates saved."""
    lines: list[dict[str, object]] = []
    keys = ["task", "family", "repeat"]
    for _, part in rows.groupby("part", sort=False):
        first = part[part["number"] == part["number"].min()].set_index(keys)["loss"]
        for _, own in part.groupby("number", sort=False):
            ratio = own.set_index(keys)["loss"] / first.groupby(["task", "family"]).mean()
            by_repeat = ratio.groupby("repeat").mean()
            step = own[own["family"] == "step"]["shared"].mean()
            wsd = own[own["family"] == "wsd"]["shared"].mean()
            lines.append(
                {
                    "part": own["part"].iloc[0],
                    "asked at once": own["ask"].iloc[0],
                    "lr": own["lr"].iloc[0],
                    "loss": f"{by_repeat.mean():.3f} ± {by_repeat.sem():.3f}",
                    "shared": f"{own['shared'].mean():.2f}",
                    "shared, step": f"{step:.2f}",
                    "shared, wsd": f"{wsd:.2f}",
                }
            )
    return pd.DataFrame(lines)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="How many trials should be asked at once?")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows: list[dict[str, object]] = []
    for number, setting in enumerate(SETTINGS):
        lr = "continuous" if setting.points is None else f"{setting.points} values"
        what = {"number": number, "part": setting.part, "ask": setting.ask}
        what["lr"] = lr if setting.width else "one"
        for name in asked.tasks:
            rows += [what | row for row in measure(name, setting, asked.repeats)]
        print(summary(pd.DataFrame(rows)).tail(1).to_string(header=number == 0), flush=True)
    table = summary(pd.DataFrame(rows))
    text = markdown(table)
    made = (
        f"# How many trials to ask at once\n\nMade by `python studies/ask_size.py`: "
        f"{', '.join(asked.tasks)}; families {', '.join(FAMILIES_SEARCHED)}; {asked.repeats} "
        f"repeats, {len(FRESH)} fresh seeds; torch {version('torch')}, optuna "
        f"{version('optuna')}.\n\n"
    )
    (Path(__file__).parent / "ask_size.md").write_text(made + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
