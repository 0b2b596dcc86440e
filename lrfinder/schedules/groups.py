"""A rule for each parameter group: a schedule and an lr of its own, as fine-tuning wants them.

A rule is a decay family, its parameters, and the group's lr as a share of the run's. What is not
given takes the family's default for the training, or is searched: ``gamma=search`` in the text of a
schedule, and a range in place of an lr ratio. The rules together make one family, whose parameters
bear the group's name: ``head.gamma``, ``body.lr_ratio``.

Every group is stepped by torch's own scheduler on that group alone, so that groups with the same
rule train, bit by bit, as under that schedule without groups. The code to paste is a LambdaLR with
one function for each group.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.checks import POSITIVE, Rule
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.as_function import body_of
from lrfinder.schedules.family import Budget, Family, GroupRule, Params, Trial
from lrfinder.schedules.live import one_group
from lrfinder.types import Value

NAME = "groups"
"""Of the family."""
SEARCH = "search"
"""Stands in a rule for a parameter that is searched."""
RATIO = "lr_ratio"


@dataclass(frozen=True)
class Asked:
    """What is asked for one parameter group."""

    group: str
    """The key "name" of the group, or its place among the optimizer's groups."""
    family: Family
    given: Params
    """Parameters of the schedule; the others take its defaults, and `SEARCH` is searched."""
    lr_ratio: float | tuple[float, float] | None
    """Share of the run's lr, or the range in which it is searched; None leaves the optimizer's."""
    own_ratio: float
    """The share that the optimizer gives the group."""

    @property
    def searched(self) -> frozenset[str]:
        """Parameters of the schedule that are searched."""
        return frozenset(name for name, value in self.given.items() if value == SEARCH)

    @property
    def fixed(self) -> Params:
        """Parameters that are given."""
        return {name: value for name, value in self.given.items() if value != SEARCH}

    @property
    def lowest_ratio(self) -> float:
        """The smallest share that the group can get."""
        if self.lr_ratio is None:
            return self.own_ratio
        return self.lr_ratio[0] if isinstance(self.lr_ratio, tuple) else self.lr_ratio

    def key(self, name: str) -> str:
        """What a parameter is called in the family of all groups."""
        return f"{self.group}.{name}"

    def check(self) -> None:
        """Raise InvalidArgument for a rule that there cannot be."""
        kind, where = self.family, f"groups: {self.group}"
        if kind.by_measure or kind.by_group is not None:
            why = "follows a measure" if kind.by_measure else "has groups itself"
            raise InvalidArgument(f"{where}: {kind.name} {why} and cannot be a group's schedule")
        must = kind.params
        if must is None:
            return
        for name in self.given:
            if name not in must:
                known = ", ".join(must) or "no parameters"
                raise InvalidArgument(f"{where}: {kind.name} has {known}, but got {name!r}")
        for name, value in self.fixed.items():
            must[name].check(f"{where}: {name} of {kind.name}", value)

    def ask(self, trial: Trial, budget: Budget) -> dict[str, Value]:
        """The group's parameters, of which a trial is asked for those that are searched."""
        found: dict[str, Value] = {}
        if isinstance(self.lr_ratio, tuple):
            low, high = self.lr_ratio
            found[RATIO] = float(f"{trial.suggest_float(self.key(RATIO), low, high, log=True):.6g}")
        elif self.lr_ratio is not None:
            found[RATIO] = self.lr_ratio
        asked = _Narrowed(self, trial, self._defaults(budget))
        found |= {**self.family.space(asked, budget), **self.fixed}
        if missing := self.searched - asked.searched:
            raise InvalidArgument(
                f"groups: {self.group}: {self.family.name} has no range to search for "
                f"{sorted(missing)[0]}; give it a value"
            )
        return {self.key(name): value for name, value in found.items()}

    def defaults(self, budget: Budget) -> dict[str, Value]:
        """Values of what is searched, to try first."""
        usual = self._defaults(budget)
        first = {k: v for k, v in usual.items() if self.searches(k)}
        if isinstance(self.lr_ratio, tuple):
            low, high = self.lr_ratio
            first[RATIO] = min(max(self.own_ratio, low), high)
        return {self.key(name): value for name, value in first.items()}

    def searches(self, name: str) -> bool:
        """Whether what the family asks for is searched: the parameter, or a part of one."""
        if name in self.given or self.family.params is None or name in self.family.params:
            return name in self.searched
        return bool(self.searched)  # such as the milestones, one by one

    def _defaults(self, budget: Budget) -> Params:
        usual = self.family.defaults(budget)
        return usual[0] if usual else {}


