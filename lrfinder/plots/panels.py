"""Which parameters of each family are shown, and in which order.

The order is fixed: what sets when and how far the lr falls comes first, then any other parameter of
the family, then the lr, then details such as eta_min.
"""

from dataclasses import dataclass

import pandas as pd

_FIRST = ("step_size", "milestone_1", "gamma", "factor", "patience", "T_max", "T_0")
_LAST = (
    *("lr", "eta_min", "T_mult", "shape", "staircase", "decay_steps"),
    *("drops", "milestone_2", "milestone_3", "milestone_4"),
)
_RESULTS = ("family", "trial", "value", "value_again", "diverged", "updates", "schedule")


@dataclass(frozen=True)
class ParameterPanel:
    """What one family's panel shows: one or two searched parameters of its trials."""

    family: str
    trials: pd.DataFrame
    x: str
    y: str | None
    """None where x is the only parameter that was searched; the value is then the height."""
    hidden: tuple[str, ...]
    """What was searched besides."""


def parameter_panels(trials: pd.DataFrame) -> list[ParameterPanel]:
    """Which parameters to show of each family in the trials of a run.

    Parameters are taken in a fixed order: those that set when and how far the lr falls, then any
    others of the family, then the lr, then details such as eta_min. A family of which nothing was
    searched has no panel.
    """
    if trials.empty:
        return []
    found: list[ParameterPanel] = []
    for family, own in trials.groupby("family", sort=False):
        searched = _searched(own)
        if searched:
            x, y = searched[0], searched[1] if len(searched) > 1 else None
            found.append(ParameterPanel(str(family), own, x, y, tuple(searched[2:])))
    return found


def _searched(trials: pd.DataFrame) -> list[str]:
    """Parameters with more than one value, in the order in which they are shown."""
    kinds = trials.nunique().to_dict()
    columns = [str(c) for c in trials.columns if c not in _RESULTS and kinds[c] > 1]
    order = {name: place for place, name in enumerate((*_FIRST, "", *_LAST))}
    return sorted(columns, key=lambda name: order.get(name, len(_FIRST)))
