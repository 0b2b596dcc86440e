"""Where the initial lr of each family is searched.

Around the suggestion of a range test, from half of its interval's low to four times its high (a
quarter and ten times where it had no probes, whose interval is that of the seeds alone), moved to
the peak of the family's default schedule and capped where training diverged. Without a
suggestion: two decades below that edge, else a decade either way of the lr in use today.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature

import torch

from lrfinder.range_tests.rules.suggestion import RULE, SWEEP_RULE, Suggestion
from lrfinder.tasks.problem import Problem
from lrfinder.tuning.space import Space

BEYOND = {RULE: (2.0, 4.0), SWEEP_RULE: (4.0, 10.0)}
"""How far below and above the suggestion's interval an lr is searched, by its rule."""

Ranged = tuple[list[Space], str]
"""The space of each family, and where its lr range comes from."""


def fixed_lr(spaces: Sequence[Space], lr: float) -> Ranged:
    """One lr for all families."""
    return _same_range(spaces, lr, lr), f"lr fixed at {lr:g}"


def given_range(spaces: Sequence[Space], low: float, high: float) -> Ranged:
    """A range that was asked for, for all families."""
    return _same_range(spaces, low, high), f"lr searched in {low:g} to {high:g}, as asked"


def from_range_test(
    spaces: Sequence[Space], task: Problem, suggestion: Suggestion | None
) -> Ranged:
    """Each family's range as a range test suggests it; without one, as the task does."""
    if suggestion is None or suggestion.lr is None:
        return _without_suggestion(spaces, task, suggestion)
    around = [_around(space, task, suggestion) for space in spaces]
    low, high = min(s.lr_low for s in around), max(s.lr_high for s in around)
    return around, f"lr searched around the suggestion, from {low:.2g} to {high:.2g} by family"


def describe_ranges(spaces: Sequence[Space]) -> dict[str, tuple[float, float]]:
    """Searched lr range by family."""
    return {space.family.name: (space.lr_low, space.lr_high) for space in spaces}


def _same_range(spaces: Sequence[Space], low: float, high: float) -> list[Space]:
    """One range for all, whose middle is tried first, and then the middles of its halves."""
    middle = min(max(math.sqrt(low * high), low), high)
    spread = (high / low) ** 0.25
    return [
        replace(s, lr_low=low, lr_default=middle, lr_high=high, lr_spread=spread) for s in spaces
    ]


def _around(space: Space, task: Problem, suggestion: Suggestion) -> Space:
    """Range around the suggestion, moved to the peak of the family's default schedule."""
    default, moved = space.default_schedule, suggestion
    if default is not None:
        per_epoch, like = space.updates_per_epoch, task.prototype.stand_in
        moved = suggestion.for_schedule(default, space.epochs * per_epoch, per_epoch, like)
    lr = moved.lr or math.nan
    below, above = BEYOND.get(suggestion.rule, BEYOND[SWEEP_RULE])
    low, high = (moved.low or lr) / below, (moved.high or lr) * above
    edge = suggestion.diverged_at or math.inf
    return replace(space, lr_low=low, lr_default=lr, lr_high=max(lr, min(high, edge)))


def _without_suggestion(
    spaces: Sequence[Space], task: Problem, suggestion: Suggestion | None
) -> Ranged:
    edge = None if suggestion is None else suggestion.diverged_at
    if edge is not None:
        why = f"no suggestion: lr searched in two decades below {edge:.2g}, where it diverged"
        return _same_range(spaces, edge / 100, edge), why
    if task.baseline is not None:
        lr, whose = task.baseline.lr, "the baseline's lr"
    else:
        lr, whose = _usual_lr(task.prototype.optimizer), "the optimizer's usual lr"
    why = f"no suggestion: lr searched a decade either way of {whose}, {lr:g}"
    return _same_range(spaces, lr / 10, lr * 10), why


def _usual_lr(optimizer: str) -> float:
    """Default lr of a torch optimizer, 1e-3 for one that torch does not have."""
    known: Callable[..., object] | None = getattr(torch.optim, optimizer, None)
    default = signature(known).parameters["lr"].default if known is not None else None
    return float(default) if isinstance(default, float) else 1e-3
