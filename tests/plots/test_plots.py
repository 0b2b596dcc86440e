"""Pictures draw what they are given, on the axes they are given, and change nothing else."""

import copy
import io
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import combinations

import made_up_values as values
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import TriMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from lrfinder import plots
from lrfinder.comparison.ranking import Comparison
from lrfinder.plots import style

HUGE, SMALL, NEGATIVE = {"scale": 1e30}, {"scale": 1e-9, "offset": 5.0}, {"offset": -7.0}
SCALES = (HUGE, SMALL, NEGATIVE)


def drawn(draw, panels=1):
    """Draw on a fresh figure, print it and give its axes."""
    figure = Figure(layout="constrained")
    axes = [figure.add_subplot(panels, 1, place + 1) for place in range(panels)]
    assert draw(axes[0] if panels == 1 else axes) is None
    figure.savefig(io.BytesIO(), dpi=40)
    return axes if panels > 1 else axes[0]


def range_test(curve):
    return lambda axes: plots.range_test(axes, curve, curve.suggest())


def comparison(compared):
    return lambda axes: plots.comparison(axes, compared, values.MARKUP)


def schedules(curves):
    return lambda axes: plots.schedule_curves(axes, curves, "loss")


def parameters(trials, x="step_size", y="lr", **options):
    return lambda axes: plots.parameter_map(axes, trials, x, y, **options)


def one_parameter(trials, x="lr", **options):
    return lambda axes: plots.parameter_values(axes, trials, x, **options)


CURVES = [
    *(values.curve(**scale) for scale in SCALES),
    values.curve(seeds=1),
    values.curve(diverges=False, growth="linear"),
    values.curve(steps=2),
    values.lost_curve(),
]
COMPARISONS = [
    *(values.comparison(**scale) for scale in SCALES),
    values.comparison(1, 1),
    values.comparison(1, 5),
    values.comparison(3, 1),
    values.comparison(14, diverged=(2, 13)),
    values.comparison(diverged=(0, 1, 2, 3)),
    values.comparison(diverged=(3,), direction="maximize"),
    values.comparison(gap=0.0),
    values.comparison(gap=1e6),
    values.comparison(0, 0),
    values.halved(),
]
SCHEDULES = [
    *(values.curves(**scale) for scale in SCALES),
    values.curves(1),
    values.curves(14),
    {"lost": values.curves(1)[values.MARKUP] * np.nan},
    {},
]
TRIALS = [
    *(values.trials(**scale) for scale in SCALES),
    values.trials(1),
    values.trials(3, diverged=1),
    values.trials(30, diverged=30),
    values.trials(20).assign(step_size=3),
    values.trials(20).assign(value=np.nan),
    values.trials(0),
]
WAYS = ({"direction": "maximize"}, {"x": "shape"}, {"y": "shape"}, {"surface": False})
DRAWINGS = [
    *((range_test(curve), 1) for curve in CURVES),
    *((comparison(compared), 1) for compared in COMPARISONS),
    *((schedules(curves), 2) for curves in SCHEDULES),
    *((parameters(trials), 1) for trials in TRIALS),
    *((parameters(values.trials(20, diverged=2), **way), 1) for way in WAYS),
    *((one_parameter(trials), 1) for trials in TRIALS),
    (one_parameter(values.trials(5, diverged=1), "shape", direction="maximize"), 1),
]


@pytest.mark.parametrize(("draw", "panels"), DRAWINGS)
def test_whatever_was_finished_can_be_drawn(draw, panels):
    before = copy.deepcopy(dict(mpl.rcParams))
    drawn(draw, panels)
    assert dict(mpl.rcParams) == before


def test_drawing_changes_no_value():
    curve, trials, frames = values.curve(), values.trials(), values.curves()
    compared = values.comparison()
    before = copy.deepcopy((curve.frame(), trials, frames, compared.frame()))
    drawn(range_test(curve))
    drawn(parameters(trials))
    drawn(schedules(frames), 2)
    drawn(comparison(compared))
    pd.testing.assert_frame_equal(curve.frame(), before[0])
    pd.testing.assert_frame_equal(trials, before[1])
    pd.testing.assert_frame_equal(compared.frame(), before[3])
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, before[2][name])


def legend_box(axes):
    return axes.get_legend().get_window_extent()


