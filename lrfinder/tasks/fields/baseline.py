"""What a task uses today: an lr, with or without a schedule."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, SupportsFloat, cast, get_args

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lrfinder.checks import check_lr, one_of
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import FAMILIES, Budget, Family, Params, Schedule
from lrfinder.schedules.families.family import Trial
from lrfinder.schedules.recipe import Recipe
from lrfinder.schedules.spec import FORM, read_parts, schedule_of_training
from lrfinder.tasks.user_code import user_code
from lrfinder.types import CodeKind, Per

STEPS_ASKED = 1000
"""Updates of an epoch whose length is not known yet, as a function of their number is asked."""
NAME = "baseline"
"""Name of the candidate, and of the family of a scheduler that only the baseline has."""
_MOST_ASKED = 100_000
"""Updates for which a function of their number is asked beforehand."""


@dataclass(frozen=True)
class Baseline:
    """The learning rate and the schedule that a task uses today."""

    lr: float
    schedule: Schedule | None = None
    """None: a constant learning rate.

    A function that builds a scheduler on an optimizer, as in ``lambda optimizer: StepLR(optimizer,
    30)``, becomes a Schedule.
    """
    per: Per | None = None
    """How often such a scheduler is stepped, "epoch" or "batch"; None as the task's schedules are.
    """
    watch: str | None = None
    """The measure that such a ReduceLROnPlateau follows, "valid_loss" or a metric, in either mode.

    None: the one that a run optimises.
    """

    def __post_init__(self) -> None:
        if isinstance(self.lr, bool) or not isinstance(self.lr, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument(f"baseline: lr must be a number, but got {self.lr!r}")
        check_lr("baseline: lr", self.lr)
        if self.per is not None:
            one_of("epoch", "batch").check("baseline: per", self.per)
        if self.schedule is not None and not self._is_own:
            schedule = _as_schedule(self.schedule, self.per, self.watch)
            object.__setattr__(self, "schedule", schedule)

    @property
    def _is_own(self) -> bool:
        """Whether its schedule was made of a function before."""
        return isinstance(self.schedule, Schedule) and self.schedule.family.name == NAME

    def stepped(self, per: Per) -> "Baseline":
        """The baseline with a scheduler of its own stepped so, where it does not say how often."""
        if self.schedule is None or not self._is_own or self.per is not None:
            return self
        return replace(self, schedule=replace(self.schedule, per=per), per=per)

    @property
    def recipe(self) -> Recipe:
        """The lr and the schedule, a constant one where none is given."""
        return Recipe(self.lr, self.schedule or Schedule(FAMILIES["constant"]))


def of_scheduler(lr: float, factory: Callable[[Optimizer], Any], per: Per) -> Baseline:
    """The baseline whose scheduler a function builds on an optimizer."""
    return Baseline(lr, _as_schedule(factory, per, None), per)


def as_baseline(given: Any, per: Per, updates: int, families: Mapping[str, Family]) -> Baseline:  # noqa: ANN401 (whatever was given)
    """A Baseline, or one made of what stands for it.

    A number, a pair (lr, schedule), a text as of `read_baseline`, or a function get_lr(it) of the
    update's number. Args: `per`, how often a scheduler is stepped where the baseline does not say
    it; `updates`, how long get_lr is asked for its largest lr.

    Raises InvalidArgument for anything else.
    """
    if isinstance(given, Baseline):
        return given.stepped(per)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Baseline(given)
    if isinstance(given, str):
        return read_baseline(given, per, families)
    if isinstance(given, tuple) and len(cast("tuple[Any, ...]", given)) == 2:
        return Baseline(*cast("tuple[Any, Any]", given)).stepped(per)
    if callable(given) and _gives_numbers(given):
        return _of_function(cast("Callable[[int], float]", given), updates)
    kind = "function that gives no lr at update 0" if callable(given) else type(given).__name__
    raise InvalidArgument(
        "baseline must be a learning rate, a pair (lr, lambda optimizer: scheduler), a function "
        f"get_lr(it) or a Baseline, but got a {kind}; write Baseline(lr, schedule)"
    )


def code_kind(asked: CodeKind | None, baseline: object) -> CodeKind:
    """What code is written for, where nothing is asked for: a function where one is in use today.

    Raises InvalidArgument for a kind that there is none of.
    """
    if asked is not None:
        one_of(*get_args(CodeKind)).check("code_for", asked)
        return asked
    return "function" if callable(baseline) else "torch"


def read_baseline(
    text: str,
    per: Per,
    schedules: Mapping[str, Family],
    length: tuple[int, int] | None = None,
) -> Baseline:
    """Read "0.1" or "0.1,step,step_size=30,gamma=0.1", of the usual families or these.

    What a schedule leaves out is usual for a training of this length, its epochs and the updates of
    one; without a length nothing may be left out.

    Raises InvalidArgument where that is something else.
    """
    lr, _, schedule = text.partition(",")
    try:
        number = float(lr)
    except ValueError as error:
        raise InvalidArgument(
            f"baseline must look like 0.1 or 0.1,{FORM}, but got {text!r}"
        ) from error
    if not schedule:
        return Baseline(number)
    if length is None:
        return Baseline(number, Schedule(*read_parts(schedule, schedules), per))
    of_length = dict(zip(("epochs", "updates_per_epoch"), length, strict=True))
    return Baseline(number, schedule_of_training(schedule, **of_length, per=per, custom=schedules))


def _as_schedule(given: Any, per: Per | None, watch: str | None) -> Schedule:  # noqa: ANN401 (whatever was given)
    if isinstance(given, Schedule):
        if per is not None or watch is not None:
            raise InvalidArgument(
                "baseline: per and watch go with a function that builds a scheduler, but got a "
                "Schedule; say per in it, and leave watch out"
            )
        return given
    if isinstance(given, Family | LRScheduler) or not callable(given):
        raise InvalidArgument(
            "baseline: schedule must be a Schedule or a function that builds a scheduler on an "
            f"optimizer, but got a {type(given).__name__}; "
            "write lambda optimizer: StepLR(optimizer, 30)"
        )
    factory = cast("Callable[[Optimizer], LRScheduler]", given)
    kind = _kind(factory)
    by_measure = kind is not None and issubclass(kind, ReduceLROnPlateau)
    if watch is not None and kind is not None and not by_measure:
        raise InvalidArgument(
            "baseline: watch names the measure that ReduceLROnPlateau is stepped by, but got a "
            f"{kind.__name__}; leave it out"
        )
    label = "own scheduler" if kind is None else f"own {kind.__name__}"
    own = _own_family(factory, label, by_measure=by_measure, watch=watch)
    return Schedule(own, per=per or "epoch")


def _own_family(
    factory: Callable[[Optimizer], LRScheduler],
    label: str,
    *,
    by_measure: bool = False,
    watch: str | None = None,
) -> Family:
    def build(optimizer: Optimizer, _: Params) -> LRScheduler:
        return factory(optimizer)

    return Family(
        name=NAME,
        build=build,
        space=_not_searched,
        code=lambda _: "task.baseline.schedule.family.build(optimizer, {})",
        params={},
        label=label,
        by_measure=by_measure,
        watch=watch,
    )


def _gives_numbers(given: Callable[..., Any]) -> bool:
    """Whether a function takes the number of an update and returns a number."""
    try:
        value = given(0)
    except Exception:  # perhaps it wants an optimizer
        return False
    return isinstance(value, SupportsFloat) and not isinstance(value, bool | str)


def _of_function(get_lr: Callable[[int], float], updates: int) -> Baseline:
    """The lr that a function gives for each update, as a share of its largest one."""
    with user_code("asking the baseline for its learning rates"):
        lrs = [float(get_lr(it)) for it in range(min(updates, _MOST_ASKED))]
    peak = max(lrs, key=lambda lr: (math.isnan(lr), lr))  # nan is refused, wherever it stands

    def factory(optimizer: Optimizer) -> LRScheduler:
        return LambdaLR(optimizer, lambda it: float(get_lr(it)) / peak)

    name = getattr(get_lr, "__name__", "function")
    own = _own_family(factory, f"own {'function' if name == '<lambda>' else name}")
    return Baseline(peak, Schedule(own, per="batch"), per="batch")


def _kind(factory: Callable[[Optimizer], object]) -> type | None:
    """What the function builds; None where it refuses a plain optimizer, or has a fault."""
    try:
        built = factory(torch.optim.SGD([torch.zeros(1)], 0.1, momentum=0.9))
    except Exception:  # it is told where the schedule is started on the task's own optimizer
        return None
    return type(built)


def _not_searched(_trial: Trial, _budget: Budget) -> Params:
    return {}
