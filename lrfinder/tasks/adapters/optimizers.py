"""Optimizers and schedulers as a framework builds them, made ready for a table of learning rates.

A framework's optimizer comes with an lr of its own, and often with a scheduler that has moved it
already. Here the one is put back to its peak, and the other becomes the baseline's schedule.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.tasks.baseline import Baseline, of_scheduler
from lrfinder.types import Per

_BY_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
"""What schedulers leave in a parameter group."""


def peak_lrs(optimizer: Optimizer) -> list[float]:
    """Learning rate of each group before any scheduler moved it, or its peak."""
    return [
        float(group.get("max_lr", group.get("initial_lr", group["lr"])))
        for group in optimizer.param_groups
    ]


def with_lr(optimizer: Optimizer, lr: float) -> Optimizer:
    """The optimizer without a trace of its schedulers, its largest lr at `lr`.

    The other groups keep their ratio to it.
    """
    peaks = peak_lrs(optimizer)
    top = max(peaks)
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        if "base_momentum" in group:  # a cyclic scheduler has moved the momentum
            moved = {"momentum", "betas"} & group.keys()
            group.update({name: optimizer.defaults[name] for name in moved})
        for name in _BY_SCHEDULERS:
            group.pop(name, None)
        group["lr"] = lr * (peak / top if top > 0 else 1.0)
    if top > 0 and "lr" in optimizer.defaults:
        optimizer.defaults["lr"] = lr * float(optimizer.defaults["lr"]) / top
    return optimizer


def baseline_of(optimizer: Optimizer, scheduler: LRScheduler | None, per: Per) -> Baseline | None:
    """What a fresh optimizer and its scheduler, if any, train with; None where the lr is 0."""
    top = max(peak_lrs(optimizer))
    if top <= 0:
        return None
    if scheduler is None:
        return Baseline(top)
    return of_scheduler(top, copies_of(scheduler), per)


def copies_of(scheduler: LRScheduler) -> Callable[[Optimizer], LRScheduler]:
    """A function that puts copies of a fresh scheduler on other optimizers, at their own lrs."""

    def build(optimizer: Optimizer) -> LRScheduler:
        known: dict[int, Any] = {id(scheduler.optimizer): optimizer}
        twin = copy.deepcopy(scheduler, known)
        pairs = list(
            zip(
                scheduler.optimizer.param_groups,
                peak_lrs(scheduler.optimizer),
                optimizer.param_groups,
                peak_lrs(optimizer),
                strict=False,
            )
        )
        factors = [new / old if old > 0 else 1.0 for _, old, _, new in pairs]
        for (theirs, _, group, _), factor in zip(pairs, factors, strict=True):
            for name in ("lr", "initial_lr", "max_lr", "min_lr"):
                if name in theirs:
                    group[name] = float(theirs[name]) * factor
        for part in [*known.values()]:
            if isinstance(part, LRScheduler) and hasattr(part, "base_lrs"):
                lrs = zip(part.base_lrs, factors, strict=False)
                part.base_lrs = [float(lr) * factor for lr, factor in lrs]
        return twin

    return build
