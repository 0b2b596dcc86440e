"""Pictures from finished values: each function draws on an Axes and returns nothing.

    range_test        loss against a growing lr, with the suggestion and where seeds diverged
    comparison        candidates on fresh seeds: means, intervals, seeds, ties
    schedule_curves   lr and measure over epochs
    parameter_map     trials of a family at two of its parameters; parameter_values at one

They never show, save, style globally or compute; remove a picture and no number is lost. `figures`
puts them on paper for the run folder. This is the only package that imports matplotlib.

    figure, axes = plt.subplots()
    lrfinder.plots.range_test(axes, curve, curve.suggest())
"""

from lrfinder.plots.comparisons import comparison
from lrfinder.plots.figures import (
    comparison_figure,
    figures,
    parameters_figure,
    png,
    range_test_figure,
    save_range_test,
    save_trial,
    schedules_figure,
)
from lrfinder.plots.panels import ParameterPanel, parameter_panels
from lrfinder.plots.parameters import colour_scale, parameter_map, parameter_values
from lrfinder.plots.range_tests import range_test
from lrfinder.plots.schedules import schedule_curves

__all__ = [
    "ParameterPanel",
    "colour_scale",
    "comparison",
    "comparison_figure",
    "figures",
    "parameter_map",
    "parameter_panels",
    "parameter_values",
    "parameters_figure",
    "png",
    "range_test",
    "range_test_figure",
    "save_range_test",
    "save_trial",
    "schedule_curves",
    "schedules_figure",
]
