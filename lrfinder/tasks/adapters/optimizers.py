"""Optimizers and schedulers as a framework builds them, made ready for a table of learning rates.

A framework's optimizer comes with an lr of its own, and often with a scheduler that has moved it
already. Here the one is put back to its peak, and the other becomes the baseline's schedule.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.tasks.fields.baseline import Baseline, of_scheduler
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
        for part in schedulers_in(twin):
            _scale_base_lrs(part, factors)
        return twin

    return build


def scale_lrs(optimizer: Optimizer, schedulers: Sequence[LRScheduler], factor: float) -> None:
    """Multiply every lr of an optimizer that is in use, and what its schedulers make lrs of.

    A floor that a scheduler was given as a number, such as eta_min, stays.
    """
    for group in optimizer.param_groups:
        for name in ("lr", "initial_lr", "max_lr", "min_lr"):
            if torch.is_tensor(group.get(name)):
                group[name].mul_(factor)  # whose place a compiled step knows
            elif name in group:
                group[name] *= factor
    for scheduler in schedulers:
        for part in schedulers_in(scheduler):
            _scale_base_lrs(part, [factor] * len(optimizer.param_groups))


def schedulers_in(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """A scheduler and those that it is made of."""
    yield scheduler
    for value in vars(scheduler).values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, LRScheduler):
                yield from schedulers_in(part)


def _scale_base_lrs(scheduler: LRScheduler, factors: Sequence[float]) -> None:
    """Multiply what it makes lrs of, and those that it tells, group by group."""
    for name in ("base_lrs", "max_lrs", "_last_lr"):
        if (lrs := getattr(scheduler, name, None)) is not None:
            scaled = [float(lr) * factor for lr, factor in zip(lrs, factors, strict=False)]
            setattr(scheduler, name, scaled)
