"""Trainings of several tasks under several schedules, each schedule at its own learning rate.

What claims.py and fairness.py stand on. A *way* is a schedule that may depend on the peak lr (a
floor of a hundredth of it). Its lr is chosen among powers of two on `TUNING` seeds, by the mean of
the final validation loss, the range of lrs being widened until the best one lies between two
others; what is said of it comes from the `FRESH` seeds, which chose nothing. Rows are kept in
build/tuned.csv, so that a study that was interrupted, or asks for more, goes on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lrfinder import FAMILIES, BatchedTrainer, Task, fit
from lrfinder.schedules import Schedule
from lrfinder.statistics import Mean, student_t
from lrfinder.training.records.history import Plan

KEPT = Path(__file__).parent.parent / "build" / "tuned.csv"
TUNING = tuple(range(800_000, 800_006))
FRESH = tuple(range(810_000, 810_016))
LEVEL = 0.99
FURTHEST = 9
"""Powers of two from the first lr, at most."""


@dataclass(frozen=True)
class Way:
    """A schedule by its name, for a peak lr."""

    name: str
    schedule: Callable[[float], Schedule]


@dataclass(frozen=True)
class Problem:
    """A task, and a constant lr that is about right for it."""

    name: str
    task: Task
    lr: float


def way(name: str, kind: str, **params: float | str) -> Way:
    """A schedule that is the same at every lr."""
    return Way(name, lambda _: Schedule(FAMILIES[kind], params))


def usual(epochs: int) -> dict[str, Way]:
    """The ways that most of the claims compare, by name, for a training of so many epochs."""
    found = [
        way("constant", "constant"),
        *(
            way(f"step at {share:g}", "step", step_size=round(share * epochs), gamma=0.1)
            for share in (0.34, 0.5, 0.7)
        ),
        *(ending("exponential", end, epochs) for end in (0.1, 0.01, 0.001)),
        *(ending("cosine", end, epochs) for end in (0.1, 0.01, 0.001, 0.0)),
    ]
    return {one.name: one for one in found}


def ending(kind: str, end: float, epochs: int) -> Way:
    """Exponential or cosine, which ends at this share of the peak."""
    if kind == "exponential":
        return way(f"exponential to {end:g}", kind, gamma=end ** (1 / (epochs - 1)))
    return Way(
        f"cosine to {end:g}",
        lambda lr: Schedule(FAMILIES["cosine"], {"T_max": epochs, "eta_min": end * lr}),
    )


class Records:
    """Trainings by problem, way, lr and seed; those that were made are not made again."""

    def __init__(self, path: Path = KEPT) -> None:
        self._path, self._trainer = path, BatchedTrainer()
        self._rows: dict[tuple[str, str, float, int], dict[str, object]] = {}
        self._read()

    def _read(self) -> None:
        """Take what is kept, by this process or another one beside it."""
        kept = pd.read_csv(self._path, dtype={"lr": str}) if self._path.exists() else pd.DataFrame()
        for row in kept.to_dict("records"):
            self._rows[row["problem"], row["way"], float(row["lr"]), row["seed"]] = dict(row)

    def _missing(
        self, problem: Problem, wanted: Iterable[tuple[Way, float, int]]
    ) -> list[tuple[Way, float, int]]:
        return [w for w in wanted if (problem.name, w[0].name, w[1], w[2]) not in self._rows]

    def train(self, problem: Problem, wanted: Iterable[tuple[Way, float, int]]) -> None:
        """Train what is not there."""
        todo = self._missing(problem, wanted)
        if todo:
            self._read()
            todo = self._missing(problem, todo)
        if not todo:
            return
        task, everything = problem.task, tuple(problem.task.train.tensors)
        plans = [Plan(lr, one.schedule(lr), seed) for one, lr, seed in todo]
        history = fit(task, plans, trainer=self._trainer, at_end={"train": [everything]})
        per_epoch = history.train_loss.reshape(len(plans), task.epochs, -1).mean(-1)
        rows: list[dict[str, object]] = []
        for place, (one, lr, seed) in enumerate(todo):
            outcome, valid = history.outcomes()[place], history.measures["loss"][place]
            rows.append(
                {
                    "problem": problem.name,
                    "way": one.name,
                    "lr": lr,
                    "seed": seed,
                    "value": outcome.start if outcome.diverged else outcome.final,
                    "diverged": outcome.diverged,
                    "train": float(history.at_end["train"][place]),
                    "valid_curve": " ".join(f"{v:.6g}" for v in valid),
                    "train_curve": " ".join(f"{v:.6g}" for v in per_epoch[place]),
                }
            )
            self._rows[problem.name, one.name, lr, seed] = rows[-1]
        self._path.parent.mkdir(exist_ok=True)
        table, new = pd.DataFrame(rows), not self._path.exists()
        table.to_csv(self._path, index=False, mode="w" if new else "a", header=new)
        print(f"{problem.name}: {len(todo)} trainings", flush=True)

    def column(
        self, problem: Problem, one: Way, lr: float, seeds: Sequence[int], name: str = "value"
    ) -> np.ndarray:
        """What trainings have there, made where they were not: [seeds] or [seeds, epochs]."""
        self.train(problem, [(one, lr, seed) for seed in seeds])
        cells = [self._rows[problem.name, one.name, lr, seed][name] for seed in seeds]
        if name.endswith("curve"):
            return np.array([[float(v) for v in str(cell).split()] for cell in cells])
        return np.array(cells, float)

    def tuned(
        self, problem: Problem, ways: Sequence[Way], seeds: Sequence[int] = TUNING
    ) -> dict[str, float]:
        """The best lr of every way, by its name."""
        tried = {one.name: set(range(-1, 3)) for one in ways}
        best: dict[str, int] = {}
        while True:
            self.train(
                problem,
                [(w, problem.lr * 2.0**k, s) for w in ways for k in tried[w.name] for s in seeds],
            )
            wider = False
            for one in ways:
                means = {k: self.column(problem, one, problem.lr * 2.0**k, seeds).mean()
                         for k in sorted(tried[one.name])}  # fmt: skip
                best[one.name] = k = min(means, key=lambda k: means[k])
                new = {n for n in (k - 1, k + 1) if abs(n) <= FURTHEST} - tried[one.name]
                wider |= bool(new)
                tried[one.name] |= new
            if not wider:
                return {name: problem.lr * 2.0**k for name, k in best.items()}


def percent(more: np.ndarray, less: np.ndarray, of: np.ndarray | None = None) -> Mean:
    """Paired difference in % of the mean of the second (or of `of`), with its 99% interval."""
    return student_t(100 * (more - less) / (less if of is None else of).mean(), LEVEL)


def chosen(means: Mapping[str, float]) -> str:
    """The name with the lowest number."""
    return min(means, key=lambda name: means[name])


def one_thread() -> None:
    """Small models are slower with several."""
    torch.set_num_threads(1)
