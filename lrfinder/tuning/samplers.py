"""Which sampler a family is searched with."""

from collections.abc import Callable

import optuna

from lrfinder.tuning.space import Space

MakeSampler = Callable[[Space, int, int], optuna.samplers.BaseSampler]
"""Return a family's sampler, from its space, the trials to draw at random first, and a seed."""


def sampler_for(space: Space, startup: int, seed: int) -> optuna.samplers.BaseSampler:
    """Return TPE, Optuna's default.

    Its Gaussian process finds no better schedules within the spread, and takes 30 to 80 ms a trial
    for 1 to 2: see studies/sampler.md.
    """
    return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup)
