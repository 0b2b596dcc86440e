"""Where each family's lr is searched."""

from collections.abc import Sequence
from inspect import signature

import torch

from lrfinder.tuning.space import Space

BELOW, ABOVE = 4.0, 10.0
"""How far beyond the suggestion's interval an lr is searched."""


def usual_lr(optimizer: str) -> float:
    """Default lr of a torch optimizer, 1e-3 for one that torch does not have."""
    known = getattr(torch.optim, optimizer, None)
    default = signature(known).parameters["lr"].default if known is not None else None
    return float(default) if isinstance(default, float) else 1e-3


def describe_ranges(spaces: Sequence[Space]) -> dict[str, list[float]]:
    """Searched lr range by family."""
    return {space.family.name: [space.lr_low, space.lr_high] for space in spaces}
