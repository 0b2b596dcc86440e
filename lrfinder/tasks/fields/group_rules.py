"""The rules of parameter groups that are asked for, put beside the groups that there are."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Family
from lrfinder.schedules.groups import NAME, Asked, family_of_groups
from lrfinder.schedules.spec import read_parts
from lrfinder.tasks.fields.lr_groups import LRGroups

Ratio = float | tuple[float, float] | None


def family_of_rules(
    rules: Mapping[str, tuple[str, Ratio]], groups: LRGroups, custom: Mapping[str, Family]
) -> Family:
    """The family of a schedule, as text, and an lr ratio for each group by its name.

    Raises InvalidArgument where a group has no rule, a rule no group, or a rule is none.
    """
    for name in rules:
        if name not in groups.names:
            close = difflib.get_close_matches(name, groups.names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InvalidArgument(
                f"groups: the optimizer has no group {name!r}; {hint}{_listed(groups)}"
            )
    missing = [name for name in groups.names if name not in rules]
    if missing:
        raise InvalidArgument(
            f"groups: every parameter group must have a rule, but {missing[0]!r} has none; "
            f"{_listed(groups)}"
        )
    if NAME in custom:
        raise InvalidArgument(f"groups: the task has a schedule called {NAME!r}; rename it")
    asked = [
        _asked(name, *rules[name], groups, place, custom) for place, name in enumerate(groups.names)
    ]
    return family_of_groups(asked)


def _asked(
    name: str,
    text: str,
    ratio: Ratio,
    groups: LRGroups,
    place: int,
    custom: Mapping[str, Family],
) -> Asked:
    try:
        kind, given = read_parts(text, custom)
        given = dict(given if kind.kept is None else kind.kept(given))
    except InvalidArgument as error:
        raise InvalidArgument(f"groups: {name}: {error}") from error
    bounds: tuple[Any, ...] = ratio if isinstance(ratio, tuple) else (ratio,)
    if ratio is not None and not all(0 < bound < math.inf for bound in bounds):
        raise InvalidArgument(f"groups: {name}: lr_ratio must be above 0, but got {ratio}")
    if isinstance(ratio, tuple) and not ratio[0] < ratio[1]:
        raise InvalidArgument(
            f"groups: {name}: low < high must hold for a range of lr_ratio, but got {list(ratio)}"
        )
    if ratio is not None and not groups.proportional[place]:
        raise InvalidArgument(
            f"groups: {name}: lr_ratio is a share of the run's lr, but the optimizer gives this "
            "group an lr that is no multiple of it; leave lr_ratio out, or build the group with "
            "lr or a multiple of it"
        )
    own = groups.ratios[place] if groups.proportional[place] else 1.0
    return Asked(name, kind, given, ratio, own)


def _listed(groups: LRGroups) -> str:
    """The groups by name and size."""
    named = all(name != str(place) for place, name in enumerate(groups.names))
    how = "its groups are" if named else 'its groups (give them a "name", or go by their place) are'
    sizes = [f"{n} ({s:,} numbers)" for n, s in zip(groups.names, groups.sizes, strict=True)]
    return f"{how} {', '.join(sizes)}"
