"""A permutation test of learning: is the loss lower than with the targets dealt out anew?

A loss can fall although nothing is learnt of the inputs: a network unlearns the random outputs that
it starts with, or finds the mean of the targets. So the loss of a trained model is compared with
its losses on the same rows, with their targets exchanged in a few fixed ways. Where nothing was
learnt of the inputs these differ by chance only, whatever the criterion is; no second training and
no second forward pass is needed. It is the permutation test (Fisher 1935) in units of the
deviation over the exchanges.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.arrays import Floats
from lrfinder.tasks.batches import Batch
from lrfinder.tasks.task import Task

_NAMES = tuple(f"permuted {k}" for k in range(10))
_FEWEST_ROWS = 32  # of all batches; with fewer, learning is not told from chance
_FEWEST_IN_BATCH = 8
_MOST_ALIKE = 0.75


def with_permuted_losses(task: Task, batches: Iterable[Batch]) -> Task:
    """The task with the losses under exchanged targets as its only metrics, where it can have them.

    It cannot where it has a `loss` instead of a criterion, where targets are no dense real tensors,
    and where fewer than 32 rows, or than half of them, lie in batches of at least 8 rows of which
    at most three quarters are alike.
    """
    criterion = task.criterion
    if criterion is None or not _can_exchange(batches):
        return replace(task, metrics={})
    losses = {name: _Permuted(criterion, k) for k, name in enumerate(_NAMES)}
    return replace(task, metrics=losses)


def mean_and_deviation(measures: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Mean and deviation over the exchanges of targets; nan where there are none."""
    known = [measures[name] for name in _NAMES if name in measures]
    if not known:
        unknown = np.full_like(measures["loss"], np.nan)
        return unknown, unknown
    return np.mean(known, axis=0), np.std(known, axis=0, ddof=1)


class _Permuted(nn.Module):
    """The criterion with targets exchanged among the rows of a batch, always in the same way."""

    def __init__(self, criterion: Callable[[Any, Any], Tensor], number: int) -> None:
        super().__init__()
        self.criterion, self._number = criterion, number

    def forward(self, output: Any, target: Tensor) -> Tensor:  # noqa: ANN401 (any model's output)
        return self.criterion(output, target[_order(self._number, len(target), target.device)])


@cache
def _order(number: int, rows: int, device: torch.device) -> Tensor:
    """Order in which the targets of so many rows change places: int64[rows]."""
    generator = torch.Generator().manual_seed(number)
    return torch.randperm(rows, generator=generator).to(device)


def _is_plain(target: Tensor) -> bool:
    """Whether equal rows can be counted."""
    return target.layout is torch.strided and not target.is_complex()


def _can_exchange(batches: Iterable[Batch]) -> bool:
    rows, exchanged = 0, 0
    for batch in batches:
        target = batch[1] if isinstance(batch, tuple) and len(batch) == 2 else None
        if not isinstance(target, Tensor) or target.ndim == 0 or not _is_plain(target):
            return False
        alike = int(target.unique(dim=0, return_counts=True)[1].max()) if len(target) else 0
        fit = len(target) >= _FEWEST_IN_BATCH and alike <= _MOST_ALIKE * len(target)
        rows, exchanged = rows + len(target), exchanged + fit * len(target)
    return exchanged >= _FEWEST_ROWS and exchanged > rows / 2
