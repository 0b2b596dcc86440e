"""The families by name, and the growths of the range test."""

import difflib
from collections.abc import Mapping
from dataclasses import replace

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families import cycles, decays, formulas, growths
from lrfinder.schedules.families.family import Budget, Family, Params, Trial


def family(name: str, custom: Mapping[str, Family] | None = None) -> Family:
    """The family called `name`; `custom` adds families of the user's own, which come first.

    torch's name of a scheduler stands for the family that it makes: StepLR for step.

    >>> family("cosin")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lrfinder.errors.InvalidArgument: no schedule is called 'cosin'; did you mean 'cosine'? ...
    """
    families = {**FAMILIES, **(custom or {})}
    if name in families:
        return families[name]
    by_label = {kind.label.lower(): kind for kind in families.values() if kind.label}
    if name.lower() in by_label:
        return by_label[name.lower()]
    known = {**{own: own for own in families}, **{k: v.name for k, v in by_label.items()}}
    known |= {own: meant for own, meant in _OTHER_NAMES.items() if own not in known}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {known[close[0]]!r}? The" if close else "the"
    raise InvalidArgument(f"no schedule is called {name!r}; {hint} names are {', '.join(families)}")


_OTHER_NAMES = {
    "linear": "polynomial,power=1",
    "poly": "polynomial",
    "none": "constant",
    "warm_restarts": "cosine_restarts",
    "cyclic": "triangular",
}
"""What other programs call a schedule, and what it is here."""


def _refusing_short_budgets(family: Family) -> Family:
    """The family, with a space and defaults that refuse a budget in which a parameter is dead."""

    def space(trial: Trial, budget: Budget) -> Params:
        _check_budget(family, budget)
        return family.space(trial, budget)

    def defaults(budget: Budget) -> list[Params]:
        _check_budget(family, budget)
        return family.defaults(budget)

    return replace(family, space=space, defaults=defaults)


def _check_budget(family: Family, budget: Budget) -> None:
    if family.by_measure:
        available, unit, cure = budget.epochs, "epochs", "train more epochs"
    else:
        available, unit = budget.steps, "scheduler steps"
        cure = "train more epochs, or step it per batch"
    if available < family.min_steps:
        raise InvalidArgument(
            f"{family.name} needs at least {family.min_steps} {unit} after warm-up, "
            f"but got {available}; {cure}"
        )


FAMILIES: dict[str, Family] = {
    family.name: _refusing_short_budgets(family)
    for family in (
        decays.CONSTANT,
        decays.STEP,
        decays.MULTISTEP,
        decays.EXPONENTIAL,
        formulas.EXPONENTIAL_STEPS,
        formulas.INVERSE_TIME,
        decays.COSINE,
        cycles.COSINE_RESTARTS,
        decays.POLYNOMIAL,
        decays.PLATEAU,
        cycles.ONE_CYCLE,
        cycles.TRIANGULAR,
        formulas.WSD,
        formulas.STABLE_POWER,
    )
}

DEFAULT_FAMILIES: tuple[str, ...] = (
    "constant",
    "step",
    "exponential",
    "inverse_time",
    "cosine",
    "polynomial",
    "plateau",
    "wsd",
)

GROWTHS: dict[str, Family] = {
    "exponential": growths.EXPONENTIAL_GROWTH,
    "linear": growths.LINEAR_GROWTH,
}
