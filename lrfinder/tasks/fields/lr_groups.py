"""What the learning rate of each parameter group is, as a function of the lr asked for.

``optimizer(model, lr)`` may do with its lr what it likes: give it to every group, multiply it, cap
it, or leave the lr of a group as it is. Nobody has to know which: at a constant lr, and at the peak
of a schedule, the optimizer is built for that lr; where the lr grows, `group_lrs` builds one for
each lr of the table. So a group that is fixed stays at its lr in a range test, and a scheduler
multiplies it like any other group, as torch does.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.groups import names_of

Build = Callable[[nn.Module, float], Optimizer]
TRIED = (1.0, 1e-2, 1e-4)
"""Learning rates at which an optimizer is built to see how its groups follow."""
_ROUNDING = 1e-6
_OF_LR = {"lr", "initial_lr", "max_lr", "min_lr"}


@dataclass(frozen=True)
class LRGroups:
    """How the parameter groups of an optimizer follow the lr asked for."""

    lrs: Floats
    """Learning rate of each group at the lrs that were tried: float64[3, groups]."""
    options: tuple[str, ...] = ()
    """Other options that follow the lr, as in ``weight_decay=lr / 10``."""
    names: tuple[str, ...] = ()
    """What each group is called: its key "name", else its place."""
    sizes: tuple[int, ...] = ()
    """Numbers in the parameters of each group."""

    @property
    def proportional(self) -> tuple[bool, ...]:
        """Whether the lr of each group is a multiple of the lr asked for."""
        shares = self.lrs / np.array(TRIED)[:, None]
        alike = np.isclose(shares, shares[0], _ROUNDING, 0).all(axis=0) & (shares[0] > 0)
        return tuple(alike.tolist())

    @property
    def follow(self) -> bool:
        """Whether the lr of some group moves with the lr asked for."""
        return bool((self.lrs != self.lrs[0]).any())

    @property
    def ratios(self) -> tuple[float, ...]:
        """Learning rate of each group where 1 was asked for."""
        return tuple(self.lrs[0].tolist())

    @property
    def scale(self) -> float:
        """What the lr asked for is multiplied by in every group; 1 where groups go by their own.

        It is no 1 where a scheduler that was built with the optimizer has moved its lr.
        """
        shares = self.lrs / np.array(TRIED)[:, None]
        alike = np.allclose(shares, shares[0, 0], _ROUNDING, 0) and shares[0, 0] > 0
        scale = float(shares[0, 0]) if alike else 1.0
        return 1.0 if math.isclose(scale, 1.0, rel_tol=_ROUNDING) else scale

    def lowest(self, lr: float) -> float:
        """The smallest positive lr of a group that may be met where this lr, or more, is asked for.

        Of a group that is neither proportional nor fixed, a cautious guess.
        """
        tried = np.array(TRIED)[:, None]
        fixed = np.isclose(self.lrs, self.lrs[0], _ROUNDING, 0).all(axis=0)
        at_lr = np.where(fixed, self.lrs[0], (self.lrs / tried).min(axis=0) * lr)
        return float(at_lr[at_lr > 0].min(initial=math.inf)) if (at_lr > 0).any() else lr


def lr_groups(build: Build, model: nn.Module) -> LRGroups:
    """See how the groups of the optimizer that is built for a model follow the lr."""
    lrs = group_lrs(build, model, TRIED)
    first, last = (build(model, lr).param_groups for lr in (TRIED[0], TRIED[-1]))
    options = {
        key
        for a, b in zip(first, last, strict=True)
        for key in a.keys() - _OF_LR
        if isinstance(a[key], bool | int | float | str | tuple) and a[key] != b.get(key)
    }
    sizes = tuple(size_of(group["params"]) for group in first)
    return LRGroups(lrs, tuple(sorted(options)), tuple(names_of(first)), sizes)


def size_of(parameters: Iterable[Tensor]) -> int:
    """Numbers in parameters, but for those whose shapes are not known yet."""
    return sum(p.numel() for p in parameters if not is_lazy(p))


def group_lrs(build: Build, model: nn.Module, lrs: Sequence[float]) -> Floats:
    """Learning rate of each parameter group where these lrs are asked for: float64[lrs, groups]."""
    rows = [[float(group["lr"]) for group in build(model, lr).param_groups] for lr in lrs]
    for lr, row in zip(lrs, rows, strict=True):
        if len(row) != len(rows[0]):
            raise InvalidArgument(
                "optimizer(model, lr) must have the same parameter groups at every lr, but got "
                f"{len(rows[0])} at {lrs[0]:g} and {len(row)} at {lr:g}"
            )
    return np.array(rows)
