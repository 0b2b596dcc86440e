"""The picture of a range test."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lrfinder.plots import style
from lrfinder.range_tests.by_epoch import best_steps, measured
from lrfinder.range_tests.curve import UNCHECKED, Curve
from lrfinder.range_tests.rules.suggestion import Suggestion


def range_test(axes: Axes, curve: Curve, suggestion: Suggestion) -> None:
    """Loss against lr: each seed, their mean, the probes, the suggestion, the edge.

    A cross at the top marks the lr at which a seed diverged; the dotted edge is their median.
    """
    shown = (
        _seeds(axes, curve)
        | _probes(axes, curve)
        | _suggestion(axes, suggestion)
        | _edge(axes, curve, suggestion)
    )
    if curve.growth == "exponential":
        axes.set_xscale("log")
    axes.set_xlim(curve.lr[0], curve.lr[-1])
    if curve.growth == "exponential":
        style.log_ticks(axes.xaxis)
    _show_descent(axes, curve)
    axes.set_xlabel(f"learning rate, growing every {curve.every}")
    axes.set_ylabel("loss of the probe" if curve.every == "batch" else "validation loss")
    axes.yaxis.get_offset_text().set(x=1, ha="right")  # a power of ten, else in the legend
    style.legend_above(axes, list(shown.values()), list(shown))
    if curve.every == "epoch" and curve.metrics:
        _metric(axes, curve)
    axes.set_title(_title(curve, suggestion), loc="left", pad=24, parse_math=False)


def _show_descent(axes: Axes, curve: Curve) -> None:
    """Limits from the lowest loss to a little over the start; a divergence is cut off."""
    start = curve.start[np.isfinite(curve.start)]
    loss = np.append(curve.loss, [probe.loss for probe in curve.probes])
    loss = loss[np.isfinite(loss)]
    if not start.size:
        start = loss
    if start.size:
        top = float(start.max())
        low = float(np.min(loss, initial=top))
        drop = max(top - low, 1e-3 * abs(top), 1e-12)
        axes.set_ylim(low - 0.08 * drop, top + 0.35 * drop)


def _seeds(axes: Axes, curve: Curve) -> dict[str, Artist]:
    count = len(curve.seeds)
    lines = axes.plot(curve.lr, curve.loss.T, color=style.OTHER, linewidth=0.8, alpha=0.7)
    if count == 1:
        return {"1 seed": lines[0]}
    mean = axes.plot(curve.lr, curve.mean, color=style.ink(axes), linewidth=1.8)
    return {f"{count} seeds": lines[0], "mean": mean[0]}


def _probes(axes: Axes, curve: Curve) -> dict[str, Artist]:
    """A diamond for each run at a constant lr, at the loss it came down to."""
    if not curve.probes:
        return {}
    lrs, losses = [p.lr for p in curve.probes], [p.loss for p in curve.probes]
    points = axes.plot(lrs, losses, "D", color=style.ink(axes), markersize=4)
    return {f"{curve.probes[0].updates} updates": points[0]}


def _suggestion(axes: Axes, suggestion: Suggestion) -> dict[str, Artist]:
    if suggestion.lr is None:
        return {}
    if suggestion.low is None or suggestion.high is None:
        return {"suggested": axes.axvline(suggestion.lr, color=style.BEST)}
    band = axes.axvspan(
        suggestion.low, suggestion.high, facecolor=style.TIE, alpha=0.4, linewidth=0
    )
    line = axes.axvline(suggestion.lr, color=style.BEST, linewidth=1.2)
    shown: dict[str, Artist] = {"suggested": line, "interval": band}
    if suggestion.band_low is not None and suggestion.band_high is not None:
        ends = [suggestion.band_low, suggestion.band_high]
        at_axis = axes.get_xaxis_transform()
        drawn = axes.plot(ends, [0.02, 0.02], "-|", color=style.BEST, transform=at_axis)
        shown["under 5% lost"] = drawn[0]
    return shown


def _metric(axes: Axes, curve: Curve) -> None:
    """The first metric after each epoch, on an axis of its own, with a ring where it is best."""
    best = next((one for one in best_steps(curve) if one.measure != "loss"), None)
    if best is None:
        return
    beside = axes.twinx()
    values = measured(curve)[best.measure]
    beside.plot(curve.lr, values, color=style.SECOND, linewidth=1.2)
    beside.plot([best.lr], [best.value], "o", color=style.SECOND, fillstyle="none", markersize=9)
    beside.set_ylabel(f"{best.measure}, {best.extreme} at {best.lr:.2g}", parse_math=False)
    beside.spines["right"].set_visible(True)


def _edge(axes: Axes, curve: Curve, suggestion: Suggestion) -> dict[str, Artist]:
    ends = curve.diverged_at[np.isfinite(curve.diverged_at)]
    if not ends.size:
        return {}
    drawn: dict[str, Any] = {"color": style.ink(axes), "markersize": 5, "linewidth": 1.2}
    top = axes.get_xaxis_transform()
    axes.plot(ends, np.full(len(ends), 0.975), "x", transform=top, **drawn)
    if suggestion.diverged_at is None:
        return {"diverged": Line2D([], [], linestyle="", marker="x", **drawn)}
    axes.axvline(suggestion.diverged_at, color=style.ink(axes), linestyle=":", linewidth=1.2)
    return {"diverged": Line2D([], [], linestyle=":", marker="x", **drawn)}


def _title(curve: Curve, suggestion: Suggestion) -> str:
    if suggestion.lr is None:
        return f"Range test: inconclusive\n{suggestion.reason.partition(';')[0]}"
    note = "" if suggestion.schedule == "constant" else f"\npeak of {suggestion.schedule}"
    note += "" if curve.unchecked is None else f"\n{UNCHECKED}"
    if suggestion.low is None or suggestion.high is None:
        return f"Range test: lr {suggestion.lr:.2g} (one seed, no interval){note}"
    interval = f"{suggestion.low:.2g} to {suggestion.high:.2g}"
    return f"Range test: lr {suggestion.lr:.2g}, 90% interval {interval}{note}"
