"""Growing learning rates, for the range test."""

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.checks import COUNT, POSITIVE
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families.codegen import Factor, lambda_builder, lambda_writer
from lrfinder.schedules.families.family import Budget, Family, Trial


class _Table(LRScheduler):
    """Learning rates read off a table float64[steps, groups]; its last row stays."""

    def __init__(self, optimizer: Optimizer, rows: NDArray[np.float64]) -> None:
        self._rows = rows
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        return list(self._rows[min(self.last_epoch, len(self._rows) - 1)].tolist())


def _exponential_growth(factor: float, steps: int) -> Factor:
    return lambda t: factor ** (min(t, steps - 1) / max(1, steps - 1))


def _exponential_growth_code(factor: float, steps: int) -> str:
    return f"{factor!r} ** (min(t, {steps - 1}) / {max(1, steps - 1)})"


def _linear_growth(factor: float, steps: int) -> Factor:
    return lambda t: 1 + (factor - 1) * (min(t, steps - 1) / max(1, steps - 1))


def _linear_growth_code(factor: float, steps: int) -> str:
    return f"1 + ({factor!r} - 1) * (min(t, {steps - 1}) / {max(1, steps - 1)})"


def _not_searched(_trial: Trial, _budget: Budget) -> NoReturn:
    raise InvalidArgument("a growth belongs to the range test and is not searched; choose a decay")


EXPONENTIAL_GROWTH = Family(
    name="exponential_growth",
    params={"factor": POSITIVE, "steps": COUNT},
    build=lambda_builder(_exponential_growth),
    code=lambda_writer(_exponential_growth_code),
    space=_not_searched,
    formula="lr(t) = lr0 * factor**(t / (steps - 1)); constant from t = steps - 1 on",
    source="Smith 2017, arXiv 1506.01186; exponential as in fast.ai's lr_find",
)
LINEAR_GROWTH = Family(
    name="linear_growth",
    params={"factor": POSITIVE, "steps": COUNT},
    build=lambda_builder(_linear_growth),
    code=lambda_writer(_linear_growth_code),
    space=_not_searched,
    formula="lr(t) = lr0 * (1 + (factor - 1) * t / (steps - 1)); constant from t = steps - 1 on",
    source="Smith 2017, arXiv 1506.01186",
)


def tabulated(name: str, rows: NDArray[np.float64]) -> Family:
    """A family whose learning rates are the rows of a table, float64[steps, groups]."""
    return Family(name, lambda optimizer, _: _Table(optimizer, rows), _not_searched, params={})
