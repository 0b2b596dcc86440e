"""Which initial learning rate, and which decay? Range tests and decay studies for PyTorch.

>>> import lrfinder
>>> task = lrfinder.load_task("quadratic")
>>> curve = lrfinder.range_test(task, seeds=2)
>>> curve.suggest().verdict
'suggested'

The rooms, each of which knows only those below it:

    cli                        the command: its arguments, what it prints, the process around it
    commands                   what can be asked for, on the command line and in Python
    pipeline                   the three acts in order, and what passes between them
    lightning                  a callback for Lightning, imported by its users alone
    report                     tell: sentences, report.md, notebook, dashboard, training script
    plots                      draw: on Axes
    results                    keep: the run folder and its typed summary
    workers                    processes elsewhere that train for a run, by its storage
    experiment, settings       task and options, resolved and checked before anything is trained
    comparison                 act 3: candidates on fresh seeds
    tuning                     act 2: an Optuna study per decay family
    range_tests                act 1: growing and constant lrs, and the lr that they suggest
    training                   the one idea: a population of runs under a table of learning rates
    tasks                      what is trained
    schedules                  how a learning rate goes
    errors, checks, types, paths, arrays, statistics

A room of many files has rooms of its own, of which its docstring has the map.

The words:

    run          one call of `lrfinder run`, and its folder; also one training in a population
    training     a model trained to its end, or what is done to it on the way
    recipe       a peak learning rate and a schedule
    plan         a recipe and a seed: what one training does
    trial        a recipe that a study tries, trained once per training seed
    study        Optuna's: the trials of one decay family
    candidate    a recipe with a name, compared on fresh seeds
    start        the candidate without a search: the suggested lr under the default cosine
    look         a part of a comparison: candidates on the same further seeds, then who goes on
    finalist     a candidate that no look has dropped
    sweep        a training whose learning rate grows; also the command without a range test
    probe        a short training at a constant learning rate, after a sweep
    seeds        training seeds; an option that ends in `seeds` is how many of them
    step         one learning rate of a sweep; an update is one optimizer step, an epoch one pass
    measure      what is evaluated: the loss and the metrics

Public are the names of `lrfinder.__all__`, `lrfinder.plots.__all__` and
`lrfinder.schedules.__all__`, `lrfinder.lightning.LearningRateFinder`, the commands, and the files
of a run folder. Everything else may change in any release; a public name goes only after one
release in which it warns.

Names are loaded when they are first used, so that importing the package is cheap.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

try:
    __version__ = version("lrfinder")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "unknown"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# Values show themselves in a notebook by `html`, which is no name for users.
__all__ = [name for name in __all__ if name != "html"]  # pyright: ignore[reportUnsupportedDunderAll]