@pytest.mark.parametrize("curve", [values.curve(), values.curve(5, diverges=False)])
def test_the_legend_of_a_range_test_is_outside_of_the_data(curve):
    axes = drawn(range_test(curve))
    assert not legend_box(axes).overlaps(axes.get_window_extent())


@pytest.mark.parametrize("count", [2, 9, 14])
def test_the_legend_of_schedules_is_outside_of_the_data_and_names_all(count):
    axes = drawn(schedules(values.curves(count)), 2)
    assert not any(legend_box(axes[1]).overlaps(panel.get_window_extent()) for panel in axes)
    shown = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert shown == list(values.curves(count))


def test_so_many_lines_all_look_different():
    looks = {str(sorted(look.items())) for look in style.line_styles(28)}
    assert len(looks) == 28


def test_an_inconclusive_range_test_says_why():
    flat = values.curve(scale=0.0, offset=1.0, diverges=False)
    assert flat.suggest().lr is None
    title = drawn(range_test(flat)).get_title(loc="left")
    assert "inconclusive" in title
    assert flat.suggest().reason.partition(";")[0] in title


def test_the_crosses_stand_where_seeds_diverged():
    curve = values.curve(3)
    curve.loss[0, 30:] = np.nan
    axes = drawn(range_test(curve))
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    assert crosses.get_xdata() == pytest.approx([curve.lr[30], curve.lr[54], curve.lr[54]])


def test_the_start_of_the_curve_is_seen_however_high_the_divergence():
    curve = values.curve(2)
    curve.loss[:, 45:50] = 1e12
    low, high = drawn(range_test(curve)).get_ylim()
    assert low < np.nanmin(curve.loss)
    assert curve.start.max() < high < 2 * curve.start.max()


def beside(axes):
    """What is written right of the axes, by candidate's place from the top."""
    texts = [text for text in axes.texts if text.get_position()[0] > 1]
    return [text.get_text() for text in sorted(texts, key=lambda text: text.get_position()[1])]


def test_a_comparison_says_of_each_candidate_how_it_stands():
    compared = values.comparison(4, gap=0.05, diverged=(3,))
    said = beside(drawn(comparison(compared)))
    assert said[0] == "best"
    assert [said[1].endswith("worse"), said[2].endswith("worse")] == [True, True]
    assert said[3] == "diverged on 5 of 5"


def test_a_candidate_that_was_dropped_is_said_to_be():
    said = beside(drawn(comparison(values.halved())))
    assert [text.endswith("dropped") for text in said] == [False, False, True, True]
    axes = drawn(comparison(values.halved()))
    assert "the rank is no verdict" in axes.get_xlabel()
    assert "2 to 5 fresh seeds" in axes.get_title(loc="left")
    assert "dropped" not in drawn(comparison(values.comparison())).get_xlabel()


def test_a_candidate_that_trained_like_another_is_said_to():
    compared = values.halved(family_1=7, family_2=7)
    assert beside(drawn(comparison(compared)))[2] == "same as family_1"


def test_ties_are_explained_only_where_there_are_any():
    assert "tie:" in drawn(comparison(values.comparison(gap=0.0))).get_xlabel()
    assert "tie" not in drawn(comparison(values.comparison(gap=0.5))).get_xlabel()


def test_the_best_candidate_is_on_top():
    for direction in ("minimize", "maximize"):
        compared = values.comparison(direction=direction)
        axes = drawn(comparison(compared))
        assert axes.yaxis_inverted()
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            standing.candidate for standing in compared.ranking
        ]


@pytest.mark.parametrize(("direction", "far"), [("minimize", 1e6), ("maximize", -1e6)])
def test_candidates_that_diverged_or_are_far_off_do_not_widen_the_axis(direction, far):
    near = values.comparison(5, direction=direction)
    runs = [
        replace(run, value=far) if run.candidate == "family_4" else run
        for run in values.comparison(6, direction=direction, diverged=(5,)).runs
    ]
    runs = [replace(run, value=far) if run.candidate == "family_5" else run for run in runs]
    low, high = drawn(comparison(Comparison(tuple(runs), "loss", direction))).get_xlim()
    spread = np.ptp(near.values.to_numpy())
    assert (
        near.values.to_numpy().min() - spread < low < high < near.values.to_numpy().max() + spread
    )


