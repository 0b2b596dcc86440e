"""The rules of all parameter groups as one family: its space, its scheduler and its code."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.checks import POSITIVE, Rule
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.as_function import body_of
from lrfinder.schedules.families.family import Budget, Family, GroupRule, Params, Trial
from lrfinder.schedules.groups.asked import Asked
from lrfinder.schedules.groups.names import NAME, RATIO, names_of
from lrfinder.schedules.groups.per_group import PerGroup
from lrfinder.schedules.live import one_group


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
