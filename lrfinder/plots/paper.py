"""Pictures on paper: whole figures, made for the width of a page, and their files."""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lrfinder.comparison.ranking import Comparison
from lrfinder.plots import style
from lrfinder.plots.comparisons import comparison
from lrfinder.plots.panels import ParameterPanel, parameter_panels
from lrfinder.plots.parameters import (
    bar_end,
    colour_scale,
    colours_of,
    parameter_map,
    parameter_values,
)
from lrfinder.plots.range_tests import range_test
from lrfinder.plots.schedules import schedule_curves
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.saved_run import Run
from lrfinder.types import Direction

_WIDTH = 7.0  # inches: what is 10 points there can still be read at the width of a README
_DPI = 150


def figures(run: Run) -> Mapping[str, Callable[[Path], None]]:
    """Every picture of a run that its files allow: file name to a function that saves it."""
    found: dict[str, Figure] = {}
    name, direction = run.answers.objective.name, run.answers.objective.direction
    if run.curve is not None and run.suggestion is not None:
        found["range_test.png"] = range_test_figure(run.curve, run.suggestion)
    if run.comparison is not None:
        found["comparison.png"] = comparison_figure(run.comparison, name)
        found["schedules.png"] = schedules_figure(run.mean_curves, run.answers.objective.column)
    if parameter_panels(run.trials):
        found["parameters.png"] = parameters_figure(run.trials, name, direction, _best_trials(run))
    return {file: partial(_save, figure) for file, figure in found.items()}


def save_range_test(path: Path, curve: Curve, suggestion: Suggestion) -> None:
    """Save the picture of a range test alone."""
    _save(range_test_figure(curve, suggestion), path)


def range_test_figure(curve: Curve, suggestion: Suggestion) -> Figure:
    """The picture of a range test as a figure of its own."""
    figure, axes = _paper(4.0)
    range_test(axes[0], curve, suggestion)
    return figure


def comparison_figure(compared: Comparison, name: str) -> Figure:
    """The picture of a comparison as a figure of its own."""
    figure, axes = _paper(1.4 + 0.4 * len(compared.values.columns))
    comparison(axes[0], compared, name)
    return figure


def schedules_figure(curves: Mapping[str, pd.DataFrame], name: str) -> Figure:
    """Lr and measure over epochs, one panel above the other."""
    figure, axes = _paper(max(5.2, 0.4 * len(curves)), rows=2)
    axes[0].sharex(axes[1])
    schedule_curves(axes, curves, name)
    axes[0].label_outer()
    return figure


def parameters_figure(
    trials: pd.DataFrame,
    name: str,
    direction: Direction,
    best: Mapping[str, int] | None = None,
) -> Figure:
    """A panel per family that searched something, all in the same colours.

    `best` is the number of each family's trial that gets the star, by default the one with the best
    value.
    """
    panels = parameter_panels(trials)
    columns = min(2 if len(panels) <= 4 else 3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = _paper(1.3 + (2.4 if columns < 3 else 2.0) * rows, rows=rows, columns=columns)
    for spare in axes[len(panels) :]:
        spare.remove()
    scale = colour_scale(trials, direction)
    axes = axes[: len(panels)]
    for panel, place in zip(panels, axes, strict=True):
        star = (best or {}).get(panel.family)
        shared = {"name": name, "direction": direction, "colours": scale, "best": star}
        _parameters(place, panel, shared)
        _headline(place, panel, pad=14 if any(panel.hidden for panel in panels) else 6)
    colours, end = colours_of(scale, direction), bar_end(direction)
    bar = figure.colorbar(colours, ax=axes, location="bottom", extend=end, aspect=45, shrink=0.8)
    bar.set_label(f"{style.shortened(name)} of a trial", parse_math=False)
    title = "Trials of the studies: dark is good, the star was chosen, crosses diverged"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save_trial(path: Path, frame: pd.DataFrame, name: str) -> None:
    """Save the lr and the measure of one trial, indexed by epoch: means over its seeds."""
    _save(schedules_figure({"mean over the seeds": frame}, name), path)


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = BytesIO()
    _save(figure, file)
    return file.getvalue()


def _best_trials(run: Run) -> dict[str, int]:
    """Number of each family's trial that went into the comparison."""
    families = run.answers.families.items()
    return {name: facts.best_trial for name, facts in families if facts.best_trial is not None}


def _parameters(axes: Axes, panel: ParameterPanel, shared: dict[str, Any]) -> None:
    if panel.y is None:
        parameter_values(axes, panel.trials, panel.x, **shared)
    else:
        whole = not panel.hidden
        parameter_map(axes, panel.trials, panel.x, panel.y, surface=whole, **shared)
    axes.minorticks_off()  # too many for a small panel: they take half the time of the picture
    axes.tick_params(labelsize="small")
    axes.xaxis.label.set_fontsize("small")
    axes.yaxis.label.set_fontsize("small")


def _headline(axes: Axes, panel: ParameterPanel, pad: float) -> None:
    """The family, and under it in small letters what was searched besides."""
    family = style.shortened(panel.family)
    axes.set_title(family, loc="left", fontsize="medium", pad=pad, parse_math=False)
    if panel.hidden:
        also = panel.hidden[0] if len(panel.hidden) == 1 else f"{len(panel.hidden)} more"
        under: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        said = f"also {style.shortened(also)}"
        axes.annotate(said, (0, 1), (0, 4), fontsize="x-small", parse_math=False, **under)


def _paper(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, file: Path | BytesIO) -> None:
    """Save a figure as `savefig` does, which would draw everything a second time for its layout."""
    FigureCanvasAgg(figure).print_png(file)
