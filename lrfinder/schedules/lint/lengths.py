"""Lengths that do not fit the training, seen by the schedule's numbers alone."""

import numpy as np

from lrfinder.schedules.families.decays import milestones_of
from lrfinder.schedules.lint.seen import ALIKE, Seen, first_firing

_CLIMBS = 0.01  # share of the peak to which a cosine may climb back


def long_warmup(seen: Seen) -> str:
    """A warm-up that leaves no time for what it warms up for."""
    usual = max(1, seen.total // 20)
    looks = ""
    per_epoch = seen.updates_per_epoch
    if seen.per == "epoch" and per_epoch and seen.warmup < seen.total * per_epoch:
        looks = f" ({seen.warmup} looks like updates, {seen.warmup / per_epoch:.2g} epochs)"
    return (
        f"the warm-up of {seen.warmup} {seen.unit} is not shorter than the training of "
        f"{seen.total}{looks}; {usual} would be a twentieth of it"
    )


def _short_cycle(seen: Seen) -> str | None:
    """OneCycle that ends before the training, where torch raises, or long after it."""
    length = seen.count("total_steps") if seen.name == "one_cycle" else None
    if length is None or seen.steps <= length <= seen.steps * (1 + ALIKE):
        return None
    how = "shorter" if length < seen.steps else "longer"
    ends = "after which torch raises" if length < seen.steps else "whose end it never sees"
    return (
        f"total_steps={length} is {how} than the training of {seen.steps} {seen.unit}, {ends}; "
        f"total_steps={seen.steps} ends with it"
    )


def _climbs(seen: Seen) -> str | None:
    """A cosine that climbs back within the training."""
    half = seen.count("T_max") if seen.name == "cosine" else None
    if half is None or half >= seen.steps - 1:
        return None
    after = np.arange(half, seen.steps)
    back = float((1 + np.cos(np.pi * after / half)).max() / 2)
    if back <= _CLIMBS:
        return None
    return (
        f"after {half} of the {seen.steps} {seen.unit} the cosine climbs back, to {back:.0%} of "
        f"its peak; T_max={seen.steps} falls all the way"
    )


def _never_fires(seen: Seen) -> str | None:
    """A step or a milestone that lies beyond the training."""
    late = milestones_of(seen.params) if seen.name == "multistep" else []
    if late and late[-1] >= seen.steps:
        beyond = [m for m in late if m >= seen.steps]
        return (
            f"milestone{'s'[: len(beyond) != 1]} {', '.join(map(str, beyond))} never "
            f"come{'s'[: len(beyond) == 1]} in {seen.steps} {seen.unit}; "
            f"{round(0.7 * seen.steps)} would be a late drop"
        )
    fires = first_firing(seen)
    if fires is None or fires[1] < seen.steps:
        return None
    name, first = fires
    return (
        f"{name}={first} never fires in {seen.steps} {seen.unit}; "
        f"{name}={max(1, round(0.7 * seen.steps))} would be a late drop"
    )


def impatient(seen: Seen) -> str | None:
    """A patience that is longer than the training."""
    patience = seen.count("patience") if seen.name == "plateau" else None
    if patience is None or patience <= seen.steps - 3:  # a best epoch, then more than patience
        return None
    enough = max(0, (seen.steps - 2) // 2)
    return (
        f"patience={patience} cannot run out within {seen.steps} epochs, so that the lr never "
        f"falls; patience={enough} can after half of them"
    )


def _no_rise(seen: Seen) -> str | None:
    """A triangle that never comes to its peak."""
    rise = seen.count("step_size_up") if seen.name == "triangular" else None
    if rise is None or rise < seen.steps:
        return None
    return (
        f"step_size_up={rise} never comes to its peak in {seen.steps} {seen.unit}; "
        f"step_size_up={max(1, seen.steps // 2)} rises for half of them"
    )


OF_NUMBERS = (_short_cycle, _climbs, _never_fires, _no_rise)
"""Rules that need no more than the schedule's numbers."""