@pytest.mark.parametrize(
    ("direction", "edge", "marker"), [("minimize", 1, ">"), ("maximize", 0, "<")]
)
def test_a_seed_beyond_the_axis_is_a_triangle_with_its_value(direction, edge, marker):
    compared = values.comparison(gap=0.05, direction=direction)
    off = {"minimize": 1.5, "maximize": 0.5}[direction]
    runs = [
        replace(run, value=off) if (run.candidate, run.seed) == ("family_2", 0) else run
        for run in compared.runs
    ]
    axes = drawn(comparison(Comparison(tuple(runs), "loss", direction)))
    low, high = axes.get_xlim()
    assert not low < off < high
    triangle = next(line for line in axes.lines if line.get_marker() == marker)
    place = [label.get_text() for label in axes.get_yticklabels()].index("family_2")
    assert triangle.get_xdata() == [edge]
    assert place < triangle.get_ydata()[0] < place + 0.5
    assert f"seed at {off}" in beside(axes)


def surfaces(axes):
    return [drawn for drawn in axes.collections if isinstance(drawn, TriMesh)]


def test_values_are_painted_between_trials_only_where_they_are_many():
    assert len(surfaces(drawn(parameters(values.trials(40))))) == 1
    assert not surfaces(drawn(parameters(values.trials(14))))
    assert not surfaces(drawn(parameters(values.trials(20, diverged=6))))
    assert not surfaces(drawn(parameters(values.trials(40), surface=False)))


def test_nothing_is_painted_outside_of_the_trials():
    """The corners of what is painted are trials, and no triangle spans most of the axes."""
    trials = values.trials(40).query("~(0.01 < lr < 0.3)")  # an empty stretch
    axes = drawn(parameters(trials))
    mesh = surfaces(axes)[0]
    corners = mesh._triangulation
    np.testing.assert_allclose(10**corners.y, trials["lr"])
    heights = np.ptp(corners.y[corners.get_masked_triangles()], axis=1)
    assert heights.max() < 0.6 * np.ptp(corners.y)


def test_the_star_is_the_best_trial_that_did_not_diverge():
    trials = values.trials(20, diverged=3)
    trials.loc[0, "value"] = -5.0
    for direction, choose in (("minimize", "idxmin"), ("maximize", "idxmax")):
        axes = drawn(parameters(trials, direction=direction))
        star = next(line for line in axes.lines if line.get_marker() == "*")
        best = trials.loc[getattr(trials.loc[3:, "value"], choose)()]
        assert (star.get_xdata()[0], star.get_ydata()[0]) == (best["step_size"], best["lr"])


@pytest.mark.parametrize("number", [7, 13])
def test_the_star_is_the_trial_that_was_chosen_where_one_is_named(number):
    trials = values.trials(20, diverged=3).sort_values("value").reset_index(drop=True)
    chosen = trials[trials["trial"] == number].iloc[0]
    for draw, up in ((parameters, "lr"), (partial(one_parameter, x="step_size"), "value")):
        axes = drawn(draw(trials, best=number))
        (star,) = (line for line in axes.lines if line.get_marker() == "*")
        assert (star.get_xdata()[0], star.get_ydata()[0]) == (chosen["step_size"], chosen[up])
    axes = drawn(parameters(trials[trials["trial"] != number], best=number))
    assert not any(line.get_marker() == "*" for line in axes.lines)


def test_trials_that_diverged_are_crosses_and_do_not_set_the_colours():
    trials = values.trials(20, diverged=2)
    trials.loc[:1, "value"] = 1e9
    axes = drawn(parameters(trials))
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    assert sorted(crosses.get_ydata()) == sorted(trials["lr"][:2])
    assert plots.colour_scale(trials).vmax < 100


def test_dark_is_good_in_both_directions():
    """The best value has the least brightness."""
    for direction, best in (("minimize", "idxmin"), ("maximize", "idxmax")):
        trials = values.trials(20)
        dots = drawn(parameters(trials, direction=direction, surface=False)).collections[0]
        brightness = dots.to_rgba(trials["value"])[:, :3] @ [0.299, 0.587, 0.114]
        assert brightness.argmin() == getattr(trials["value"], best)()


def test_the_lr_has_a_log_axis_and_whole_numbers_a_linear_one():
    axes = drawn(parameters(values.trials()))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")


