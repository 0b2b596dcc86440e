"""Is the lr that `find --batch-sizes` gives for each batch size the best one for it?

    python studies/batch_sizes.py            about 15 minutes on one core
    python studies/batch_sizes.py --summary  the table from what is measured

Six short tasks of the leaderboard (which are chosen without looking at what comes out) at batches of
16, 64 and 256 rows, each for the same number of epochs. The truth: constant lrs 0.2 decades apart,
5 seeds, final validation loss. The answers: `range_test(with_update_rows(task, rows)).suggest()` with
one seed, as the command makes them, three times from other seeds.

*Best* are the lrs between the lowest and the highest whose loss is not above that of the best lr by
more than one standard error of the paired difference. An answer is right within 0.15 decades of the
best lr of the grid or of these; a refusal counts as neither. *Regret* is the share of the drop from
the untrained to the best loss that training at the answer loses, between grid points on a straight
line over log lr.

What was found stands in studies/batch_sizes.md, which this script writes.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from lrfinder import FAMILIES, Plan, Schedule, Task, fit, range_test
from lrfinder.range_tests.series import Series
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.tasks.update_rows import with_update_rows
from studies.leaderboard.oracle import trainer_of
from studies.leaderboard.tasks import task
from studies.markdown import markdown

TASKS = ("mlp_sgd", "mlp_adam", "autoencoder", "regression", "label_noise", "quantiles")
SIZES = (16, 64, 256)
SEEDS = tuple(range(1000, 1005))
"""Of the truth; not among those of the answers."""
REPEATS = (0, 3000, 6000)
"""Seeds of the answers."""
COARSE = np.arange(-4.8, 1.01, 0.4)
"""Powers of ten of the first lrs."""
NEAR = 0.15
"""Decades from the best within which an answer is right."""
FOLDER = Path(__file__).parent / "batch_sizes"
ORACLE, ANSWERS = FOLDER / "oracle.csv", FOLDER / "answers.csv"


@dataclass(frozen=True)
class Truth:
    """What the lrs of one task at one batch size lead to."""

    powers: np.ndarray
    """log10 of the lrs, rising: float64[lrs]."""
    losses: np.ndarray
    """Final losses, or those before training where a run diverged: float64[lrs, seeds]."""
    start: float
    """The mean loss before training."""

    @property
    def best(self) -> float:
        """log10 of the best lr."""
        return float(self.powers[self.losses.mean(axis=1).argmin()])

    @property
    def as_good(self) -> tuple[float, float]:
        """log10 of the lowest and the highest lr within one standard error of the best."""
        above = self.losses - self.losses[self.losses.mean(axis=1).argmin()]
        error = above.std(axis=1, ddof=1) / np.sqrt(above.shape[1])
        good = self.powers[above.mean(axis=1) <= error]
        return float(good.min()), float(good.max())

    def regret(self, lr: float) -> float:
        """Share of the achievable drop that training at an lr loses."""
        means = self.losses.mean(axis=1)
        reached = float(np.interp(np.log10(lr), self.powers, means))
        return (reached - means.min()) / (self.start - means.min())


def sized(name: str, rows: int) -> Task:
    """A task with so many rows in an update."""
    return with_update_rows(task(name), rows)


def measure_truth(name: str, rows: int) -> pd.DataFrame:
    """Final losses of constant lrs: those of the first grid, and what lies around the best."""
    made = sized(name, rows)
    found = _trained(made, COARSE)
    while True:
        best = float(found.groupby("power").loss.mean().idxmin())
        around = np.round(best + np.arange(-1, 1.01, 0.2), 1)
        wanted = [p for p in around if p not in set(found.power)]
        if not wanted:
            return found.assign(task=name, rows=rows)
        found = pd.concat([found, _trained(made, wanted)])


def _trained(made: Task, powers: Iterable[float]) -> pd.DataFrame:
    constant = Schedule(FAMILIES["constant"])
    tried = [round(float(p), 1) for p in powers]
    plans = [Plan(10.0**p, constant, seed) for seed in SEEDS for p in tried]
    updates = made.epochs * made.data().updates_per_epoch
    history = fit(made, plans, evaluate_every=updates, trainer=trainer_of(made))
    start, final = history.measures["loss"].T
    lost = (history.diverged_at >= 0) | ~np.isfinite(final)
    return pd.DataFrame(
        {
            "power": [power for _ in SEEDS for power in tried],
            "seed": [plan.seed for plan in plans],
            "start": start,
            "loss": np.where(lost, start, np.fmin(final, start)),
        }
    )


def answers(name: str, seed: int) -> pd.DataFrame:
    """What is suggested for each batch size, and the slope between them."""
    made = {rows: sized(name, rows) for rows in SIZES}
    found = {
        rows: range_test(one, seeds=[seed], trainer=trainer_of(one)).suggest()
        for rows, one in made.items()
    }
    slope = Series("batch_size", tuple(found), tuple(found.values())).slope
    rows = [_row(rows, one) for rows, one in found.items()]
    facts = {} if slope is None else {"slope": slope.slope, "from": slope.low, "to": slope.high}
    return pd.DataFrame([{"task": name, "seed": seed, **row, **facts} for row in rows])


def _row(rows: int, found: Suggestion) -> dict[str, object]:
    return {"rows": rows, "lr": found.lr, "low": found.low, "high": found.high}


def truth(oracle: pd.DataFrame, name: str, rows: int) -> Truth:
    """What was measured of one task at one batch size."""
    own = oracle[(oracle.task == name) & (oracle.rows == rows)]
    table = own.pivot_table(index="power", columns="seed", values="loss")
    return Truth(table.index.to_numpy(), table.to_numpy(), float(own.start.mean()))


def judged(oracle: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    """Each answer beside the truth."""
    rows: list[dict[str, object]] = []
    for one in given.itertuples():
        known = truth(oracle, str(one.task), int(one.rows))
        low, high = known.as_good
        off = np.log10(one.lr) - known.best
        power = np.log10(one.lr)
        rows.append(
            {
                "task": one.task,
                "rows": one.rows,
                "seed": one.seed,
                "best": 10**known.best,
                "as good from": 10**low,
                "as good to": 10**high,
                "lr": one.lr,
                "low": one.low,
                "high": one.high,
                "decades off": off,
                "refused": not one.lr > 0,
                "right": bool(abs(off) <= NEAR or low - NEAR <= power <= high + NEAR),
                "in interval": bool(np.log10(one.low) <= high and low <= np.log10(one.high)),
                "regret": known.regret(one.lr) if one.lr > 0 else np.nan,
                "slope": one.slope,
                "from": getattr(one, "_7", np.nan),
                "to": one.to,
            }
        )
    return pd.DataFrame(rows)


def summary() -> str:
    """The page that says what was found."""
    oracle, given = pd.read_csv(ORACLE), pd.read_csv(ANSWERS).rename(columns={"from": "since"})
    found = judged(oracle, given)
    return markdown(found)


def main() -> None:
    """Measure what is missing, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    measure = not parser.parse_args().summary
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in TASKS if measure else ():
        _measure(name)
    print(summary(), version("torch"))


def _measure(name: str) -> None:
    for rows in SIZES:
        if not _has(ORACLE, name, rows=rows):
            _append(ORACLE, measure_truth(name, rows))
            print(name, rows, flush=True)
    for seed in REPEATS:
        if not _has(ANSWERS, name, seed=seed):
            _append(ANSWERS, answers(name, seed))
            print(name, seed, flush=True)


def _has(path: Path, name: str, **values: int) -> bool:
    if not path.exists():
        return False
    known = pd.read_csv(path)
    same = known.task == name
    for column, value in values.items():
        same &= known[column] == value
    return bool(same.any())


def _append(path: Path, found: pd.DataFrame) -> None:
    known = [pd.read_csv(path)] if path.exists() else []
    pd.concat([*known, found]).to_csv(path, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
