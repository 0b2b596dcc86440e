"""The truth that finders are measured against: the final loss at every learning rate.

    python -m studies.leaderboard.oracle [TASK ...]

makes what is missing or out of date, one CSV per task. Each task is trained on 10 seeds at lrs half
a decade apart from 1e-6 to 10, then at lrs an eighth of a decade apart within a decade of the best,
and of the best among those, until there is nothing new; once at a constant lr, once under a cosine
that is stepped after every batch and ends at 0 with the budget. A run that diverged, or ends above
where it started, counts as its loss before training.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lrfinder import FAMILIES, BatchedTrainer, Plan, Schedule, SequentialTrainer, Task, fit
from lrfinder.training.trainers.trainer import Trainer
from studies.leaderboard.tasks import SHORT, fingerprint, task

FOLDER = Path(__file__).parent / "oracle"
INDEX = FOLDER / "tasks.csv"
SEEDS = tuple(range(1000, 1010))
"""Not among the seeds that finders use."""
COARSE = [step / 2 for step in range(-12, 3)]
"""Powers of ten of the first grid."""
FINE = 0.125
"""Decades between the lrs of the second grid."""


def cosine(updates: int) -> Schedule:
    """Cosine from the peak lr to 0 over a run of so many updates, stepped after every batch."""
    return Schedule(FAMILIES["cosine"], {"T_max": updates, "eta_min": 0.0}, per="batch")


def budget(made: Task) -> int:
    """Updates of a full training run of the task."""
    return made.epochs * made.data().updates_per_epoch


def schedules(made: Task) -> dict[str, Schedule]:
    """The schedules that an oracle knows, by name."""
    return {"constant": Schedule(FAMILIES["constant"]), "cosine": cosine(budget(made))}


def measure(made: Task) -> pd.DataFrame:
    """Final loss of the task by schedule, lr and seed."""
    trainer = trainer_of(made)
    return pd.concat([_both_grids(made, name, trainer) for name in schedules(made)])


def trainer_of(made: Task) -> Trainer:
    """The batched trainer where the task can be batched, else the sequential one."""
    batched = BatchedTrainer()
    return batched if batched.why_not(made) is None else SequentialTrainer()


def _both_grids(made: Task, schedule: str, trainer: Trainer) -> pd.DataFrame:
    found, wanted = pd.DataFrame(), COARSE
    while wanted:
        found = pd.concat([found, _trained(made, schedule, wanted, trainer)])
        known = np.round(np.log10(found.lr), 3).tolist()
        best = float(np.log10(found.groupby("lr").loss.mean().idxmin()))
        around = np.round(best + np.arange(-1, 1 + FINE / 2, FINE), 3).tolist()
        wanted = [x for x in around if COARSE[0] <= x <= COARSE[-1] and x not in known]
    return found


def _trained(made: Task, name: str, powers: Sequence[float], trainer: Trainer) -> pd.DataFrame:
    schedule = schedules(made)[name]
    plans = [Plan(10.0**x, schedule, seed) for seed in SEEDS for x in powers]
    updates = budget(made)
    history = fit(made, plans, updates=updates, evaluate_every=updates, trainer=trainer)
    start, final = history.measures["loss"].T
    diverged = (history.diverged_at >= 0) | ~np.isfinite(final)
    return pd.DataFrame(
        {
            "schedule": name,
            "lr": [plan.lr for plan in plans],
            "seed": [plan.seed for plan in plans],
            "start": start,
            "loss": np.where(diverged, start, np.fmin(final, start)),
            "diverged": diverged.astype(int),
        }
    )


def stale(names: Iterable[str]) -> list[str]:
    """Those of the tasks whose cached oracle is missing or belongs to other settings."""
    index = pd.read_csv(INDEX) if INDEX.exists() else pd.DataFrame(columns=["task"])
    known = {row["task"]: row for row in index.to_dict("records")}
    wanted = {name: {"fingerprint": fingerprint(name), "seeds": len(SEEDS)} for name in names}
    return [k for k, v in wanted.items() if k not in known or not v.items() <= known[k].items()]


def refresh(name: str) -> None:
    """Measure a task and write its files."""
    before = time.perf_counter()
    found = measure(task(name)).sort_values(["schedule", "lr", "seed"])
    found.to_csv(FOLDER / f"{name}.csv", index=False, float_format="%.6g")
    seconds = time.perf_counter() - before
    row = {
        "task": name,
        "fingerprint": fingerprint(name),
        "updates": budget(task(name)),
        "seeds": len(SEEDS),
        "runs": len(found),
        "seconds": round(seconds, 1),
        "torch": torch.__version__.partition("+")[0],
    }
    rows = pd.read_csv(INDEX) if INDEX.exists() else pd.DataFrame(columns=list(row))
    rows = pd.concat([rows[rows.task != name], pd.DataFrame([row])])
    rows.sort_values("task").to_csv(INDEX, index=False)


def main(names: Sequence[str]) -> None:
    """Refresh the tasks named, or every task whose oracle is out of date."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in names or stale(SHORT):
        before = time.perf_counter()
        refresh(name)
        print(f"{name}: {time.perf_counter() - before:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
