"""What is asked for one parameter group, and what of it a trial searches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families.family import Budget, Family, Params, Trial
from lrfinder.schedules.groups.names import RATIO, SEARCH
from lrfinder.types import Value


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
