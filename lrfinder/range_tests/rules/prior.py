"""A suggested learning rate as a prior, for searches outside of lrfinder."""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self

from lrfinder.checks import check_lr
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families.family import Trial

_MIDDLE_90 = 1.6448536269514722
"""Deviations of a normal distribution on either side of its mean that hold 90% of it."""
_SPAN = 2.0
"""Deviations of log lr at which the prior is cut on either side: 95% of it are inside."""


@dataclass(frozen=True)
class Prior:
    """A log-normal distribution of the learning rate, cut at `low` and `high`.

    Raises InvalidArgument for a `sigma` that is not positive, or bounds that are not.
    """

    mu: float
    """Mean of the natural logarithm of the lr."""
    sigma: float
    """Deviation of the natural logarithm of the lr."""
    low: float
    high: float
    """Least and largest learning rate."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mu) and 0 < self.sigma < math.inf):
            raise InvalidArgument(
                f"sigma must be positive and finite, but got {self.sigma} with mu={self.mu}"
            )
        check_lr("low", self.low)
        check_lr("high", self.high)
        if not self.low < self.high:
            raise InvalidArgument(
                f"low < high must hold, but got (low={self.low}, high={self.high})"
            )

    @classmethod
    def around(cls, lr: float, low: float, high: float) -> Self:
        """The prior of an lr whose 90% interval is low to high; an empty interval is widened.

        >>> Prior.around(0.1, 0.02, 0.5)  # doctest: +ELLIPSIS
        Prior(mu=-2.30..., sigma=0.97..., low=0.014..., high=0.7...)
        """
        sigma = max(math.log(high / low) / (2 * _MIDDLE_90), 0.05)
        mu = math.log(lr)
        return cls(mu, sigma, math.exp(mu - _SPAN * sigma), math.exp(mu + _SPAN * sigma))

    def suggest(self, trial: Trial, name: str = "lr") -> float:
        """Ask an Optuna trial for the lr, on a log scale between the bounds.

        Optuna's samplers have no normal prior: they begin evenly and learn the rest.
        """
        return trial.suggest_float(name, self.low, self.high, log=True)

    def wandb(self) -> dict[str, Any]:
        """The entry of the lr among the parameters of a Weights & Biases sweep: log-normal."""
        return {"distribution": "log_normal", "mu": self.mu, "sigma": self.sigma}

    def ray(self) -> Any:  # noqa: ANN401 (a domain of Ray Tune)
        """The entry of the lr in the parameter space of Ray Tune, on a log scale.

        Raises InvalidArgument where Ray is not installed.
        """
        try:
            tune: Any = import_module("ray.tune")
        except ImportError as error:
            raise InvalidArgument(
                "a search space for Ray needs ray[tune], which is not installed; "
                "pip install 'ray[tune]'"
            ) from error
        return tune.loguniform(self.low, self.high)
