"""Maps of a family's searched parameters: where the good trials lie.

Every point is a trial, dark is good. The values between trials are only painted where the two
parameters are all that was searched and the trials are many, and never outside of them.
"""

from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import TriMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from lrfinder.plots import style
from lrfinder.types import Direction

_FEWEST_FOR_SURFACE = 15
_LONGEST_EDGE = 0.6  # of the axes; a triangle that spans more is left open
_LOG_RATIO = 15.0  # of the largest over the smallest value on a log axis
_DOT: dict[str, Any] = {"s": 28, "edgecolors": "#333333", "linewidths": 0.5, "zorder": 3}
_STAR: dict[str, Any] = {
    "marker": "*",
    "color": style.BEST,
    "markersize": 12,
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
    "zorder": 4,
}


def parameter_map(
    axes: Axes,
    trials: pd.DataFrame,
    x: str,
    y: str,
    *,
    name: str = "value",
    direction: Direction = "minimize",
    colours: Normalize | None = None,
    surface: bool = True,
    best: int | None = None,
) -> None:
    """Trials of one family at two parameters, coloured by value: dark is good, a star the best.

    Args:
        axes: what is drawn on; a colour bar is put beside it where `colours` is None.
        trials: one row per trial: the parameters, value, and diverged.
        x, y: names of the two parameters; a trial without one of them is left out.
        name: what the value is.
        direction: which values are good.
        colours: colours that several maps share, from `colour_scale`.
        surface: whether to paint between the trials, where there are at least 15 of them.
        best: number (column `trial`) of the one that gets the star, such as one that was chosen on
            more seeds than its value is of; by default the trial with the best value.
    """
    trials = trials.dropna(subset=[x, y])
    scale = colours or colour_scale(trials, direction)
    across, up = cast(pd.Series, trials[x]), cast(pd.Series, trials[y])
    points = _Points(_positions(across), _positions(up), *_outcomes(trials))
    shades: dict[str, Any] = {"cmap": _map(direction), "norm": scale}
    _set_axis(axes, "x", across)
    _set_axis(axes, "y", up)
    if surface:
        _paint_between(axes, points, direction, scale)
    sound = ~points.diverged
    at = (points.x[sound], points.y[sound])
    shown = axes.scatter(*at, c=points.value[sound], **_DOT, **shades)
    _mark(axes, points, (points.x, points.y), _star(points, trials, best, direction))
    _set_ticks(axes)
    if colours is None:
        bar = axes.figure.colorbar(shown, ax=axes, extend=bar_end(direction))
        bar.set_label(style.shortened(name), parse_math=False)


def parameter_values(
    axes: Axes,
    trials: pd.DataFrame,
    x: str,
    *,
    name: str = "value",
    direction: Direction = "minimize",
    colours: Normalize | None = None,
    best: int | None = None,
) -> None:
    """Value against the one parameter of a family; crosses at the edge are trials that diverged.

    The arguments are those of `parameter_map`.
    """
    trials = trials.dropna(subset=[x])
    value, diverged = _outcomes(trials)
    across = cast(pd.Series, trials[x])
    points = _Points(_positions(across), value, value, diverged)
    _set_axis(axes, "x", across)
    sound = ~diverged
    shades: dict[str, Any] = {
        "cmap": _map(direction),
        "norm": colours or colour_scale(trials, direction),
    }
    axes.scatter(points.x[sound], value[sound], c=value[sound], **_DOT, **shades)
    bounds = style.limits(value[sound], value[sound], reach=0.1)
    if bounds is not None:
        span = bounds[1] - bounds[0]
        axes.set_ylim(bounds[0] - 0.1 * span, bounds[1] + 0.1 * span)
    low, high = axes.get_ylim()
    inside = 0.04 * (high - low)
    edge = high - inside if direction == "minimize" else low + inside
    at = (points.x, np.where(diverged, edge, value))
    _mark(axes, points, at, _star(points, trials, best, direction))
    _set_ticks(axes)
    axes.set_ylabel(style.shortened(name), parse_math=False)


def colour_scale(trials: pd.DataFrame, direction: Direction = "minimize") -> Normalize:
    """Colours from the best value to the worse quartile; what is worse still looks like that.

    Trials that diverged do not count.
    """
    values, diverged = _outcomes(trials)
    values = values[~diverged]
    if not values.size:
        return Normalize(0.0, 1.0)
    best, bad = np.quantile(values, [0.0, 0.75] if direction == "minimize" else [1.0, 0.25])
    low, high = min(best, bad), max(best, bad)
    if style.spans_decades(np.array([low, high]), 8):
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + max(1e-3 * abs(low), 1e-12))


def colours_of(scale: Normalize, direction: Direction) -> ScalarMappable:
    """What a colour bar shows that stands for several maps."""
    return ScalarMappable(scale, _map(direction))


