"""The picture of schedules: what the lr does, and what the loss does under it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lrfinder.plots import style

_LOWEST_LR = 1e-4  # of the largest; a schedule that ends below is cut off there


def schedule_curves(axes: Sequence[Axes], curves: Mapping[str, pd.DataFrame], name: str) -> None:
    """Two panels, the lr and the measure over epochs: one line per candidate, the first emphasised.

    `curves` has, by candidate, a frame indexed by epoch with the columns lr and `name`. Where the
    first one also has the columns `name`_min and `name`_max, they are drawn as a band.
    """
    lines: list[Artist] = []
    for frame, drawn in zip(curves.values(), style.line_styles(len(curves)), strict=True):
        epochs = frame.index.to_numpy()
        axes[0].step(epochs, frame["lr"].to_numpy(), **drawn)
        lines += axes[1].plot(epochs, frame[name].to_numpy(), **drawn)
    names = list(curves)
    if names and _band(axes[1], curves[names[0]], name):
        lines.insert(1, Patch(color=style.BEST, alpha=0.15, linewidth=0))
        names.insert(1, "from seed to seed")
    _scale_lr(axes[0], _column(curves, "lr"))
    _scale_measure(axes[1], curves, name)
    axes[0].set_ylabel("learning rate")
    axes[1].set_ylabel(style.shortened(name), parse_math=False)
    for panel in axes:
        panel.set_xlabel("epoch")
        panel.margins(x=0.02)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(curves) == 1:
        axes[0].set_title(style.shortened(names[0]), loc="left", parse_math=False)
    elif lines:
        shown = [style.shortened(name) for name in names]
        style.legend(axes[1], lines, shown, loc="lower left", bbox_to_anchor=(1.015, 0))


def _band(axes: Axes, frame: pd.DataFrame, name: str) -> bool:
    """Draw the band of a frame that has one; whether it has."""
    if not {f"{name}_min", f"{name}_max"} <= set(frame.columns):
        return False
    low, high = frame[f"{name}_min"].to_numpy(), frame[f"{name}_max"].to_numpy()
    axes.fill_between(frame.index.to_numpy(), low, high, color=style.BEST, alpha=0.15, linewidth=0)
    return True


def _scale_lr(axes: Axes, lrs: style.Floats) -> None:
    used = lrs[np.isfinite(lrs) & (lrs > 0)]
    if not used.size:
        return
    axes.set_yscale("log")
    low = max(float(used.min()), _LOWEST_LR * float(used.max()))
    axes.set_ylim(low / 1.3, float(used.max()) * 1.3)
    style.log_ticks(axes.yaxis)


def _scale_measure(axes: Axes, curves: Mapping[str, pd.DataFrame], name: str) -> None:
    """Limits of the best curve and of all starts; a divergence is cut off."""
    values = _column(curves, name)
    starts = [frame[name].to_numpy(dtype=np.float64)[:1] for frame in curves.values()]
    best = [
        frame[column].to_numpy(dtype=np.float64)
        for frame in list(curves.values())[:1]
        for column in (name, f"{name}_min", f"{name}_max")
        if column in frame
    ]
    inner = np.concatenate([*starts, *best, np.empty(0)])
    if style.spans_decades(values, 8):
        found = style.limits(np.log(inner), np.log(values), reach=0.3)
        if found is not None:
            axes.set_yscale("log")
            axes.set_ylim(*np.exp(found))
            style.log_ticks(axes.yaxis)
        return
    found = style.limits(inner, values, reach=0.3)
    if found is not None:
        axes.set_ylim(*found)


def _column(curves: Mapping[str, pd.DataFrame], name: str) -> style.Floats:
    columns = [frame[name].to_numpy(dtype=np.float64) for frame in curves.values()]
    return np.concatenate([*columns, np.empty(0)])
