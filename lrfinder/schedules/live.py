"""A schedule in motion: a torch scheduler on a stand-in optimizer, read one epoch at a time.

The stand-in has the class, the defaults and the parameter groups of the optimizer that is trained
with, for a scheduler may read any of them; its parameters are tiny, and it is never stepped.
"""

import copy
import math
import warnings
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
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
from lrfinder.schedules.families.family import Family, Params
from lrfinder.types import Per

_NOT_AFTER_WARMUP = (OneCycleLR, CyclicLR, MultiplicativeLR, SequentialLR, ChainedScheduler)
"""Schedulers that torch's SequentialLR starts from the wrong lr, or cannot start at all."""


_OF_SCHEDULERS = ("lr", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
"""Options of a parameter group that a scheduler may set."""


def stand_in(optimizer: Optimizer) -> Optimizer:
    """A tiny optimizer that a scheduler cannot tell from this one.

    Learning rates that are tensors are copied to the processor; groups that share one share its
    copy. Attributes beyond torch's own are shared with the optimizer, not copied.
    """
    lrs = [group["lr"] for group in optimizer.param_groups]
    memo: dict[int, Any] = {id(lr): lr.detach().cpu().clone() for lr in lrs if torch.is_tensor(lr)}
    state = {
        "defaults": copy.deepcopy(optimizer.defaults, memo),
        "state": defaultdict(dict),
        "param_groups": [_tiny(group, memo) for group in optimizer.param_groups],
    }
    return _twin(optimizer, state)


def one_group(optimizer: Optimizer, place: int) -> Optimizer:
    """An optimizer of one of the parameter groups, which it shares with this one."""
    group = optimizer.param_groups[place]
    return _twin(optimizer, {"state": defaultdict(dict), "param_groups": [group]})


def _twin(optimizer: Optimizer, state: dict[str, Any]) -> Optimizer:
    """An optimizer of the same class and attributes, but for this state."""
    kind = type(optimizer)
    twin = kind.__new__(kind)
    own = {key: value for key, value in vars(optimizer).items() if not _of_torch(kind, key)}
    with step_kept(kind):
        Optimizer.__setstate__(twin, own | state)
    return twin


@contextmanager
def step_kept(kind: type) -> Generator[None]:
    """Leave the `step` of a class as it is while an optimizer of it is copied.

    torch wraps it, at the latest when a copy is given its state, and the wrapper needs what torch's
    own `__init__` makes: an optimizer of a class that does not call that, as many that wrap another
    one do not, could never be stepped again.
    """
    wrapped, own = hasattr(kind.step, "hooked"), vars(kind).get("step")
    try:
        yield
    finally:
        if not wrapped and own is not None:
            kind.step = own
        elif not wrapped and "step" in vars(kind):
            del kind.step


def _of_torch(kind: type, attribute: str) -> bool:
    """Whether torch makes the attribute, or it stands in the place of a method."""
    return attribute.startswith("_optimizer_") or hasattr(kind, attribute)


def _tiny(group: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    return {**copy.deepcopy(options, memo), "params": [torch.zeros(1)]}


class LiveSchedule:
    """Learning rates of one run, epoch after epoch; copies (``copy.deepcopy``) are independent.

    The scheduler is stepped just before a row that needs it, never past the last row asked for.
    `Schedule.start` makes one.
    """

    def __init__(
        self,
        family: Family,
        params: Params,
        lrs: Sequence[float] | Optimizer,
        *,
        per: Per,
        warmup: int,
    ) -> None:
        self._name = family.name
        self._per = per
        self._by_measure = family.by_measure
        self._optimizer = stand_in(lrs if isinstance(lrs, Optimizer) else _plain_optimizer(lrs))
        self._options = _options(self._optimizer)
        self._scheduler: Any = family.build(self._optimizer, params)
        _check_built(family, self._scheduler)
        self._check_options()
        self._ramp = _ramp(self._optimizer, warmup) if warmup else None
        if self._ramp and not family.by_measure:
            self._scheduler = _after(self._ramp, self._scheduler, family)
        self._started = False

    @property
    def mode(self) -> str | None:
        """ "min" or "max": how a schedule that is stepped by measure reads it; None of others."""
        return getattr(self._scheduler, "mode", None) if self._by_measure else None

    def epoch(self, updates: int, measure: float | None = None) -> NDArray[np.float64]:
        """Learning rates of the next epoch's updates: float64[updates, groups].

        `measure` is the validation measure at the end of the epoch before; plateau needs it from
        its second epoch on, the others ignore it.
        """
        groups = self._optimizer.param_groups
        rows = np.empty((updates, len(groups)))
        with warnings.catch_warnings():
            # the stand-in is never stepped
            warnings.filterwarnings("ignore", r"(Seems like|Detected call of) .*step", UserWarning)
            for update in range(updates):
                if update == 0 or self._per == "batch":
                    self._advance(measure)
                rows[update] = [float(group["lr"]) for group in groups]
        if not ((rows >= 0) & (rows < math.inf)).all():
            raise InvalidArgument(
                f"{self._name} must give finite learning rates >= 0, but gave "
                f"{rows[~((rows >= 0) & (rows < math.inf))][0]:g}"
            )
        self._check_options()
        return rows

    def _check_options(self) -> None:
        """Refuse a scheduler that sets more than the lr, which is all that is trained by."""
        for now, before in zip(_options(self._optimizer), self._options, strict=True):
            changed = next((key for key, value in before.items() if now.get(key) != value), None)
            if changed is not None or getattr(self._scheduler, "cycle_momentum", False):
                cure = "; pass cycle_momentum=False" if changed in (None, *_MOMENTA) else ""
                name = "momentum" if changed in (None, *_MOMENTA) else changed
                raise InvalidArgument(
                    f"{self._name} must leave {name} alone, but its scheduler sets it{cure}"
                )

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


_MOMENTA = ("momentum", "betas")


def _plain_optimizer(lrs: Sequence[float]) -> Optimizer:
    """SGD with a parameter group for each lr."""
    if len(lrs) == 0 or not all(0 <= lr < math.inf for lr in lrs):
        raise InvalidArgument(
            f"lrs must be one finite number >= 0 for each parameter group, but got {list(lrs)}"
        )
    groups = [{"params": [torch.zeros(1)], "lr": float(lr)} for lr in lrs]
    return torch.optim.SGD(groups, float(max(lrs)))


def _options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Plain options of each parameter group that no scheduler should set."""
    return [
        {
            key: value
            for key, value in group.items()
            if key not in _OF_SCHEDULERS and isinstance(value, bool | int | float | str | tuple)
        }
        for group in optimizer.param_groups
    ]


def _check_built(family: Family, scheduler: object) -> None:
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
