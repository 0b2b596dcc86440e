"""A schedule as people write it in one line: ``cosine`` or ``step,step_size=30,gamma=0.1``.

The first word is a family, or torch's name of it; parameters follow, each as ``name=value``. What
is left out takes the family's default for the training that the schedule is for. A call of a torch
scheduler, as it stands in a program, is read too.

>>> print(read_schedule("cosine", Budget(steps=20, steps_per_epoch=1, lowest_lr=1.0)))
CosineAnnealingLR(T_max=20, eta_min=0)
"""

import re
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from torch.optim import lr_scheduler

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families.family import Budget, Family, Params
from lrfinder.schedules.families.registry import DEFAULT_FAMILIES, family
from lrfinder.schedules.schedule import Schedule
from lrfinder.types import Per, Value

FORM = "step,step_size=30,gamma=0.1"
"""What a specification looks like."""


def read_schedule(
    text: str,
    budget: Budget,
    *,
    per: Per = "epoch",
    warmup: int = 0,
    custom: Mapping[str, Family] | None = None,
) -> Schedule:
    """Read a schedule for a budget, warm-up taken off; `custom` adds families of the user's own.

    `warmup` counts scheduler steps. Raises InvalidArgument for a family, a parameter or a value
    that there is not.
    """
    kind, given = read_parts(text, custom)
    return Schedule(kind, filled(kind, given, budget), per, warmup)


def schedule_of_training(
    text: str,
    *,
    epochs: int,
    updates_per_epoch: int,
    per: Per = "epoch",
    warmup: float = 0.0,
    custom: Mapping[str, Family] | None = None,
) -> Schedule:
    """Read a schedule for a training of so many epochs; `warmup` counts epochs.

    >>> print(schedule_of_training("cosine", epochs=20, updates_per_epoch=5, warmup=2))
    warmup 2 + CosineAnnealingLR(T_max=18, eta_min=0)
    """
    kind, _ = read_parts(text, custom)
    per_epoch = 1 if per == "epoch" or kind.by_measure else updates_per_epoch
    steps = warmup_steps(warmup, epochs, per_epoch)
    budget = Budget(epochs * per_epoch - steps, per_epoch, lowest_lr=1.0)
    return read_schedule(text, budget, per=per, warmup=steps, custom=custom)


def warmup_steps(warmup: float, epochs: int, per_epoch: int) -> int:
    """Scheduler steps of a warm-up of so many epochs; at least one where there is any."""
    if not 0 <= warmup < epochs:
        raise InvalidArgument(
            f"warmup must be at least 0 and less than the {epochs} epochs, but got {warmup:g}"
        )
    return max(1, round(warmup * per_epoch)) if warmup > 0 else 0


def read_parts(text: str, custom: Mapping[str, Family] | None = None) -> tuple[Family, Params]:
    """The family and the parameters that a text names.

    >>> read_parts("multistep,milestones=30+60,gamma=0.1")[1]
    {'milestones': '30+60', 'gamma': 0.1}
    >>> read_parts("MultiStepLR(optimizer, milestones=[30, 60], gamma=0.1)")[1]
    {'milestones': '30+60', 'gamma': 0.1}
    >>> read_parts("MultiStepLR(optimizer, [30, 60], 0.1)")[1]
    {'milestones': '30+60', 'gamma': 0.1}
    """
    name, *rest = (part.strip() for part in _in_one_line(text).split(","))
    params: dict[str, Value] = {}
    for part in rest:
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (key and equals and value):
            raise InvalidArgument(f"a schedule must look like {FORM}, but got {text!r}")
        if key in params:
            raise InvalidArgument(f"{key} must be given once, but got {text!r}")
        params[key] = _value(value)
    return family(name, custom), params


def _in_one_line(text: str) -> str:
    """A call of a scheduler as a specification: its arguments but for the optimizer."""
    if any(text.count(a) != text.count(b) for a, b in ("()", "[]")):
        raise InvalidArgument(f"the brackets of a schedule must match, but got {text!r}")
    call = re.fullmatch(r"\s*(?:\w+\.)*(\w+)\((.*)\)\s*", text, re.DOTALL)
    if call is None:
        return text
    listed = re.sub(
        r"\[([^]]*)\]", lambda m: "+".join(part.strip() for part in m[1].split(",")), call[2]
    )
    arguments = [part for part in map(str.strip, listed.split(",")) if part]
    if arguments and re.fullmatch(r"[A-Za-z_][\w.]*", arguments[0]):
        del arguments[0]  # the optimizer
    names = _in_order(call[1])
    named = [
        f"{names[place]}={part}" if "=" not in part and place < len(names) else part
        for place, part in enumerate(arguments)
    ]
    return ",".join([call[1], *named])


def _in_order(scheduler: str) -> list[str]:
    """Names of what a scheduler of torch takes after its optimizer, in the order of its call."""
    kind = getattr(lr_scheduler, scheduler, None)
    return list(signature(kind).parameters)[1:] if isinstance(kind, type) else []


def filled(kind: Family, given: Params, budget: Budget) -> Params:
    """The parameters given, and the family's defaults for the budget in place of the others."""
    if kind.kept is not None:
        given = kind.kept(given)
    if kind.params is not None:
        unknown = [name for name in given if name not in kind.params]
        if unknown:
            known = ", ".join(kind.params) or "no parameters"
            raise InvalidArgument(f"{kind.name} has {known}, but got {unknown[0]!r}")
        if len(given) == len(kind.params):
            return given
    defaults = kind.defaults(budget)
    answers = _Answers(kind.name, {**(defaults[0] if defaults else {}), **given})
    return {**kind.space(answers, budget), **given}


def default_schedules(epochs: int, updates_per_epoch: int, per: Per = "epoch") -> list[Schedule]:
    """The usual families at their defaults, but for those that the budget is too short for.

    One that follows the measure is no schedule before it is trained, and is left out.
    """
    per_epoch = 1 if per == "epoch" else updates_per_epoch
    budget = Budget(epochs * per_epoch, per_epoch, lowest_lr=1.0)
    kinds = [kind for kind in map(family, DEFAULT_FAMILIES) if not kind.by_measure]
    return [
        Schedule(kind, filled(kind, {}, budget), per)
        for kind in kinds
        if budget.steps >= kind.min_steps
    ]


class _Answers:
    """Stands in for a trial: answers with given values and refuses what has none."""

    def __init__(self, name: str, values: Params) -> None:
        self._name, self._values = name, values

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        return self._answer(name)

    def suggest_int(
        self,
        name: str,
        low: int,
        high: int,
        *,
        step: int = 1,
        log: bool = False,
    ) -> int:
        return self._answer(name)

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None = None,
        log: bool = False,
    ) -> float:
        return self._answer(name)

    def _answer(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._values:
            raise InvalidArgument(
                f"{self._name} has no usual {name}; give it, as in {self._name},{name}=VALUE"
            )
        return self._values[name]


def _value(text: str) -> Value:
    """Read a parameter as the Python value it looks like."""
    words: dict[str, Value] = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    quoted = re.fullmatch(r"(['\"])(.*)\1", text)
    return text if quoted is None else quoted[2]
