"""What a learning rate costs on a task: read off the cached oracle, nothing is trained.

The *regret* of an lr is the share of the achievable drop of the validation loss that a training run
at that lr loses,

    regret(lr) = (loss(lr) - loss(best)) / (start - loss(best)), clipped to [0, 1],

with the mean loss over the oracle's seeds, interpolated in log lr. It is 0 at the best lr of the
grid and 1 where training diverges or learns nothing. Scaling the loss or adding a constant to it
changes nothing. Below the grid the loss is that of its smallest lr; above it the regret is 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.leaderboard.entries import Kind
from studies.leaderboard.long_oracle import final_losses
from studies.leaderboard.oracle import FOLDER
from studies.leaderboard.tasks import EVERY, SHORT, TASKS

Floats = NDArray[np.float64]

LEAST_SIGNAL = 4.0
"""A task counts where the achievable drop exceeds so many deviations of the seed noise."""


@dataclass(frozen=True)
class Truth:
    """Mean final loss of a task against lr, under one schedule."""

    lrs: Floats
    losses: Floats
    start: float
    noise: float
    """Deviation over seeds of the final loss at the best lr."""
    seeds: int
    """How many each mean is of."""

    @property
    def best_lr(self) -> float:
        """The grid's lr with the lowest mean loss."""
        return float(self.lrs[np.argmin(self.losses)])

    @property
    def drop(self) -> float:
        """How far the best lr brings the loss down: the achievable drop."""
        return float(self.start - self.losses.min())

    @property
    def counts(self) -> bool:
        """Whether the drop stands out of the noise."""
        return self.drop > LEAST_SIGNAL * self.noise

    def regret(self, lr: float) -> float:
        """Share of the achievable drop that is lost; 1 for an lr that is no number."""
        if not 0 < lr <= self.lrs[-1]:
            return 1.0
        loss = np.interp(np.log(lr), np.log(self.lrs), self.losses)
        return float(np.clip((loss - self.losses.min()) / self.drop, 0.0, 1.0))

    def near_best(self) -> tuple[float, float]:
        """Lowest and highest lr of the grid within a standard error of the lowest mean loss."""
        limit = self.losses.min() + self.noise / np.sqrt(self.seeds)
        lrs = self.lrs[self.losses <= limit]
        return float(lrs[0]), float(lrs[-1])

    def acceptable(self, most: float = 0.05) -> tuple[float, float]:
        """Lowest and highest lr of the grid around the best with a regret of at most `most`."""
        good = (self.losses - self.losses.min()) / self.drop <= most
        best = int(np.argmin(self.losses))
        low, high = best, best
        while low > 0 and good[low - 1]:
            low -= 1
        while high < len(good) - 1 and good[high + 1]:
            high += 1
        return float(self.lrs[low]), float(self.lrs[high])


def truth_of(rows: pd.DataFrame) -> Truth:
    """Truth from rows with the columns lr, seed, start and loss."""
    by_lr = rows.groupby("lr").loss
    mean, start = by_lr.mean(), float(rows.start.mean())
    noise = float(by_lr.std()[mean.idxmin()])
    lrs, losses = mean.index.to_numpy(np.float64), mean.to_numpy(np.float64)
    return Truth(lrs, losses, start, noise, int(by_lr.size().max()))


@cache
def truths(schedule: str = "constant") -> Mapping[str, Truth]:
    """The truth of every task that has a cached oracle, under a schedule."""
    found: dict[str, Truth] = {}
    for name in EVERY:
        rows = _short(name) if name in SHORT else final_losses(name)
        rows = rows if rows.empty else rows[rows.schedule == schedule]
        if not rows.empty:
            found[name] = truth_of(rows)
    return found


def _short(name: str) -> pd.DataFrame:
    path = FOLDER / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["schedule"])


def regret(task_name: str, lr: float, schedule: str = "constant") -> float:
    """Share of the achievable drop that a run at that (peak) lr loses, from the cache alone."""
    return truths(schedule)[task_name].regret(lr)


def counted(
    schedule: str = "constant", held_out: bool | None = None, kind: Kind = "short"
) -> list[str]:
    """The leaderboard's tasks of a kind that count; with `held_out`, only those that (not) are."""
    known = truths(schedule)
    return [
        name
        for name, entry in TASKS.items()
        if entry.kind == kind and known[name].counts and held_out in (None, entry.held_out)
    ]
