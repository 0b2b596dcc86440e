"""Optimizers of stacked runs: one per run, or one for all where that is exact."""

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import LRFinderError
from lrfinder.tasks.state.optimizer_copies import COPIED_BY_TORCH, copied_optimizer


@dataclass(frozen=True)
class RunParameters:
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

    def select(self, rows: Sequence[int]) -> "Stepper":
        """Return an independent copy of some runs."""
        ...


class PerRunOptimizers:
    """The optimizer of every run, on its rows of the stacked parameters."""

    def __init__(self, optimizers: list[Optimizer], tensors: dict[int, Tensor]) -> None:
        self._optimizers, self.tensors = optimizers, tensors
        self._rows: list[dict[int, Tensor]] = []
        self._lrs: list[list[list[float]]] = []

    @classmethod
    def of(cls, runs: Sequence[RunParameters], trained: Sequence[int]) -> "PerRunOptimizers":
        """Put the parameters of runs into stacked tensors, and their optimizers on the rows."""
        tensors = {
            k: torch.stack([run.parameters[k].detach() for run in runs]).requires_grad_()
            for k in trained
        }
        return cls._on(tensors, [(run.optimizer, run.parameters) for run in runs])

    @classmethod
    def _on(
        cls, tensors: dict[int, Tensor], runs: Sequence[tuple[Optimizer, Mapping[int, Tensor]]]
    ) -> "PerRunOptimizers":
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

    def select(self, rows: Sequence[int]) -> "PerRunOptimizers":
        """Return an independent copy of some runs."""
        chosen = [(self._optimizers[row], self._rows[row]) for row in rows]
        index = list(rows)
        tensors = {k: t.detach()[index].requires_grad_() for k, t in self.tensors.items()}
        return self._on(tensors, chosen)


def kept_parameters(optimizer: Optimizer) -> dict[int, Any]:
    """A memo for copy.deepcopy that keeps the optimizer's parameters as they are."""
    return {id(p): p for group in optimizer.param_groups for p in group["params"]}


_PER_RUN = ("params", "lr", "initial_lr")
"""Options of a parameter group that may differ between runs of one optimizer."""


class NotSharedError(LRFinderError):
    """The optimizers of several runs cannot be made one."""


@dataclass
class _Flat:
    """The parameters of one group and type, one after another: [runs, numbers]."""

    group: int
    members: list[int]
    shapes: list[torch.Size]
    tensor: Tensor

    def views(self) -> dict[int, Tensor]:
        """The parameters [runs, ...] by their index, which get gradients."""
        return {k: part.requires_grad_() for k, part in self.parts(self.tensor.detach()).items()}

    def parts(self, whole: Tensor) -> dict[int, Tensor]:
        """Views [runs, ...], by the parameters' index, of a tensor of the same form."""
        parts = whole.split([shape.numel() for shape in self.shapes], dim=1)
        triples = zip(self.members, self.shapes, parts, strict=True)
        return {k: part.view(len(part), *shape) for k, shape, part in triples}


class SharedOptimizer:
    """One optimizer for all runs, which steps with lr = 1."""

    def __init__(self, optimizer: Optimizer, flats: list[_Flat]) -> None:
        self._optimizer, self._flats = optimizer, flats
        self.tensors: dict[int, Tensor] = {}
        for flat in flats:
            self.tensors |= flat.views()
        self._before = [torch.empty_like(flat.tensor) for flat in flats]
        self._gradients = [torch.empty_like(flat.tensor) for flat in flats]
        """Room that every update uses again: new memory costs more than what is written there."""
        self._lrs: list[tuple[Tensor, ...]] = []

    @classmethod
    def of(
        cls, runs: Sequence[RunParameters], trained: Sequence[int], *, fused: bool = False
    ) -> "SharedOptimizer":
        """Join the optimizers of runs; `trained` are the parameters that get gradients.

        With `fused`, optimizers that have a fused kernel and were not asked for another use it.
        Raises NotSharedError where their options or states do not allow it.
        """
        _check_options([run.optimizer for run in runs])
        first = runs[0]
        flats = [
            _Flat(
                group, members, [first.parameters[k].shape for k in members], _flat(runs, members)
            )
            for group, members in _by_group_and_type(first, trained)
        ]
        states = [_joined_state(runs, flat) for flat in flats]
        optimizer = _rebuilt(first.optimizer, flats, states)
        if fused:
            for group in optimizer.param_groups:
                group["fused"] = True
        return cls(optimizer, flats)

    def plan(self, lrs: Floats) -> None:
        """Take the lrs float64[runs, updates, groups] of the updates to come."""
        self._lrs = [
            torch.tensor(lrs[:, :, flat.group].T[..., None], dtype=flat.tensor.dtype)
            .to(flat.tensor.device)
            .unbind()
            for flat in self._flats
        ]

    def step(self, update: int, gradients: Mapping[int, Tensor], broken: Collection[int]) -> None:
        """Make the planned update of that number."""
        flats = self._flats
        with torch.no_grad():
            for flat, old, gradient in zip(flats, self._before, self._gradients, strict=True):
                old.copy_(flat.tensor)
                for k, part in flat.parts(gradient).items():
                    part.copy_(gradients[k])
                flat.tensor.grad = gradient
            self._optimizer.step()
            for flat, old, lrs in zip(flats, self._before, self._lrs, strict=True):
                torch.lerp(old, flat.tensor, lrs[update], out=flat.tensor)

    def select(self, rows: Sequence[int]) -> "SharedOptimizer":
        """Return an independent copy of some runs."""
        index = torch.tensor(rows, dtype=torch.long, device=self._flats[0].tensor.device)
        flats = [_Flat(f.group, f.members, f.shapes, f.tensor[index]) for f in self._flats]
        states = [self._rows_of_state(flat, index) for flat in self._flats]
        return SharedOptimizer(_rebuilt(self._optimizer, flats, states), flats)

    def _rows_of_state(self, flat: _Flat, index: Tensor) -> dict[str, Any]:
        return {
            key: value[index]
            if isinstance(value, Tensor) and value.shape == flat.tensor.shape
            else copy.deepcopy(value)
            for key, value in self._optimizer.state.get(flat.tensor, {}).items()
        }


