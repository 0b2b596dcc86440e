"""The truth of all tasks but the leaderboard's short ones: the loss at every lr, all the way.

    python -m studies.leaderboard.long_oracle [TASK ...]

makes what is missing, a grid at a time: stopped in the middle, it goes on where it was. Each task
is trained on 3 seeds at lrs .4 decades apart, at a constant lr from 1e-6 to 100 and under a cosine
that ends with the training within 1.6 decades of the best of these; then .2 decades apart around
the best, until there is nothing new. The loss is recorded forty times, so that a run at a
constant lr serves every shorter training as well. A row is one run: schedule, lr, seed, and the
validation loss after so many updates, empty from where it diverged.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lrfinder import FAMILIES, Plan, Schedule, Task, fit
from studies.leaderboard.oracle import budget, cosine, trainer_of
from studies.leaderboard.tasks import EVERY, SHORT, fingerprint, task

HERE = Path(__file__).parent
SEEDS = (1000, 1001, 1002)
"""Not among the seeds that finders use."""
COARSE, FINE = 0.4, 0.2
"""Decades between the lrs of the two grids."""
LOWEST, HIGHEST = -6.0, 2.0
"""Powers of ten of the first grid at a constant lr."""
AROUND = 1.6
"""Decades to each side of the best constant lr, of the first grid under a cosine."""
POINTS = 40
"""How often the loss is recorded."""
RUN = ["schedule", "lr", "seed"]


def path_of(name: str) -> Path:
    """Where the oracle of a task is kept: that of tasks kept for testing beside them."""
    return HERE / ("held_out/oracle" if EVERY[name].held_out else "oracle/long") / f"{name}.csv"


def measure(name: str) -> None:
    """Train what the file of a task lacks."""
    path, made = path_of(name), task(name)
    path.parent.mkdir(exist_ok=True, parents=True)
    for schedule in ("constant", "cosine"):
        while wanted := _wanted(final_losses(name), schedule):
            before = time.process_time()
            rows = _trained(made, schedule, wanted)
            rows.insert(0, "task", fingerprint(name))
            known = _known(path)
            pd.concat([known, rows]).sort_values(RUN).to_csv(path, index=False, float_format="%.5g")
            spent = time.process_time() - before
            print(f"{name}: {schedule} at {len(wanted)} lrs, {spent:.0f} s", flush=True)


def stale(name: str) -> bool:
    """Whether the file of a task is missing, incomplete, or belongs to other settings."""
    known = _known(path_of(name))
    other = len(known) > 0 and set(known["task"]) != {fingerprint(name)}
    return other or any(
        _wanted(final_losses(name), schedule) for schedule in ("constant", "cosine")
    )


def _known(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["task", *RUN])


def _wanted(known: pd.DataFrame, schedule: str) -> list[float]:
    """Powers of ten that are still to be trained, of those whose final losses are not known."""
    rows = known if known.empty else known[known.schedule == schedule]
    if rows.empty:
        if schedule == "constant":
            return np.round(np.arange(LOWEST, HIGHEST + 0.01, COARSE), 1).tolist()
        best = best_power(known[known.schedule == "constant"])
        return np.round(np.arange(best - AROUND, best + AROUND + 0.01, COARSE), 1).tolist()
    done = np.unique(np.round(np.log10(rows.lr), 1)).tolist()
    best = best_power(rows)
    around = np.round(best + np.arange(-2, 3) * FINE, 1).tolist()
    return [power for power in around if power not in done]


def final_losses(name: str) -> pd.DataFrame:
    """Schedule, lr, seed, and the losses at the start and at the end of every known run.

    A run that diverged, or ended above its start, counts as its start.
    """
    known = _known(path_of(name))
    if known.empty:
        return known
    losses = known.filter(regex=r"^\d+$")
    final = losses.iloc[:, -1].fillna(losses["0"]).clip(upper=losses["0"])
    return known[RUN].assign(start=losses["0"], loss=final)


def best_power(rows: pd.DataFrame) -> float:
    """The power of ten with the lowest mean final loss."""
    return float(np.round(np.log10(rows.groupby("lr").loss.mean().idxmin()), 1))


def _trained(made: Task, schedule: str, powers: Sequence[float]) -> pd.DataFrame:
    updates = budget(made)
    shape = cosine(updates) if schedule == "cosine" else Schedule(FAMILIES["constant"])
    plans = [Plan(10.0**power, shape, seed) for seed in SEEDS for power in powers]
    every = max(1, updates // POINTS)
    history = fit(made, plans, updates=updates, evaluate_every=every, trainer=trainer_of(made))
    losses = pd.DataFrame(history.measures["loss"], columns=[str(n) for n in history.evaluated_at])
    losses = losses.where(np.isfinite(losses))
    runs = {
        "schedule": schedule,
        "lr": [plan.lr for plan in plans],
        "seed": [plan.seed for plan in plans],
    }
    return pd.concat([pd.DataFrame(runs), losses], axis=1)


def main(names: Sequence[str]) -> None:
    """Measure the tasks named, or all."""
    torch.set_num_threads(1)
    for name in names or [name for name in EVERY if name not in SHORT]:
        measure(name)


if __name__ == "__main__":
    main(sys.argv[1:])
