"""The leaderboard as a picture: every finder's regret on every task."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrfinder.plots.style import BEST, OTHER
from studies.leaderboard.finders import OWN
from studies.leaderboard.results import summary
from studies.leaderboard.score import truths

_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)


def save(rows: pd.DataFrame, path: Path) -> None:
    """Draw the leaderboard for a constant lr into a PNG file."""
    lines = summary(rows)
    figure = Figure(figsize=(8, 0.9 + 0.3 * len(lines)), layout="constrained")
    draw(figure.subplots(), rows, lines)
    figure.savefig(path, dpi=150)


def draw(axes: Axes, rows: pd.DataFrame, lines: pd.DataFrame) -> None:
    """One line per finder, the best on top: a dot per task, a bar at the mean."""
    counted = rows[[truths()[name].counts for name in rows.task]]
    by_task = counted.groupby(["finder", "task", "held_out"]).regret.mean()
    for place, finder in enumerate(lines.index):
        colour = BEST if finder in OWN else OTHER
        own = by_task[finder].reset_index()
        height = place + np.linspace(-0.2, 0.2, len(own))
        for held_out, face in ((0, colour), (1, "white")):
            some = (own.held_out == held_out).to_numpy()
            style = {"s": 16, "facecolors": face, "edgecolors": colour, "linewidths": 0.9}
            axes.scatter(own.regret[some], height[some], alpha=0.75, **style)
        mean = lines["mean"][finder]
        axes.plot([mean, mean], [place - 0.36, place + 0.36], color=colour, linewidth=3)
        axes.text(1.03, place, f"{mean:.3f}", color=colour, va="center")
    _axis(axes, [str(finder) for finder in lines.index])


def _axis(axes: Axes, names: list[str]) -> None:
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(-0.0005, 1.02)
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(
        "share of the achievable loss drop that is lost, 0 is best\n"
        "dot: a task (hollow: held out); bar and number: mean"
    )


def _root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))
