"""What a task uses today: an lr, with or without a schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lrfinder.checks import check_lr
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import FAMILIES, Budget, Family, Params, Schedule
from lrfinder.schedules.family import Trial
from lrfinder.schedules.recipe import Recipe
from lrfinder.types import Per

NAME = "baseline"
"""Name of the candidate, and of the family of a scheduler that only the baseline has."""


@dataclass(frozen=True)
class Baseline:
    """The learning rate and the schedule that a task uses today."""

    lr: float
    schedule: Schedule | None = None
    """None: a constant learning rate.

    A function that builds a scheduler on an optimizer, as in ``lambda optimizer: StepLR(optimizer,
    30)``, becomes a Schedule that is stepped after every epoch.
    """

    def __post_init__(self) -> None:
        if isinstance(self.lr, bool) or not isinstance(self.lr, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument(f"baseline: lr must be a number, but got {self.lr!r}")
        check_lr("baseline: lr", self.lr)
        if self.schedule is not None:
            object.__setattr__(self, "schedule", _as_schedule(self.schedule))

    @property
    def recipe(self) -> Recipe:
        """The lr and the schedule, a constant one where none is given."""
        return Recipe(self.lr, self.schedule or Schedule(FAMILIES["constant"]))


def as_baseline(given: Any) -> Baseline | None:  # noqa: ANN401 (whatever was given)
    """A Baseline, or one made of a number: a constant lr. InvalidArgument for anything else."""
    if given is None or isinstance(given, Baseline):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Baseline(given)
    raise InvalidArgument(
        f"baseline must be a Baseline or a learning rate, but got a {type(given).__name__}; "
        "write Baseline(lr, schedule)"
    )


def _as_schedule(given: Any) -> Schedule:  # noqa: ANN401 (whatever was given)
    if isinstance(given, Schedule):
        return given
    if isinstance(given, Family | LRScheduler) or not callable(given):
        raise InvalidArgument(
            "baseline: schedule must be a Schedule or a function that builds a scheduler on an "
            f"optimizer, but got a {type(given).__name__}; "
            "write lambda optimizer: StepLR(optimizer, 30)"
        )
    return own_schedule(cast("Callable[[Optimizer], LRScheduler]", given))


def own_schedule(factory: Callable[[Optimizer], LRScheduler], per: Per = "epoch") -> Schedule:
    """The schedule of a scheduler that only the baseline has."""
    return Schedule(_own_family(factory), per=per)


def _own_family(factory: Callable[[Optimizer], LRScheduler]) -> Family:
    def build(optimizer: Optimizer, _: Params) -> LRScheduler:
        return factory(optimizer)

    kind = _kind(factory)
    return Family(
        name=NAME,
        build=build,
        space=_not_searched,
        code=lambda _: "task.baseline.schedule.family.build(optimizer, {})",
        params={},
        label=f"own {'scheduler' if kind is None else kind.__name__}",
        by_measure=kind is not None and issubclass(kind, ReduceLROnPlateau),
    )


def _kind(factory: Callable[[Optimizer], object]) -> type | None:
    """What the function builds; None where it refuses a plain optimizer, or has a fault."""
    try:
        built = factory(torch.optim.SGD([torch.zeros(1)], 0.1, momentum=0.9))
    except Exception:  # it is told where the schedule is started on the task's own optimizer
        return None
    return type(built)


def _not_searched(_trial: Trial, _budget: Budget) -> Params:
    return {}
