"""A scheduler of one parameter group each, stepped together."""

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class PerGroup(LRScheduler):
    """Schedulers of one parameter group each, stepped together."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
        # what torch's ChainedScheduler has, which SequentialLR knows how to start
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self._last_lr = self._lrs()

    def step(self, epoch: int | None = None) -> None:
        """Make the next step of every group, or go to the start with epoch 0."""
        for scheduler in self._schedulers:
            scheduler.step() if epoch is None else scheduler.step(epoch)
        self._last_lr = self._lrs()

    def _update_lr(self, epoch: int | None = None) -> None:
        """Set the lrs of a step, which torch's SequentialLR asks for from 2.7 on."""
        for scheduler in self._schedulers:
            scheduler._update_lr(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        self._last_lr = self._lrs()

    def _lrs(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]
