"""Optimizers over stacked parameters: what makes the updates of a population.

`ManyOptimizers` keeps the optimizer of every run, on views of the run's rows: exact for any
optimizer that changes its parameters in place, and slower for small models than `OneOptimizer`
(`one_optimizer.py`). Which of them is exact is found out by an experiment (`exact_ways.py`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.copies import copied_optimizer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """One run's optimizer and parameters, by their index in the template."""

    optimizer: Optimizer
    parameters: Mapping[int, Tensor]


class Stepper(Protocol):
    """What makes the updates of a population."""

    tensors: dict[int, Tensor]
    """Stacked parameters [runs, ...] that it steps, by their index in the template."""

    def plan(self, lrs: Floats) -> None:
        """Take the lrs float64[runs, updates, groups] of the updates to come."""
        ...

    def step(self, update: int, gradients: Mapping[int, Tensor], broken: Collection[int]) -> None:
        """Make the planned update of that number; those of broken runs do not matter."""
        ...

    def taken(self, rows: Sequence[int]) -> "Stepper":
        """Return an independent copy of some runs."""
        ...


class ManyOptimizers:
    """The optimizer of every run, on its rows of the stacked parameters."""

    def __init__(self, optimizers: list[Optimizer], tensors: dict[int, Tensor]) -> None:
        self._optimizers, self.tensors = optimizers, tensors
        self._rows: list[dict[int, Tensor]] = []
        self._lrs: list[list[list[float]]] = []

    @classmethod
    def of(cls, runs: Sequence[Member], trained: Sequence[int]) -> "ManyOptimizers":
        """Put the parameters of runs into stacked tensors, and their optimizers on the rows."""
        tensors = {
            k: torch.stack([run.parameters[k].detach() for run in runs]).requires_grad_()
            for k in trained
        }
        return cls._on(tensors, [(run.optimizer, run.parameters) for run in runs])

    @classmethod
    def _on(
        cls, tensors: dict[int, Tensor], runs: Sequence[tuple[Optimizer, Mapping[int, Tensor]]]
    ) -> "ManyOptimizers":
        rows = [{k: t.detach()[row] for k, t in tensors.items()} for row in range(len(runs))]
        optimizers = [
            copied_optimizer(
                optimizer, kept_parameters(optimizer) | {id(old[k]): v for k, v in views.items()}
            )
            for (optimizer, old), views in zip(runs, rows, strict=True)
        ]
        many = cls(optimizers, tensors)
        many._rows = rows
        return many

    def plan(self, lrs: Floats) -> None:
        """Take the lrs float64[runs, updates, groups] of the updates to come."""
        self._lrs = lrs.tolist()

    def step(self, update: int, gradients: Mapping[int, Tensor], broken: Collection[int]) -> None:
        """Make the planned update of that number, but none of a broken run."""
        for k in self.tensors:
            for rows, gradient in zip(self._rows, gradients[k].unbind(), strict=True):
                rows[k].grad = gradient
        for row, (optimizer, lrs) in enumerate(zip(self._optimizers, self._lrs, strict=True)):
            if row not in broken:
                for group, lr in zip(optimizer.param_groups, lrs[update], strict=True):
                    group["lr"] = lr
                optimizer.step()

    def attached(self) -> bool:
        """Whether the optimizers still work on the rows of the stacked tensors."""
        return all(
            view.data_ptr() == self.tensors[k][row].data_ptr()
            for row, views in enumerate(self._rows)
            for k, view in views.items()
        )

    def taken(self, rows: Sequence[int]) -> "ManyOptimizers":
        """Return an independent copy of some runs."""
        chosen = [(self._optimizers[row], self._rows[row]) for row in rows]
        index = list(rows)
        tensors = {k: t.detach()[index].requires_grad_() for k, t in self.tensors.items()}
        return self._on(tensors, chosen)


def kept_parameters(optimizer: Optimizer) -> dict[int, Any]:
    """A memo for copy.deepcopy that keeps the optimizer's parameters as they are."""
    return {id(p): p for group in optimizer.param_groups for p in group["params"]}