class _Narrowed:
    """A trial that is asked for what a group searches; the rest is given or usual."""

    def __init__(self, rule: Asked, trial: Trial, usual: Params) -> None:
        self._rule, self._trial, self._usual = rule, trial, usual
        self.searched: set[str] = set()

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        if self._searches(name):
            return self._trial.suggest_categorical(self._rule.key(name), choices)
        return self._known(name)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if self._searches(name):
            return self._trial.suggest_int(self._rule.key(name), low, high, step=step, log=log)
        return self._known(name)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if self._searches(name):
            return self._trial.suggest_float(self._rule.key(name), low, high, step=step, log=log)
        return self._known(name)

    def _searches(self, name: str) -> bool:
        if not self._rule.searches(name):
            return False
        known = self._rule.family.params or {name: None}
        self.searched |= {name} if name in known else self._rule.searched
        return True

    def _known(self, name: str) -> Any:  # noqa: ANN401
        given = {**self._usual, **self._rule.fixed}
        if name not in given:
            kind = self._rule.family.name
            raise InvalidArgument(
                f"groups: {self._rule.group}: {kind} has no usual {name}; "
                f"give it, as in {kind},{name}=VALUE, or {name}={SEARCH}"
            )
        return given[name]


def names_of(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the parameter groups of an optimizer are called: their key "name", else their place.

    >>> names_of([{"name": "body"}, {}, {"name": "body"}])
    ['0', '1', '2']
    """
    named = [group.get("name") for group in groups]
    return [
        name if isinstance(name, str) and named.count(name) == 1 else str(place)
        for place, name in enumerate(named)
    ]


def family_of_groups(rules: Sequence[Asked]) -> Family:
    """One family of the rules of all parameter groups, in the order of the optimizer's groups.

    InvalidArgument for a rule that there cannot be.
    """
    for rule in rules:
        rule.check()
    members = _Members(tuple(rules))
    kinds = [rule.family for rule in rules]
    return Family(
        name=NAME,
        build=members.build,
        space=members.space,
        defaults=members.defaults,
        code=members.code,
        before=members.before,
        by_group=members.by_group,
        params=members.params,
        formula="; ".join(f"{rule.group}: {rule.family.formula}" for rule in rules),
        source="torch.optim.lr_scheduler.LambdaLR",
        min_steps=max(kind.min_steps for kind in kinds),
        warmup=all(kind.warmup for kind in kinds),
        conditional=any(rule.family.conditional and rule.searched for rule in rules),
    )


@dataclass(frozen=True)
class _Members:
    """The rules of all groups."""

    rules: tuple[Asked, ...]

    @property
    def params(self) -> Mapping[str, Rule] | None:
        """Every parameter, and what it must be; None where a family does not say it."""
        found: dict[str, Rule] = {}
        for rule in self.rules:
            if rule.family.params is None:
                return None
            own = {RATIO: POSITIVE} if rule.lr_ratio is not None else {}
            found |= {rule.key(name): must for name, must in {**own, **rule.family.params}.items()}
        return found

    def space(self, trial: Trial, budget: Budget) -> Params:
        lowest = min(rule.lowest_ratio / rule.own_ratio for rule in self.rules)
        own = replace(budget, lowest_lr=budget.lowest_lr * min(1.0, lowest))
        return {k: v for rule in self.rules for k, v in rule.ask(trial, own).items()}

    def defaults(self, budget: Budget) -> list[Params]:
        return [{k: v for rule in self.rules for k, v in rule.defaults(budget).items()}]

    def by_group(self, params: Params) -> dict[str, GroupRule]:
        """The rule of each group with its values."""
        found: dict[str, GroupRule] = {}
        for rule in self.rules:
            start = rule.key("")
            own = {k[len(start) :]: v for k, v in params.items() if self._owner(k) == rule.group}
            ratio = own.pop(RATIO, None)
            found[rule.group] = GroupRule(
                rule.family, own, None if ratio is None else float(ratio), rule.own_ratio
            )
        return found

    def _owner(self, key: str) -> str | None:
        """The group whose parameter it is; its name may hold a dot."""
        fitting = [rule.group for rule in self.rules if key.startswith(rule.key(""))]
        return max(fitting, key=len, default=None)

    def build(self, optimizer: Optimizer, params: Params) -> LRScheduler:
        names = names_of(optimizer.param_groups)
        rules = self.by_group(params)
        if names != list(rules):
            raise InvalidArgument(
                f"groups must have a rule for each parameter group, in their order: "
                f"{', '.join(names)}, but got {', '.join(rules)}"
            )
        schedulers: list[LRScheduler] = []
        for place, (group, rule) in enumerate(
            zip(optimizer.param_groups, rules.values(), strict=True)
        ):
            if rule.factor != 1:
                group["lr"] = group["lr"] * rule.factor
            schedulers.append(rule.family.build(one_group(optimizer, place), rule.params))
        return PerGroup(optimizer, schedulers)

    def code(self, params: Params) -> str:
        """One LambdaLR with a function for each group."""
        lines = [
            f"        {_factor(name, rule)},  # {group}"
            for (name, rule), group in zip(
                self._coded(params).items(), self.by_group(params), strict=True
            )
        ]
        head, tail = (
            ["torch.optim.lr_scheduler.LambdaLR(", "    optimizer,", "    ["],
            ["    ],", ")"],
        )
        return "\n".join([*head, *lines, *tail])

    def before(self, params: Params) -> str:
        """What the functions need: the groups' own lrs, and those that take several lines."""
        coded = self._coded(params)
        factors = [rule.factor for rule in coded.values()]
        lines: list[str] = []
        if any(factor != 1 for factor in factors):
            lines += [
                f"for group, factor in zip(optimizer.param_groups, {factors}, strict=True):",
                '    group["lr"] *= factor',
            ]
        longer = {name: rule for name, rule in coded.items() if _in_one_line(rule) is None}
        for place, name in enumerate(coded):
            if name in longer:
                lines.append(f'{name}_peak = float(optimizer.param_groups[{place}]["lr"])')
        for name, rule in longer.items():
            body = [re.sub(r"\bLR\b", f"{name}_peak", line) for line in _body(rule)]
            lines += ["", "", f"def {name}_lr(t):", *(f"    {line}" for line in body)]
        lines += ["", ""] if longer else []
        text = "\n".join(lines)
        mathematical = "math." in text + self.code(params)
        return "import math\n" * mathematical + ("\n" if mathematical and text else "") + text

    def _coded(self, params: Params) -> dict[str, GroupRule]:
        """The rules by a name that Python takes."""
        rules = self.by_group(params)
        names = [re.sub(r"\W", "_", group) for group in rules]
        if len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
            names = [f"group_{place}" for place in range(len(names))]
        return dict(zip(names, rules.values(), strict=True))


def _factor(name: str, rule: GroupRule) -> str:
    """A function of the scheduler step: the group's lr as a share of its peak."""
    short = _in_one_line(rule)
    return f"lambda t: {name}_lr(t) / {name}_peak" if short is None else f"lambda t: {short}"


def _in_one_line(rule: GroupRule) -> str | None:
    """The share as an expression in t; None where it takes statements, or depends on the lr."""
    first, *others = _body(rule)
    if others or not first.startswith("return LR"):
        return None
    return first.removeprefix("return LR").removeprefix(" * ") or "1.0"


def _body(rule: GroupRule) -> list[str]:
    return body_of(rule.family, rule.params)


class PerGroup(LRScheduler):
    """Schedulers of one parameter group each, stepped together."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
        # what torch's ChainedScheduler has, which SequentialLR knows how to start
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self._last_lr = self._lrs()

    def step(self, epoch: int | None = None) -> None:
        """Make the next step of every group, or go to the start with epoch 0."""
        for scheduler in self._schedulers:
            scheduler.step() if epoch is None else scheduler.step(epoch)
        self._last_lr = self._lrs()

    def _update_lr(self, epoch: int | None = None) -> None:
        """Set the lrs of a step, which torch's SequentialLR asks for from 2.7 on."""
        for scheduler in self._schedulers:
            scheduler._update_lr(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        self._last_lr = self._lrs()

    def _lrs(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]
