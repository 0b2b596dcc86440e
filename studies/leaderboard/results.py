"""Finders x tasks x repeats -> one row each, and the summary per finder.

Repeat r gives every finder the same five seeds 5r..5r+4. A refusal is scored as the default lr of
the optimizer, and counted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lrfinder import Suggestion, Task
from studies.leaderboard.finders import CAPPED, OWN, RULES, Answer, Finder, default_lr
from studies.leaderboard.oracle import budget, cosine
from studies.leaderboard.packages import installed
from studies.leaderboard.score import regret, truths
from studies.leaderboard.tasks import EVERY, task

SEEDS = 5
REFERENCE = "lrfinder"
"""The finder that the others are compared with."""
_COLUMN = {"constant": "regret", "cosine": "cosine_regret"}
GOOD = 0.05
"""A run is good where it loses no more of the achievable drop than this."""


def finders() -> dict[str, Finder]:
    """Every finder that can run here, by name."""
    return {**OWN, **CAPPED, **installed(), **RULES}


def merged(rows: pd.DataFrame, newer: pd.DataFrame) -> pd.DataFrame:
    """The rows, with those of the same finder and task replaced by newer ones."""
    key = ["finder", "task"]
    again = pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(newer[key]))
    return pd.concat([rows[~again], newer], ignore_index=True)


def runs(rows: pd.DataFrame) -> str:
    """Which finders come from which run, where the rows are of several; else nothing."""
    if "run" not in rows or rows.run.nunique() < 2:
        return ""
    parts: list[str] = []
    for run, own in rows.groupby("run", sort=False):
        kinds = own.groupby("finder", sort=False).kind.agg(
            lambda kind: ", ".join(sorted(set(kind)))
        )
        alike = [f"{', '.join(names)} ({of})" for of, names in kinds.groupby(kinds).groups.items()]
        parts.append(f"{', '.join(alike)} from {run}")
    return "; ".join(parts)


def collect(
    which: Mapping[str, Finder],
    names: Sequence[str],
    repeats: int,
    progress: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """One row per finder, task and repeat."""
    rows: list[dict[str, Any]] = []
    for name in names:
        before = time.perf_counter()
        for number in range(repeats):
            seeds = range(SEEDS * number, SEEDS * (number + 1))
            for label, finder in which.items():
                answer = finder(task(name), tuple(seeds))
                rows.append(_row(label, name, number, answer, task(name)))
        progress(f"{name}: {time.perf_counter() - before:.0f} s")
    return pd.DataFrame(rows)


def _row(finder: str, name: str, number: int, answer: Answer, made: Task) -> dict[str, Any]:
    answer = _checked(answer)
    used = answer.lr if answer.lr is not None else default_lr(made)
    peak = answer.cosine_lr if answer.cosine_lr is not None else used
    return {
        "finder": finder,
        "task": name,
        "kind": EVERY[name].kind,
        "held_out": int(EVERY[name].held_out),
        "repeat": number,
        "lr": answer.lr,
        "regret": regret(name, used),
        "cosine_lr": peak,
        "cosine_regret": regret(name, peak, "cosine"),
        "updates": answer.updates,
        "seconds": answer.seconds,
        "refused": int(answer.lr is None),
        "reason": answer.reason,
        **dict(zip(("low", "high"), answer.interval or (np.nan, np.nan), strict=True)),
        **dict(zip(("band_low", "band_high"), answer.band or (np.nan, np.nan), strict=True)),
    }


def _checked(answer: Answer) -> Answer:
    """An lr that is no positive number is a refusal."""
    lr: object = answer.lr
    if lr is None or (isinstance(lr, Real) and 0 < lr < np.inf):
        return answer
    return replace(answer, lr=None, cosine_lr=None, reason=f"suggested {answer.lr}")


def summary(rows: pd.DataFrame, schedule: str = "constant") -> pd.DataFrame:
    """One row per finder over the tasks that count, the lowest mean regret first."""
    known = truths(schedule)
    rows = rows[[known[name].counts for name in rows.task]]
    lines = {str(finder): _line(own, schedule) for finder, own in rows.groupby("finder")}
    found = pd.DataFrame.from_dict(lines, orient="index")
    return found.join(_against(rows, schedule)).sort_values("mean")


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """How often the intervals and bands of those finders that say them hold, one row per finder.

    An interval holds where it touches the lrs within a standard error of the best; an end of a band
    where training at it loses no more than 5% of the achievable drop.
    """
    known = truths()
    said = rows[[known[name].counts for name in rows.task]].dropna(subset=["low", "high"])
    near = [known[name].near_best() for name in said.task]
    bounds = zip(said.low, said.high, near, strict=True)
    said = said.assign(
        holds=[low <= top and high >= bottom for low, high, (bottom, top) in bounds],
        decades=np.log10(said.high / said.low),
        ends=[
            np.nan if pd.isna(a) else np.mean([regret(n, lr) <= GOOD for lr in (a, b)])
            for n, a, b in zip(said.task, said.band_low, said.band_high, strict=True)
        ],
        band_decades=np.log10(said.band_high / said.band_low),
    )
    return said.groupby("finder").agg(
        runs=("holds", "size"),
        holds=("holds", "mean"),
        decades=("decades", "median"),
        ends=("ends", "mean"),
        band_decades=("band_decades", "median"),
    )


def moved(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean regret under a cosine per finder: at the lr it says, and at the lr moved by lrfinder.

    The same for every finder, so that a rule can be told from what is made of its lr.
    """
    known = truths("cosine")
    rows = rows[[known[name].counts for name in rows.task]]
    lrs = [
        default_lr(task(n)) if pd.isna(lr) else lr for n, lr in zip(rows.task, rows.lr, strict=True)
    ]
    pairs = list(zip(rows.task, lrs, strict=True))
    scored = rows[["finder", "task"]].assign(
        same=[known[name].regret(lr) for name, lr in pairs],
        moved=[known[name].regret(lr * factor(name)) for name, lr in pairs],
    )
    return scored.groupby(["finder", "task"]).mean().groupby("finder").mean()


