"""Pictures from finished values: each function draws on an Axes and returns nothing.

They never show, save, style or compute; remove a picture and no number is lost. `figures` puts them
on paper for the run folder. This is the only module that imports matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from lrfinder.comparing import Comparison
from lrfinder.curve import Curve
from lrfinder.records import Run
from lrfinder.suggest import Suggestion

_BEST, _TIE, _OTHER = "#c1440e", "#e0a458", "#8a8f98"
_LINES = ("#1f77b4", "#c1440e", "#2a9d4a", "#8e5bb5", "#b58900", "#008b8b", "#d14f8f", "#555555")
_DASHES = ("-", "--", "-.", ":")


def range_test(axes: Axes, curve: Curve, suggestion: Suggestion) -> None:
    """Loss against lr: each seed, their mean, the suggestion with its interval, the edge."""
    for row in curve.loss:
        axes.plot(curve.lr, row, color=_OTHER, linewidth=0.8, alpha=0.6)
    axes.plot([], [], color=_OTHER, linewidth=0.8, label=f"{len(curve.seeds)} seeds")
    alive = np.isfinite(curve.loss).all(axis=0)
    axes.plot(curve.lr[alive], curve.loss[:, alive].mean(axis=0), color="black", label="mean")
    if suggestion.low is not None and suggestion.high is not None:
        axes.axvspan(suggestion.low, suggestion.high, color=_TIE, alpha=0.35, linewidth=0)
    if suggestion.lr is not None:
        axes.axvline(suggestion.lr, color=_BEST, label=f"suggested lr {suggestion.lr:.2g}")
    if suggestion.diverged_at is not None:
        axes.axvline(
            suggestion.diverged_at,
            color="black",
            linestyle=":",
            label=f"diverged at {suggestion.diverged_at:.2g}",
        )
    if curve.growth == "exponential":
        axes.set_xscale("log")
    axes.set_ylim(*_loss_limits(curve))
    axes.set_xlabel(f"learning rate, growing every {curve.every}")
    axes.set_ylabel("loss of the probe" if curve.every == "batch" else "validation loss")
    verdict = "" if suggestion.lr is not None else ": inconclusive"
    axes.set_title(f"Range test{verdict}", loc="left")
    axes.legend(frameon=False, loc="lower left")


def comparison(axes: Axes, compared: Comparison, name: str) -> None:
    """Mean and interval of every candidate on fresh seeds, best on top; dots are seeds."""
    ranking = compared.ranking
    for place, standing in enumerate(ranking):
        colour = _BEST if place == 0 else _TIE if standing.ties else _OTHER
        values = compared.values[standing.candidate].to_numpy()
        axes.plot(values, np.full(len(values), place), ".", color=colour, alpha=0.45, markersize=5)
        mean, low, high = standing.value
        if np.isfinite(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=3)
        axes.plot(mean, place, "o", color=colour, markeredgecolor="white", markersize=8)
    for label, colour in (("best", _BEST), ("tie with the best", _TIE), ("worse", _OTHER)):
        axes.plot([], [], "o-", color=colour, linewidth=3, label=label)
    axes.set_yticks(range(len(ranking)), [standing.candidate for standing in ranking])
    axes.invert_yaxis()
    axes.set_xlabel(f"{name} on {len(compared.seeds)} fresh seeds: mean, 95% interval, each seed")
    axes.set_title("Best of each decay family, trained again", loc="left")
    axes.legend(frameon=False, loc="best")
    axes.grid(axis="x", alpha=0.25)


def schedule_curves(axes: Sequence[Axes], curves: Mapping[str, pd.DataFrame], name: str) -> None:
    """Two panels, the lr and the measure over epochs: one line per candidate.

    `curves` has, by candidate, a frame indexed by epoch with the columns lr and `name`.
    """
    for place, (candidate, frame) in enumerate(curves.items()):
        colour, dash = _LINES[place % len(_LINES)], _DASHES[place % len(_DASHES)]
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.6}
        epochs = frame.index.to_numpy()
        axes[0].step(epochs, frame["lr"].to_numpy(), label=candidate, **style)
        axes[1].plot(epochs, frame[name].to_numpy(), label=candidate, **style)
    lowest = min(float(np.nanmin(frame[name].to_numpy())) for frame in curves.values())
    axes[0].set_yscale("log")
    axes[1].set_yscale("log" if lowest > 0 else "linear")
    axes[0].set_ylabel("learning rate")
    axes[1].set_ylabel(name)
    axes[0].legend(frameon=False, fontsize="small", ncols=2)
    for panel in axes:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.yaxis.set_minor_formatter(NullFormatter())


def figures(run: Run) -> Mapping[str, Callable[[Path], None]]:
    """Every picture of a run that its files allow: file name to a function that saves it."""
    found: dict[str, Callable[[Path], None]] = {}
    if run.curve is not None and run.suggestion is not None:
        figure, axes = _paper(7, 4)
        range_test(axes[0], run.curve, run.suggestion)
        found["range_test.png"] = partial(_save, figure)
    name = run.summary["objective"]["name"]
    if run.comparison is not None:
        ranking = run.comparison.ranking
        figure, axes = _paper(7, 1.2 + 0.38 * len(ranking))
        comparison(axes[0], run.comparison, name)
        found["comparison.png"] = partial(_save, figure)
        figure, axes = _paper(10, 4, panels=2)
        schedule_curves(axes, run.mean_curves, name)
        found["schedules.png"] = partial(_save, figure)
    return found


def save_range_test(path: Path, curve: Curve, suggestion: Suggestion) -> None:
    """Save the picture of a range test alone."""
    figure, axes = _paper(7, 4)
    range_test(axes[0], curve, suggestion)
    _save(figure, path)


def _loss_limits(curve: Curve) -> tuple[float, float]:
    """Limits that show the descent, and cut a divergence off."""
    start = float(np.nanmax(curve.start))
    low = float(np.min(curve.loss, initial=start, where=np.isfinite(curve.loss)))
    drop = max(start - low, 1e-12 + 1e-3 * abs(start))
    return low - 0.08 * drop, start + 0.35 * drop


def _paper(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, panels, place + 1) for place in range(panels)]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150)
