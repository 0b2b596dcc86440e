"""Names: of parameter groups, and of what rules for them hold."""

from collections.abc import Mapping, Sequence
from typing import Any

NAME = "groups"
"""Of the family."""
SEARCH = "search"
"""Stands in a rule for a parameter that is searched."""
RATIO = "lr_ratio"


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
