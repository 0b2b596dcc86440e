"""A schedule: a decay family, its parameters, and a warm-up before it.

It makes learning rates (`Schedule.start`), and PyTorch code that makes the same ones:

>>> from lrfinder.schedules import Schedule, family
>>> print(Schedule(family("exponential"), {"gamma": 0.9}, warmup=2).code())
decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 3, total_iters=2)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[2])
# after every epoch: scheduler.step()
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import SGD, Optimizer

from lrfinder.arrays import Floats
from lrfinder.checks import COUNT, check_is, one_of, whole
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import lint
from lrfinder.schedules.families.codegen import call, variable_name, written
from lrfinder.schedules.families.family import Family, GroupRule, Params
from lrfinder.schedules.families.recognised import Part, parts_of, recognised
from lrfinder.schedules.live import LiveSchedule
from lrfinder.types import Per, Value

_MOST_STEPS = 20_000
"""Of a training whose every lr is looked at for what is wrong with its schedule."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate of a run goes, whatever lr it starts from.

    >>> from lrfinder.schedules import family
    >>> schedule = Schedule(family("step"), {"step_size": 2, "gamma": 0.1}, warmup=1)
    >>> print(schedule)
    warmup 1 + StepLR(step_size=2, gamma=0.1)
    >>> schedule.rows([0.4], steps=5).round(6).ravel().tolist()
    [0.2, 0.4, 0.4, 0.04, 0.04]
    """

    family: Family
    params: Params = field(default_factory=dict[str, Value])
    """Every parameter that the family's `build` needs; kept as a read-only copy."""
    per: Per = "epoch"
    """How often the scheduler is stepped; a family that is stepped by measure: always per epoch."""
    warmup: int = 0
    """Scheduler steps of linear warm-up before the family's own step 0."""

    def __post_init__(self) -> None:
        check_is("family", self.family, Family, 'lrfinder.FAMILIES["cosine"]')
        one_of("epoch", "batch").check("per", self.per)
        whole(0).check("warmup", self.warmup)
        given = self.params if self.family.kept is None else self.family.kept(self.params)
        params = {name: _plain(name, value) for name, value in given.items()}
        _check_params(self.family, params)
        object.__setattr__(self, "params", MappingProxyType(params))
        if self.warmup and not self.family.warmup:
            raise InvalidArgument(
                f"{self.family.name} rises by itself and takes no warm-up, "
                f"but got warmup={self.warmup}; leave the warm-up out"
            )

    def __hash__(self) -> int:
        return hash((self.family, frozenset(self.params.items()), self.per, self.warmup))

    def __reduce__(self) -> tuple[Callable[..., "Schedule"], tuple[Any, ...]]:
        return Schedule, (self.family, dict(self.params), self.per, self.warmup)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={_short(value)}" for name, value in self.params.items())
        if self.by_group:
            arguments = ", ".join(map(self._written_group, self.by_group))
        warmup = f"warmup {self.warmup} + " if self.warmup else ""
        return f"{warmup}{self.family.label or self.family.name}({arguments})"

    @property
    def by_group(self) -> "dict[str, Schedule]":
        """The schedule of each parameter group, where they have their own; else nothing."""
        return {
            group: Schedule(rule.family, rule.params, self.per, self.warmup)
            for group, rule in self._rules.items()
        }

    @property
    def _rules(self) -> Mapping[str, GroupRule]:
        return {} if self.family.by_group is None else self.family.by_group(self.params)

    def _written_group(self, group: str) -> str:
        rule = self._rules[group]
        ratio = "" if rule.lr_ratio in (None, 1) else f" at {rule.lr_ratio:.4g} times the lr"
        return f"{group}: {Schedule(rule.family, rule.params)}{ratio}"

    @property
    def stepped_per(self) -> Per:
        """How often the scheduler is really stepped."""
        return "epoch" if self.family.by_measure else self.per

    @property
    def step_code(self) -> str:
        """The statement that steps the scheduler of `code` by the measure `valid_loss`."""
        return self.steps_by("valid_loss")

    def steps_by(self, measure: str) -> str:
        """The statement that steps the scheduler of `code`, after every epoch or optimizer step.

        Where the family is stepped by measure it reads a variable of this name, and `epoch` (from
        0) if there is a warm-up, or of the name of the measure that the family watches.
        InvalidArgument where Python has no variable of this name.
        """
        if not measure.isidentifier() or iskeyword(measure):
            raise InvalidArgument(f"measure must be the name of a variable, but got {measure!r}")
        if not self.family.by_measure:
            return "scheduler.step()"
        watched = self.family.watch
        stepped = f"scheduler.step({measure if watched is None else variable_name(watched)})"
        return f"warmup.step() if epoch < {self.warmup} else {stepped}" if self.warmup else stepped

    def start(self, lrs: Sequence[float] | Optimizer) -> LiveSchedule:
        """The schedule at its first row, for parameter groups with these peak learning rates.

        An optimizer may be given in place of the lrs of its groups: a scheduler may read its class,
        its defaults and the options of its groups. It is not touched.
        """
        return LiveSchedule(self.family, self.params, lrs, per=self.stepped_per, warmup=self.warmup)

    def rows(self, lrs: Sequence[float] | Optimizer, steps: int) -> NDArray[np.float64]:
        """Learning rates at the first scheduler steps, warm-up included: float64[steps, groups].

        `lrs` is that of `start`.
        """
        COUNT.check("steps", steps)
        if self.family.by_measure:
            raise InvalidArgument(
                f"rows must come from a schedule that is known ahead, but got {self.family.name}, "
                "which follows the measure; use start() and epoch()"
            )
        return replace(self, per="batch").start(lrs).epoch(steps)

    def problems(
        self,
        epochs: int,
        updates_per_epoch: int | None = None,
        lr: float = 1.0,
        *,
        remarks: bool = False,
    ) -> list[str]:
        """What is probably wrong with it for a training of so many epochs, a sentence each.

        A schedule that is stepped per batch needs `updates_per_epoch`; else it helps to tell
        epochs from updates. `lr` is the peak, for what is no share of it. With `remarks`, also what
        need not be wrong.

        >>> from lrfinder.schedules import family
        >>> Schedule(family("cosine"), {"T_max": 10, "eta_min": 0.0}).problems(epochs=20)[0][:46]
        'after 10 of the 20 epochs the cosine climbs ba'
        """
        COUNT.check("epochs", epochs)
        if updates_per_epoch is not None or self.stepped_per == "batch":
            COUNT.check("updates_per_epoch", updates_per_epoch or 0)
        if self.by_group:
            return [
                f"group {group}: {said}"
                for group, own in self.by_group.items()
                for said in own.problems(
                    epochs, updates_per_epoch, lr * self._rules[group].peak, remarks=remarks
                )
            ]
        seen, parts = self._seen(epochs, updates_per_epoch, lr)
        found = lint.problems(seen, parts)
        return found + lint.remarks(seen) if remarks and not found else found

    def _seen(
        self, epochs: int, updates_per_epoch: int | None, lr: float
    ) -> tuple[lint.Seen, list[Part]]:
        name, params, parts = self.family.name, self.params, list[Part]()
        if name not in lint.KNOWN:
            with suppress(Exception):  # what a user's own code raises is told where it is trained
                optimizer = SGD([torch.zeros(1)], lr, momentum=0.9)
                built = self.family.build(optimizer, self.params)
                name, params = recognised(self.family, self.params, built)
                parts = parts_of(built)

        def lrs(changed: Params) -> Floats | None:
            own = changed if self.family.name in lint.KNOWN else self.params
            with suppress(Exception):
                schedule = replace(self, params=own)
                if not self.family.by_measure and seen.total <= _MOST_STEPS:
                    return schedule.rows([lr], seen.total)[:, 0]
            return None

        seen = lint.Seen(
            name=name,
            params=params,
            per=self.stepped_per,
            warmup=self.warmup,
            epochs=epochs,
            updates_per_epoch=updates_per_epoch,
            lrs=lrs,
        )
        return seen, parts

    def code(self, measure: str = "valid_loss") -> str:
        """Statements that define `scheduler` for an existing `optimizer`; they need only torch.

        The comment at their end says where ``steps_by(measure)`` belongs. A user's own family
        without `code` is built through the variable `task`.
        """
        moment = "epoch" if self.stepped_per == "epoch" else "optimizer.step()"
        stepped = self.steps_by(measure)
        return "\n".join([*self._definitions(), f"# after every {moment}: {stepped}"])

    def _definitions(self) -> list[str]:
        decay, length = _expression(self.family, self.params), self.warmup
        before = "" if self.family.before is None else self.family.before(self.params)
        return [*filter(None, [before]), *self._statements(decay, length)]

    def _statements(self, decay: str, length: int) -> list[str]:
        if not length:
            return [f"scheduler = {decay}"]
        ramp = call("LinearLR", f"start_factor=1 / {length + 1}", f"total_iters={length}")
        if self.family.by_measure:
            return [f"scheduler = {decay}", f"warmup = {ramp}"]
        joined = call("SequentialLR", "[warmup, decay]", f"milestones=[{length}]")
        return [f"decay = {decay}", f"warmup = {ramp}", f"scheduler = {joined}"]


def _expression(family: Family, params: Params) -> str:
    if family.code is not None:
        return family.code(params)
    pairs = ", ".join(f"{written(name)}: {written(value)}" for name, value in params.items())
    return f"task.schedules[{written(family.name)}].build(optimizer, {{{pairs}}})"


def _plain(name: str, value: Value) -> Value:
    """The value as Python's own int, float, bool or str, whose repr can be pasted."""
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) not in (int, float, bool, str):
        raise InvalidArgument(f"{name} must be an int, float, bool or str, but got {value!r}")
    return plain


def _check_params(family: Family, params: Mapping[str, Value]) -> None:
    if family.params is None:
        return
    if params.keys() != family.params.keys():
        raise InvalidArgument(
            f"{family.name} takes {_listed(family.params)}, but got {_listed(params)}"
        )
    for name, value in params.items():
        family.params[name].check(f"{name} of {family.name}", value)


def _listed(names: Mapping[str, object]) -> str:
    return f"the parameters {', '.join(names)}" if names else "no parameters"


def _short(value: Value) -> str:
    if isinstance(value, str) and value.replace("+", "").isdecimal():
        return value  # milestones
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