@cache
def factor(name: str) -> float:
    """Peak lr of a task's cosine over its constant lr, as lrfinder has it."""
    updates = budget(task(name))
    one = Suggestion(1.0, None, None, "suggested", "")
    made = one.for_schedule(cosine(updates), updates, task(name).data().updates_per_epoch)
    assert made.lr is not None
    return made.lr


def _against(rows: pd.DataFrame, schedule: str) -> pd.DataFrame:
    """Mean regret beyond the reference's, paired by task: bounds of Student's 90% interval."""
    means = rows.groupby(["task", "finder"])[_COLUMN[schedule]].mean().unstack()
    reference = means.get(REFERENCE, np.nan)
    more = means.drop(columns=REFERENCE, errors="ignore").sub(reference, axis=0)
    half = stats.t.ppf(0.95, max(len(more) - 1, 1)) * more.sem()
    return pd.DataFrame({"least": more.mean() - half, "most": more.mean() + half})


def _line(rows: pd.DataFrame, schedule: str) -> dict[str, float]:
    """The numbers of one finder; means over tasks of means over repeats."""
    column = _COLUMN[schedule]
    by_task = rows.groupby("task")[column].mean()
    held_out = rows[rows.held_out == 1].groupby("task")[column].mean()
    tuning = rows[rows.held_out == 0].groupby("task")[column].mean()
    return {
        "mean": by_task.mean(),
        "error": by_task.sem(),
        "tuning": tuning.mean(),
        "tuning_worst": tuning.max(),
        "held_out": held_out.mean(),
        "held_out_worst": held_out.max(),
        "median": by_task.median(),
        "worst": by_task.max(),
        "good": (rows[column] <= GOOD).mean(),
        "spread": _spread(rows),
        "decades": _decades(rows, schedule),
        "updates": rows.updates.mean(),
        "seconds": rows.seconds.mean(),
        "refused": rows.refused.sum(),
        "runs": len(rows),
    }


def _spread(rows: pd.DataFrame) -> float:
    """Largest over smallest lr of the repeats: the median over tasks; nan for a single repeat."""
    lrs = rows.dropna(subset="lr").groupby("task").lr
    return float((lrs.max() / lrs.min())[lrs.size() > 1].median())


def _decades(rows: pd.DataFrame, schedule: str) -> float:
    """Median of log10(lr / best lr): negative is too low."""
    column = "lr" if schedule == "constant" else "cosine_lr"
    answered = rows[rows.refused == 0]
    best = np.array([truths(schedule)[name].best_lr for name in answered.task])
    logs = np.log10(answered[column].to_numpy(np.float64) / best)
    return float(np.median(logs)) if len(logs) else float("nan")
