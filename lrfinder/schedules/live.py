"""A schedule in motion: a torch scheduler on a dummy optimizer, read one epoch at a time."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CyclicLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.family import Family, Params
from lrfinder.types import Per

_NOT_AFTER_WARMUP = (OneCycleLR, CyclicLR, MultiplicativeLR, SequentialLR, ChainedScheduler)
"""Schedulers that torch's SequentialLR starts from the wrong lr, or cannot start at all."""


class LiveSchedule:
    """Learning rates of one run, epoch after epoch; copies (``copy.deepcopy``) are independent.

    The scheduler is stepped just before a row that needs it, never past the last row asked for.
    `Schedule.start` makes one.
    """

    def __init__(
        self,
        family: Family,
        params: Params,
        lrs: Sequence[float],
        *,
        per: Per,
        warmup: int,
    ) -> None:
        self._name = family.name
        self._per = per
        self._by_measure = family.by_measure
        self._optimizer = _dummy_optimizer(lrs)
        self._scheduler: Any = family.build(self._optimizer, params)
        _check_built(family, self._scheduler, self._optimizer)
        self._ramp = _ramp(self._optimizer, warmup) if warmup else None
        if self._ramp and not family.by_measure:
            self._scheduler = _after(self._ramp, self._scheduler, family)
        self._optimizer.step()
        self._started = False

    def epoch(self, updates: int, measure: float | None = None) -> NDArray[np.float64]:
        """Learning rates of the next epoch's updates: float64[updates, groups].

        `measure` is the validation measure at the end of the epoch before; plateau needs it from
        its second epoch on, the others ignore it.
        """
        groups = self._optimizer.param_groups
        rows = np.empty((updates, len(groups)))
        with warnings.catch_warnings():
            # a copied optimizer has lost the mark by which torch sees that it was stepped
            warnings.filterwarnings("ignore", r"Seems like `optimizer\.step\(\)`", UserWarning)
            for update in range(updates):
                if update == 0 or self._per == "batch":
                    self._advance(measure)
                rows[update] = [float(group["lr"]) for group in groups]
        return rows

    def _advance(self, measure: float | None) -> None:
        """Step to the next row; the first row needs no step."""
        if self._started:
            self._step(measure)
        self._started = True

    def _step(self, measure: float | None) -> None:
        if not self._by_measure:
            self._scheduler.step()
        elif self._ramp and self._ramp.last_epoch < self._ramp.total_iters:
            self._ramp.step()
        elif measure is None:
            raise InvalidArgument(f"{self._name} needs the last epoch's measure, but got None")
        else:
            self._scheduler.step(measure)


def _dummy_optimizer(lrs: Sequence[float]) -> Optimizer:
    """An optimizer of one tiny parameter a group, whose only output is learning rates."""
    if len(lrs) == 0 or not all(0 <= lr < math.inf for lr in lrs):
        raise InvalidArgument(
            f"lrs must be one finite number >= 0 for each parameter group, but got {list(lrs)}"
        )
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": float(lr)} for lr in lrs])


def _check_built(family: Family, scheduler: object, optimizer: Optimizer) -> None:
    """Refuse what a user's `build` can get wrong."""
    if not isinstance(scheduler, LRScheduler):
        raise InvalidArgument(
            f"build of {family.name} must return a torch.optim.lr_scheduler.LRScheduler, "
            f"but got {scheduler!r}"
        )
    if isinstance(scheduler, ReduceLROnPlateau) and not family.by_measure:
        raise InvalidArgument(
            f"{family.name} builds ReduceLROnPlateau, but got by_measure=False; set by_measure=True"
        )
    if any(group["momentum"] for group in optimizer.param_groups):
        raise InvalidArgument(
            f"{family.name} must leave momentum alone, but its scheduler sets it; "
            "pass cycle_momentum=False"
        )


def _ramp(optimizer: Optimizer, warmup: int) -> LinearLR:
    """(t + 1) / (warmup + 1) of the peak at step t, and the peak at step `warmup`."""
    return LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)


def _after(ramp: LinearLR, scheduler: LRScheduler, family: Family) -> SequentialLR:
    """The scheduler with its own step 0 at the end of the ramp."""
    if isinstance(scheduler, _NOT_AFTER_WARMUP):
        raise InvalidArgument(
            f"{family.name} builds {type(scheduler).__name__}, which torch cannot start after a "
            f"warm-up, but got warmup={ramp.total_iters}; build the warm-up into it"
        )
    return SequentialLR(ramp.optimizer, [ramp, scheduler], milestones=[ramp.total_iters])
