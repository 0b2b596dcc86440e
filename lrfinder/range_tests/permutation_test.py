"""A permutation test of learning: is the loss lower than with the targets dealt out anew?

A loss can fall although nothing is learnt of the inputs: a network unlearns the random outputs that
it starts with, or finds the mean of the targets. So the loss of a trained model is compared with
its losses on the same rows, with their targets exchanged in a few fixed ways. Where nothing was
learnt of the inputs these differ by chance only, whatever the criterion is; no second training and
no second forward pass is needed. It is the permutation test (Fisher 1935) in units of the
deviation over the exchanges.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast

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
    dim = None if criterion is None else _exchanged_dim(task, batches)
    if criterion is None or dim is None:
        return task.measured_by({})
    losses = {name: _Permuted(criterion, k, dim) for k, name in enumerate(_NAMES)}
    return task.measured_by(losses)


def mean_and_deviation(measures: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Mean and deviation over the exchanges of targets; nan where there are none."""
    known = [measures[name] for name in _NAMES if name in measures]
    if not known:
        unknown = np.full_like(measures["loss"], np.nan)
        return unknown, unknown
    return np.mean(known, axis=0), np.std(known, axis=0, ddof=1)


class _Permuted(nn.Module):
    """The criterion with targets exchanged among the rows of a batch, always in the same way."""

    def __init__(self, criterion: Callable[[Any, Any], Tensor], number: int, dim: int) -> None:
        super().__init__()
        self.criterion, self._number, self._dim = criterion, number, dim

    def forward(self, output: Any, target: Tensor) -> Tensor:  # noqa: ANN401 (any model's output)
        order = _order(self._number, target.shape[self._dim], target.device)
        return self.criterion(output, target.index_select(self._dim, order))


@cache
def _order(number: int, rows: int, device: torch.device) -> Tensor:
    """Order in which the targets of so many rows change places: int64[rows]."""
    generator = torch.Generator().manual_seed(number)
    return torch.randperm(rows, generator=generator).to(device)


def _is_plain(target: Tensor) -> bool:
    """Whether equal rows can be counted."""
    return target.layout is torch.strided and not target.is_complex()


def _exchanged_dim(task: Task, batches: Iterable[Batch]) -> int | None:
    """Dimension of the targets that their rows lie in; None where they cannot be exchanged."""
    targets: list[Tensor] = []
    dims: set[int] | None = None
    for batch in batches:
        is_pair = isinstance(batch, tuple | list) and len(cast(Sequence[Any], batch)) == 2
        target = batch[1] if is_pair else None
        if not isinstance(target, Tensor) or target.ndim == 0 or not _is_plain(target):
            return None
        targets.append(target)
        of_rows = {k for k, size in enumerate(target.shape) if size == task.count(batch)}
        dims = of_rows if dims is None else dims & of_rows
    dim = min(dims or {0})
    return dim if _can_exchange(targets, dim) else None


def _can_exchange(targets: Iterable[Tensor], dim: int) -> bool:
    rows, exchanged = 0, 0
    for target in targets:
        count = target.shape[dim]
        alike = int(target.unique(dim=dim, return_counts=True)[1].max()) if count else 0
        fit = count >= _FEWEST_IN_BATCH and alike <= _MOST_ALIKE * count
        rows, exchanged = rows + count, exchanged + fit * count
    return exchanged >= _FEWEST_ROWS and exchanged > rows / 2