def test_a_panel_shows_the_parameters_that_matter_first_and_names_the_others():
    trials = pd.DataFrame(
        {
            "family": ["step"] * 3 + ["constant"] * 3 + ["mine"] * 3 + ["fixed"] * 3,
            "lr": [*range(1, 10), 1, 1, 1],
            "gamma": [0.1, 0.2, 0.3] + 9 * [np.nan],
            "step_size": [1.0, 2.0, 3.0] + 9 * [np.nan],
            "own": 6 * [np.nan] + [1.0, 2.0, 3.0] + 3 * [np.nan],
            "value": 1.0,
        }
    )
    panels = {panel.family: panel for panel in plots.parameter_panels(trials)}
    shown = {name: (panel.x, panel.y, panel.hidden) for name, panel in panels.items()}
    assert shown == {
        "step": ("step_size", "gamma", ("lr",)),
        "constant": ("lr", None, ()),
        "mine": ("own", "lr", ()),
    }


def test_a_narrow_log_axis_has_ticks_too():
    axes = Figure().add_subplot()
    axes.set_xscale("log")
    for limits in ((0.021, 0.034), (0.02, 0.3), (1e-6, 10)):
        axes.set_xlim(limits)
        style.log_ticks(axes.xaxis)
        low, high = limits
        assert 3 <= sum(low <= tick <= high for tick in axes.get_xticks()) <= 9


@pytest.mark.parametrize("limits", [(0.0011, 0.047), (0.00021, 0.00034), (2e-5, 3), (1e-9, 1e9)])
@pytest.mark.parametrize("which", ["x", "y"])
def test_labels_of_a_small_log_axis_do_not_touch(limits, which):
    figure = Figure(figsize=(2.2, 2.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(**{f"{which}scale": "log", f"{which}lim": limits})
    style.log_ticks(axes.xaxis if which == "x" else axes.yaxis)
    assert sum(limits[0] <= tick <= limits[1] for tick in getattr(axes, f"get_{which}ticks")()) >= 2
    assert not clashes(figure)


LONG = "decoder_learning_rate_multiplier"


def long_comparison(**options):
    compared = values.comparison(**options)
    runs = [replace(run, candidate=f"{run.candidate}_{LONG}") for run in compared.runs]
    return plots.comparison_figure(replace(compared, runs=tuple(runs)), LONG)


def families(count, name, **columns):
    """Picture of so many families; `columns` are other names of the parameters."""
    trials = [values.trials(8).assign(family=f"{place}_{name}") for place in range(count)]
    return plots.parameters_figure(pd.concat(trials).rename(columns=columns), LONG, "minimize")


@pytest.mark.parametrize(
    "picture",
    [
        *(partial(long_comparison, **scale) for scale in (HUGE, SMALL, NEGATIVE, {"gap": 0.0})),
        partial(long_comparison, candidates=14, scale=1e-14),
        partial(long_comparison, candidates=3, seeds=1),
        partial(families, 4, LONG, lr=LONG),
        partial(families, 6, "exponential_steps", shape=LONG),
        partial(families, 9, LONG, step_size=f"{LONG}_2", lr=LONG),
        partial(plots.range_test_figure, values.curve(**HUGE), values.curve().suggest()),
        partial(plots.schedules_figure, values.curves(14), "loss"),
    ],
)
@pytest.mark.slow
def test_texts_of_a_picture_neither_overlap_nor_leave_it(picture):
    assert not clashes(picture())


def clashes(figure):
    """Pairs of texts that overlap by more than half a pixel, and texts that leave the figure."""
    plots.png(figure)
    figure.draw_without_rendering()
    boxes = {text: text.get_window_extent() for text in shown_texts(figure)}
    outside = [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
    ]
    return outside + [
        (one.get_text(), other.get_text())
        for (one, a), (other, b) in combinations(boxes.items(), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
    ]


def shown_texts(figure):
    """Texts of a figure that was drawn, without tick labels beyond the limits of their axis."""
    ticks = {}
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            inside = low <= tick.get_loc() <= high
            ticks |= {tick.label1: inside, tick.label2: inside}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [text for text in texts if ticks.get(text, True)]


@pytest.mark.parametrize("families", [1, 4, 9])
def test_every_family_has_its_panel(families):
    frames = [values.trials(6).assign(family=f"family_{place}") for place in range(families)]
    figure = plots.parameters_figure(pd.concat(frames), "valid_loss", "minimize")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title] == [f"family_{k}" for k in range(families)]


def test_pictures_are_reached_from_the_package_without_loading_them_first():
    code = """
import sys, lrfinder
assert "matplotlib" not in sys.modules
assert callable(lrfinder.plots.range_test)
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
