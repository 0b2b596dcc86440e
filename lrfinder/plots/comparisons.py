"""The picture of a comparison."""

import numpy as np
from matplotlib.axes import Axes

from lrfinder.comparison.ranking import Comparison, Standing
from lrfinder.plots import style

_BELOW = 0.3  # where the seeds are drawn, under their interval
_REACH = 2.0  # how far behind the better half a candidate is still drawn, in spans of that half


def comparison(axes: Axes, compared: Comparison, name: str) -> None:
    """Mean, interval and seeds of every candidate, best on top, with its difference to the best.

    A candidate that diverged shows the seeds that did not and a cross, one that was dropped no
    interval; what lies far behind is an arrow at the edge with its value, and single seeds there
    are a triangle.
    """
    if not compared.seeds:
        style.note(axes, "no seed on which every candidate has finished yet")
        return
    ranking = compared.ranking
    bounds = _limits(compared)
    for place, standing in enumerate(ranking):
        _draw(axes, place, standing, compared, bounds)
    axes.axvline(ranking[0].value.mean, color=style.BEST, linewidth=0.8, alpha=0.5, zorder=1)
    axes.set_xlim(*bounds)
    axes.set_ylim(len(ranking) - 0.4, -0.6)
    names = [style.shortened(standing.candidate) for standing in ranking]
    axes.set_yticks(range(len(ranking)), names, parse_math=False)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.xaxis.set_major_locator(style.Ticks(axes.xaxis))
    power = axes.xaxis.get_major_formatter()
    power.set_locs(list(axes.get_xticks()))
    pad = 14 if power.get_offset() else 4  # a power of ten has its own line above the caption
    axes.set_xlabel(_caption(compared, name), labelpad=pad, parse_math=False)
    axes.set_title(f"Best of each decay family on {_seeds(compared)}", loc="left")


def _draw(
    axes: Axes,
    place: int,
    standing: Standing,
    compared: Comparison,
    bounds: tuple[float, float],
) -> None:
    colour = style.BEST if place == 0 else style.TIE if standing.ties else style.OTHER
    _beside(axes, place, standing, compared)
    seeds = _sound_values(compared, standing.candidate)
    heights = np.full(len(seeds), place + _BELOW)
    axes.plot(seeds, heights, ".", color=colour, markersize=4, alpha=0.8)
    mean, low, high = standing.value
    if standing.diverged or bounds[0] <= mean <= bounds[1]:
        _seeds_beyond(axes, place, seeds, colour, bounds)
    if standing.diverged:
        edge = 0.985 if compared.direction == "minimize" else 0.015
        axes.plot(
            edge, place, "x", color=colour, markersize=8, transform=axes.get_yaxis_transform()
        )
    elif not bounds[0] <= mean <= bounds[1]:
        _arrow(axes, place, mean, mean > bounds[1])
    else:
        if np.isfinite(low) and standing.dropped_at is None:
            axes.plot([low, high], [place, place], color=colour, linewidth=3.5)
        face = "white" if not standing.ties and place > 0 else colour
        marker = "D" if place == 0 else "o"
        axes.plot(mean, place, marker, color=colour, markerfacecolor=face, markersize=7.5)


def _sound_values(compared: Comparison, candidate: str) -> style.Floats:
    """Values of the seeds on which a candidate did not diverge."""
    name = compared.results.same_as.get(candidate, candidate)
    own = [run for run in compared.runs if run.candidate == name and not run.diverged]
    return np.array([run.value for run in own if run.seed in compared.seeds])


def _seeds(compared: Comparison) -> str:
    counts = {standing.seeds for standing in compared.ranking}
    fewest, most = min(counts), max(counts)
    many = f"{fewest} to {most}" if fewest < most else str(most)
    return f"{many} fresh seed{'s'[: most != 1]}"


def _seeds_beyond(
    axes: Axes, place: int, seeds: style.Floats, colour: str, bounds: tuple[float, float]
) -> None:
    """A triangle at each edge beyond which seeds lie, and right of the axes where they are."""
    behind, ahead = seeds[seeds < bounds[0]], seeds[seeds > bounds[1]]
    at, height = axes.get_yaxis_transform(), place + _BELOW
    for edge, marker, found in ((0, "<", behind), (1, ">", ahead)):
        if found.size:
            axes.plot(edge, height, marker, color=colour, markersize=4, transform=at, clip_on=False)
    beyond = np.sort(np.append(behind, ahead))
    if beyond.size:
        count = "seed at" if beyond.size == 1 else f"{beyond.size} seeds:"
        ends = dict.fromkeys(f"{value:.3g}" for value in beyond[[0, -1]])
        said = f"{count} {' to '.join(ends)}"
        axes.text(1.015, height, said, transform=at, va="center", fontsize="x-small")


def _arrow(axes: Axes, place: int, mean: float, right: bool) -> None:
    """An arrow at the edge with the value that lies beyond it."""
    axes.annotate(
        f"{mean:.3g}",
        (1.0 if right else 0.0, place),
        (-28 if right else 28, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-|>", "color": style.OTHER},
        ha="right" if right else "left",
        va="center",
        fontsize="small",
    )


def _beside(axes: Axes, place: int, standing: Standing, compared: Comparison) -> None:
    """Write how a candidate stands to the best, right of the axes."""
    if standing.diverged:
        text = f"diverged on {standing.diverged} of {standing.seeds}"
    elif place == 0:
        text = "best"
    elif standing.same_as is not None:
        text = f"same as {style.shortened(standing.same_as)}"
    elif standing.dropped_at is not None:
        text = f"{standing.difference.mean:+#.2g} dropped"
    else:
        text = f"{standing.difference.mean:+#.2g} {'tie' if standing.ties else 'worse'}"
    axes.text(
        1.015, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize="small"
    )


def _caption(compared: Comparison, name: str) -> str:
    better = "lower" if compared.direction == "minimize" else "higher"
    what = f"{style.shortened(name)} ({better} is better)"
    if len(compared.seeds) == 1:
        return f"{what}\na single seed has no interval and cannot tell any two apart"
    said = f"{what}: mean, 95% interval and each seed"
    if any(standing.dropped_at is not None for standing in compared.ranking):
        said += "\ndropped: after so few seeds that the rank is no verdict"
    if compared.ties:
        said += "\ntie: a difference that these seeds do not show (paired t test at 5%, Holm)"
    return said


def _limits(compared: Comparison) -> tuple[float, float]:
    """Limits around the better half of the candidates; the others as far as they are near it."""
    sound = [s for s in compared.ranking if s.diverged == 0] or list(compared.ranking)
    extents = [
        np.append(
            compared.values[s.candidate].dropna().to_numpy(),
            s.value if s.dropped_at is None else s.value.mean,
        )
        for s in sound
    ]
    better = np.concatenate(extents[: max(2, (len(extents) + 1) // 2)])
    found = style.limits(better, np.concatenate(extents), _REACH)
    return (0.0, 1.0) if found is None else found