def bar_end(direction: Direction) -> Literal["min", "max"]:
    """Which end of a colour bar stands for everything worse."""
    return "max" if direction == "minimize" else "min"


class _Points(NamedTuple):
    """Where the trials are drawn, and how they ended: each float64[trials] or bool[trials]."""

    x: style.Floats
    y: style.Floats
    value: style.Floats
    diverged: NDArray[np.bool_]


def _outcomes(trials: pd.DataFrame) -> tuple[style.Floats, NDArray[np.bool_]]:
    """Value of every trial, and whether it diverged or has no finite one."""
    value = trials["value"].to_numpy(dtype=np.float64)
    return value, trials["diverged"].to_numpy(dtype=bool) | ~np.isfinite(value)


def _is_number(column: pd.Series) -> bool:
    return is_numeric_dtype(column) and not is_bool_dtype(column)


def _words(column: pd.Series) -> list[str]:
    return sorted(set(column.astype(str)))


def _positions(column: pd.Series) -> style.Floats:
    """Numbers as they are; words by their place in the alphabet."""
    if _is_number(column):
        return column.to_numpy(dtype=np.float64)
    words = _words(column)
    return np.array([words.index(word) for word in column.astype(str)], dtype=np.float64)


def _set_axis(axes: Axes, which: Literal["x", "y"], column: pd.Series) -> None:
    """Label, scale and words of an axis: log for an lr and for numbers over more than a decade."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}label": style.shortened(str(column.name))})
    axis.label.set_parse_math(False)
    values = _positions(column)
    if not _is_number(column):
        words = _words(column)
        axis.set_ticks(range(len(words)), words, parse_math=False)
        return
    if np.array_equal(values, np.round(values)):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    elif column.name == "lr" or style.spans_decades(values, _LOG_RATIO):
        axes.set(**{f"{which}scale": "log"})
    elif which == "x":
        axis.set_major_locator(style.Ticks(axis))


def _set_ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            style.log_ticks(axis)


def _star(
    points: _Points, trials: pd.DataFrame, number: int | None, direction: Direction
) -> int | None:
    """Row of the trial of this number, else of the one with the best value; None for no star."""
    if number is not None:
        found = np.flatnonzero(trials["trial"].to_numpy() == number)
        return int(found[0]) if found.size else None
    if points.diverged.all():
        return None
    sign = 1 if direction == "minimize" else -1
    return int(np.argmin(np.where(points.diverged, np.inf, sign * points.value)))


def _mark(
    axes: Axes, points: _Points, at: tuple[style.Floats, style.Floats], best: int | None
) -> None:
    """A star on one trial, crosses on those that diverged."""
    (xs, ys), lost = at, points.diverged
    if lost.any():  # marks without a place would spoil the layout
        axes.plot(xs[lost], ys[lost], "x", color=style.OTHER, markersize=5, clip_on=False)
    if best is None:
        return
    axes.plot(
        xs[best],
        ys[best],
        "*",
        color=style.BEST,
        markersize=12,
        markeredgecolor="black",
        markeredgewidth=0.6,
        zorder=4,
    )


def _paint_between(axes: Axes, points: _Points, direction: Direction, colours: Normalize) -> None:
    """Paint the triangles between neighbouring trials, where these are many and near."""
    sound = ~points.diverged
    if sound.sum() < _FEWEST_FOR_SURFACE:
        return
    x = _scaled(points.x[sound], axes.get_xscale())
    y = _scaled(points.y[sound], axes.get_yscale())
    near = _neighbours(x, y)
    if not near.size:
        return
    on_scale = axes.transLimits + axes.transAxes  # the scale's own transform is done above
    mesh = TriMesh(Triangulation(x, y, near), transform=on_scale, norm=colours, zorder=0)
    mesh.set_cmap(style.pale_map(_map(direction)))
    mesh.set_array(points.value[sound])
    axes.add_collection(mesh, autolim=False)


def _neighbours(x: style.Floats, y: style.Floats) -> NDArray[np.int32]:
    """Triangles of points that are near each other: int32[triangles, 3]."""
    u, v = (z / (np.ptp(z) or 1.0) for z in (x - x.min(), y - y.min()))
    try:
        found = Triangulation(u, v).triangles
    except (RuntimeError, ValueError):  # all on one line
        return np.empty((0, 3), dtype=np.int32)
    across, up = (np.roll(z[found], 1, axis=1) - z[found] for z in (u, v))
    return found[np.hypot(across, up).max(axis=1) < _LONGEST_EDGE]


def _scaled(values: style.Floats, scale: str) -> style.Floats:
    return np.log10(values) if scale == "log" else values


def _map(direction: Direction) -> str:
    """Colour map in which dark is good."""
    return style.MAP if direction == "minimize" else f"{style.MAP}_r"
