"""Pictures from finished values: each function draws on an Axes and returns nothing.

    range_test        loss against a growing lr, with the suggestion and where seeds diverged
    comparison        candidates on fresh seeds: means, intervals, seeds, ties
    schedule_curves   lr and measure over epochs
    parameter_map     trials of a family at two of its parameters; parameter_values at one

They never show, save, style globally or compute; remove a picture and no number is lost. `figures`
puts them on paper for the run folder. This is the only package that imports matplotlib, when
one of its names is first used.

    figure, axes = plt.subplots()
    lrfinder.plots.range_test(axes, curve, curve.suggest())
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
