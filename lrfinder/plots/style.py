"""What all pictures share: colours, markers that survive print in grey, axes and legends.

Nothing here touches matplotlib's global settings. Text that comes from the user is never read as
mathematics.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.colors import ListedColormap
from matplotlib.ticker import Locator, MaxNLocator, NullFormatter, NullLocator

from lrfinder.arrays import Floats

SECOND = "#0072b2"
"""A second measure, on an axis of its own."""
BEST, TIE, OTHER = "#b5390b", "#d9902f", "#7b828c"
"""The best candidate or the suggestion; what ties with it; everything else."""
MAP = "viridis"
"""Colours of values: even steps of brightness, also in grey and for colour-blind readers."""
_COLOURS = ("#0072b2", "#009e73", "#7b4ea3", "#e69f00", "#555555", "#cc79a7", "#56b4e9")
_DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
_LONGEST = 20
_MOST_TICKS = 9
_NARROW, _WIDE = 6.0, 300.0  # log axes, limits' ratio: below, ticked as linear; above, by decades
_LETTER, _GAP, _LINE = 0.6, 0.4, 1.4  # tick labels, in font sizes: a letter, between two, a line


def pale_map(name: str) -> ListedColormap:
    """A colour map half way to white, to paint under points."""
    colours = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return ListedColormap(0.5 + 0.5 * colours)


def ink(axes: Axes) -> str:
    """Colour of the text on these axes, so that lines are seen on a dark background too."""
    return str(axes.xaxis.label.get_color())


def line_styles(count: int) -> list[dict[str, Any]]:
    """Styles of so many lines, all different: the first one is the best."""
    others = zip(cycle(_COLOURS), cycle(_DASHES), strict=False)  # 7 x 4 pairs before one repeats
    styles: list[dict[str, Any]] = [
        {"color": colour, "linestyle": dash, "linewidth": 1.2, "zorder": 2}
        for colour, dash in islice(others, count)
    ]
    best = {"color": BEST, "linestyle": "-", "linewidth": 2.4, "zorder": 3}
    return [best, *styles][:count]


def shortened(text: str) -> str:
    """The text, cut where it would take the room of the picture."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def legend(axes: Axes, handles: Sequence[Artist], names: Sequence[str], **place: Any) -> None:  # noqa: ANN401 (matplotlib's)
    """Add a legend whose names are shown as they are written."""
    numbers = [str(number) for number in range(len(names))]  # a name may start with "_"
    settings: dict[str, Any] = {"frameon": False, "fontsize": "small", "labelspacing": 0.35}
    made = axes.legend(list(handles), numbers, **settings, borderaxespad=0, **place)
    for text, name in zip(made.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def legend_above(axes: Axes, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Add a legend in one row between the axes and the title, where it covers nothing."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": max(1, len(names))}
    legend(axes, handles, names, columnspacing=1.2, handlelength=1.6, **place)


def limits(inner: Floats, outer: Floats, reach: float) -> tuple[float, float] | None:
    """Limits that hold `inner`, and those of `outer` that are no more than `reach` spans away.

    None where nothing is finite.

    >>> low, high = limits(np.array([1.0, 2.0]), np.array([0.9, 50.0]), reach=0.5)
    >>> round(low, 2), round(high, 2)
    (0.86, 2.04)
    """
    inner, outer = inner[np.isfinite(inner)], outer[np.isfinite(outer)]
    inner = inner if inner.size else outer
    if not inner.size:
        return None
    low, high = float(inner.min()), float(inner.max())
    span = max(high - low, 1e-3 * abs(low), 1e-12)
    near = outer[(outer >= low - reach * span) & (outer <= high + reach * span)]
    low, high = float(np.min(near, initial=low)), float(np.max(near, initial=high))
    margin = 0.04 * max(high - low, span)
    return low - margin, high + margin


def spans_decades(values: Floats, ratio: float) -> bool:
    """Whether positive values differ by more than this ratio, so that a log axis serves them."""
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() > ratio * known.min())


def log_ticks(axis: Axis) -> None:
    """As many ticks as find room, written as plain numbers, on a log axis whose limits are set."""
    low, high = sorted(axis.get_view_interval())
    if 0 < high < _NARROW * low:
        axis.set_minor_locator(NullLocator())
    axis.set_major_locator(Ticks(axis))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


class Ticks(Locator):
    """The most ticks, up to nine, whose labels do not touch when the axis is drawn."""

    def __init__(self, axis: Axis) -> None:
        self._axis = axis

    def __call__(self) -> list[float]:
        """Return the ticks between the present limits."""
        low, high = sorted(self._axis.get_view_interval())
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return the ticks between these limits."""
        choices = _log_ticks if self._axis.get_scale() == "log" else _even_ticks
        ticks: list[float] = []
        for found in choices(vmin, vmax):
            ticks = [float(tick) for tick in found if vmin <= tick <= vmax]
            if len(ticks) <= _MOST_TICKS and self._have_room(ticks, (vmin, vmax)):
                break
        return ticks

    def _have_room(self, ticks: list[float], limits: tuple[float, float]) -> bool:
        scale, axes = self._axis.get_transform(), self._axis.axes
        across = isinstance(self._axis, XAxis)
        points = (axes.bbox.width if across else axes.bbox.height) * 72 / axes.figure.dpi
        length = points / float(self._axis.get_major_ticks(1)[0].label1.get_fontsize())
        apart = np.diff(scale.transform(np.array(ticks))) / np.diff(scale.transform(limits))
        if not across:
            return bool(np.all(apart * length > _LINE))
        labels = self._axis.get_major_formatter().format_ticks(ticks)
        widths = _LETTER * np.array([len(label) for label in labels])
        return bool(np.all(apart * length > (widths[1:] + widths[:-1]) / 2 + _GAP))


def _even_ticks(low: float, high: float) -> Iterator[Floats]:
    for count in range(_MOST_TICKS, 0, -1):
        yield np.array(MaxNLocator(count, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high))


def _log_ticks(low: float, high: float) -> Iterator[Floats]:
    """Ticks of a log axis from many to few; some may lie outside of its limits."""
    if high < _NARROW * low:
        yield from _even_ticks(low, high)
        return
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    if high < _WIDE * low:
        for steps in ((1.0, 2.0, 5.0), (1.0, 3.0)):
            yield np.outer(10.0**decades, steps).ravel()
    for stride in range(1, len(decades) + 1):
        yield 10.0 ** decades[decades % stride == 0]


def note(axes: Axes, text: str) -> None:
    """Say in the middle of the axes why there is nothing else."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=OTHER)
