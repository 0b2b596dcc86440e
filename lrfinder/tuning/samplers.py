"""Which sampler a family is searched with."""

import warnings
from collections.abc import Callable

import optuna

from lrfinder.tuning.space import Space

MakeSampler = Callable[[Space, int, int], optuna.samplers.BaseSampler]
"""Return a family's sampler, from its space, the trials to draw at random first, and a seed."""


def sampler_for(space: Space, startup: int, seed: int) -> optuna.samplers.BaseSampler:
    """Gaussian process for a fixed space; TPE where ranges or parameters depend on others.

    The Gaussian process would draw such parameters at random.
    """
    if space.family.conditional:
        return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(
            seed=seed % 2**32, n_startup_trials=startup, warn_independent_sampling=False
        )