def elementwise(key: str, value: Any, parameter: Tensor) -> bool:  # noqa: ANN401
    """Whether a value of an optimizer's state belongs to the elements of its parameter."""
    a_count = parameter.ndim == 0 and key == "step"
    return isinstance(value, Tensor) and value.shape == parameter.shape and not a_count


def _by_group_and_type(run: RunParameters, trained: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The trained parameters of each group, those of every type apart."""
    index = {id(run.parameters[k]): k for k in trained}
    found: dict[tuple[int, torch.dtype], list[int]] = {}
    for number, group in enumerate(run.optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) in index:
                key = number, parameter.dtype
                found.setdefault(key, []).append(index[id(parameter)])
    return [(number, members) for (number, _), members in found.items()]


def _flat(runs: Sequence[RunParameters], members: list[int]) -> Tensor:
    rows = [[run.parameters[k].detach().flatten() for k in members] for run in runs]
    return torch.stack([torch.cat(row) for row in rows])


def _joined_state(runs: Sequence[RunParameters], flat: _Flat) -> dict[str, Any]:
    """The state of the flat parameter, joined from those of the parameters in it."""
    states = [
        [run.optimizer.state.get(run.parameters[k], {}) for k in flat.members] for run in runs
    ]
    keys = states[0][0].keys()
    if any(state.keys() != keys for row in states for state in row):
        raise NotSharedError("the runs' optimizers hold different states")
    return {key: _joined_value(key, runs, flat, states) for key in keys}


def _joined_value(
    key: str,
    runs: Sequence[RunParameters],
    flat: _Flat,
    states: Sequence[Sequence[Mapping[str, Any]]],
) -> Any:  # noqa: ANN401
    values = [[state[key] for state in row] for row in states]
    parameters = [run.parameters[k] for run in runs for k in flat.members]
    every = [value for row in values for value in row]
    if all(elementwise(key, v, p) for v, p in zip(every, parameters, strict=True)):
        return torch.stack([torch.cat([v.detach().flatten() for v in row]) for row in values])
    if not all(_equal(value, every[0]) for value in every):
        raise NotSharedError(f"the runs' optimizers differ in {key}")
    return copy.deepcopy(every[0])


def _equal(a: Any, b: Any) -> bool:  # noqa: ANN401
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    return type(a) is type(b) and a == b


def _check_options(optimizers: Sequence[Optimizer]) -> None:
    """Refuse optimizers whose groups differ in more than the lr."""
    first = optimizers[0]
    for other in optimizers[1:]:
        for a, b in zip(first.param_groups, other.param_groups, strict=True):
            for key in (a.keys() | b.keys()) - set(_PER_RUN):
                if not _equal(a.get(key), b.get(key)):
                    raise NotSharedError(f"the runs' optimizers differ in {key}")
        if _attributes(first) != _attributes(other):
            raise NotSharedError("the runs' optimizers differ in an attribute")


def _attributes(optimizer: Optimizer) -> dict[str, Any]:
    """The attributes that torch does not copy."""
    return {key: value for key, value in vars(optimizer).items() if key not in COPIED_BY_TORCH}


def _rebuilt(
    optimizer: Optimizer, flats: Sequence[_Flat], states: Sequence[dict[str, Any]]
) -> Optimizer:
    """A copy of the optimizer that holds the flat parameters, with these states and lr = 1."""
    state = optimizer.state
    optimizer.state = defaultdict(dict)
    try:
        twin = copied_optimizer(optimizer, kept_parameters(optimizer))
    finally:
        optimizer.state = state
    for number, group in enumerate(twin.param_groups):
        group["params"] = [flat.tensor for flat in flats if flat.group == number]
        group["lr"] = 1.0
    for flat, values in zip(flats, states, strict=True):
        if values:
            twin.state[flat.tensor] = values
    return twin
