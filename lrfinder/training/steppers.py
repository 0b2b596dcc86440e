"""Optimizers over stacked parameters: one for all runs, or one for each.

An update of most optimizers is elementwise in the parameters and proportional to the lr. Then one
optimizer of the user's type serves all runs: with lr = 1 it makes a step ``old -> new``, and a run
with the lr of its own goes to ``old + lr * (new - old)``. Whether that is exact is found out by an
experiment (`exact_ways`) and never decided by name. `OneOptimizer` works on one flat tensor
[runs, numbers] per parameter group, whose slices are the stacked parameters; a step is rounded to
the precision of the parameters before the lr scales it. `ManyOptimizers` keeps the optimizer of
every run, on views of the run's rows: exact for any optimizer, and slower for small models.
"""

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.copies import COPIED_BY_TORCH, copied_optimizer
from lrfinder.errors import LRFinderError

Floats = NDArray[np.float64]
_PER_RUN = ("params", "lr", "initial_lr")
"""Options of a parameter group that may differ between runs of one optimizer."""
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


class NotOneError(LRFinderError):
    """The optimizers of several runs cannot be made one."""


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


@dataclass
class _Flat:
    """The parameters of one group and type, one after another: [runs, numbers]."""

    group: int
    members: list[int]
    shapes: list[torch.Size]
    tensor: Tensor

    def views(self) -> dict[int, Tensor]:
        parts = self.tensor.detach().split([shape.numel() for shape in self.shapes], dim=1)
        pairs = zip(self.members, self.shapes, parts, strict=True)
        return {k: part.view(len(part), *shape).requires_grad_() for k, shape, part in pairs}


class OneOptimizer:
    """One optimizer for all runs, which steps with lr = 1."""

    def __init__(self, optimizer: Optimizer, flats: list[_Flat]) -> None:
        self._optimizer, self._flats = optimizer, flats
        self.tensors: dict[int, Tensor] = {}
        for flat in flats:
            self.tensors |= flat.views()
        self._lrs: list[tuple[Tensor, ...]] = []

    @classmethod
    def of(
        cls, runs: Sequence[Member], trained: Sequence[int], *, fused: bool = False
    ) -> "OneOptimizer":
        """Join the optimizers of runs; `trained` are the parameters that get gradients.

        With `fused`, optimizers that have a fused kernel and were not asked for another use it.
        Raises NotOneError where their options or states do not allow it.
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
        with torch.no_grad():
            before = [flat.tensor.clone() for flat in self._flats]
            for flat in self._flats:
                flat.tensor.grad = torch.cat([gradients[k].flatten(1) for k in flat.members], 1)
            self._optimizer.step()
            for flat, old, lrs in zip(self._flats, before, self._lrs, strict=True):
                torch.lerp(old, flat.tensor, lrs[update], out=flat.tensor)

    def taken(self, rows: Sequence[int]) -> "OneOptimizer":
        """Return an independent copy of some runs."""
        index = torch.tensor(rows, dtype=torch.long, device=self._flats[0].tensor.device)
        flats = [_Flat(f.group, f.members, f.shapes, f.tensor[index]) for f in self._flats]
        states = [self._rows_of_state(flat, index) for flat in self._flats]
        return OneOptimizer(_rebuilt(self._optimizer, flats, states), flats)

    def _rows_of_state(self, flat: _Flat, index: Tensor) -> dict[str, Any]:
        return {
            key: value[index]
            if isinstance(value, Tensor) and value.shape == flat.tensor.shape
            else copy.deepcopy(value)
            for key, value in self._optimizer.state.get(flat.tensor, {}).items()
        }


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
                optimizer, _kept(optimizer) | {id(old[k]): v for k, v in views.items()}
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


def may_be_fused(optimizer: Optimizer, device: torch.device) -> bool:
    """Whether a fused kernel may be tried: on a processor torch takes it on request only."""
    return device.type == "cpu" and all(
        "fused" in group and group["fused"] is None and not group.get("foreach")
        for group in optimizer.param_groups
    )


def why_not_stacked(optimizer: Optimizer) -> str | None:
    """One line that says why an optimizer cannot step stacked parameters, found without a step.

    A hook, or an attribute that is more than plain values, may hold on to what is not stacked.
    """
    name = type(optimizer).__name__
    for attribute, value in vars(optimizer).items():
        if attribute in _STEP_HOOKS and value:
            return f"{name} has a hook on its step"
        if attribute not in COPIED_BY_TORCH and not _plain(value):
            return f"{name} has an attribute {attribute} that is not a plain value"
    return None


def _plain(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, Mapping):
        return all(_plain(one) for pair in cast(Mapping[Any, Any], value).items() for one in pair)
    if isinstance(value, (list, tuple, set)):
        return all(_plain(one) for one in cast(Collection[Any], value))
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device))


@dataclass(frozen=True)
class ExactWays:
    """Which steppers step runs like optimizers of their own do."""

    one: bool
    """One optimizer serves all runs."""
    fused: bool
    """It does so with a fused kernel."""
    why_not_many: str | None
    """One line that says why not even an optimizer per run can step stacked parameters."""


def exact_ways(runs: Sequence[Member], trained: Sequence[int], *, fused: bool) -> ExactWays:
    """Find out which steppers are exact, by trying; a fused kernel only where asked for.

    Small tensors of the same number of dimensions take steps along random gradients of many
    magnitudes, each run with the lr of its own, in float64. They are compared with optimizers that
    step tensors of their own.
    """
    trial = _Experiment(runs, trained)
    by_fused = fused and trial.one_is_exact(fused=True)
    one = by_fused or trial.one_is_exact(fused=False)
    return ExactWays(one, by_fused, trial.why_not_many())


class _Experiment:
    """Steps of small runs, which steppers must repeat."""

    def __init__(self, runs: Sequence[Member], trained: Sequence[int]) -> None:
        numbers = torch.Generator().manual_seed(0)
        self._runs, self._trained = [_small(run, trained, numbers) for run in runs], trained
        groups = len(runs[0].optimizer.param_groups)
        self._lrs = np.random.default_rng(0).uniform(0.001, 0.1, (len(runs), _STEPS, groups))
        parameters = self._runs[0].parameters
        self._gradients = [
            {k: _gradients(len(runs), p, numbers) for k, p in parameters.items()}
            for _ in range(_STEPS)
        ]
        self._expected = self._alone()

    def one_is_exact(self, *, fused: bool) -> bool:
        """Whether one optimizer for all runs steps them alike."""
        try:
            one = OneOptimizer.of(self._runs, self._trained, fused=fused)
            _make(one, self._lrs, self._gradients)
        except Exception:  # whatever it was, the other way is open
            return False
        return self._agree(one)

    def why_not_many(self) -> str | None:
        """One line that says why an optimizer per run does not step its rows alike."""
        many = ManyOptimizers.of(self._runs, self._trained)
        _make(many, self._lrs, self._gradients)
        name = type(self._runs[0].optimizer).__name__
        if not many.attached():
            return f"{name} replaces the data of its parameters instead of changing it in place"
        return None if self._agree(many) else f"{name} steps stacked parameters differently"

    def _alone(self) -> dict[int, Tensor]:
        """Parameters [runs, ...] after the steps of optimizers on copies of their own."""
        ends: list[dict[int, Tensor]] = []
        for row, run in enumerate(self._runs):
            own = {k: nn.Parameter(p.detach().clone()) for k, p in run.parameters.items()}
            memo = _kept(run.optimizer) | {id(run.parameters[k]): p for k, p in own.items()}
            optimizer = copied_optimizer(run.optimizer, memo)
            for update, gradients in enumerate(self._gradients):
                for k, parameter in own.items():
                    parameter.grad = gradients[k][row].clone()
                for group, lr in zip(optimizer.param_groups, self._lrs[row, update], strict=True):
                    group["lr"] = float(lr)
                optimizer.step()
            ends.append({k: parameter.detach() for k, parameter in own.items()})
        return {k: torch.stack([end[k] for end in ends]) for k in self._trained}

    def _agree(self, stepper: Stepper) -> bool:
        pairs = [(stepper.tensors[k].detach(), self._expected[k]) for k in self._trained]
        return all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs)


def _gradients(runs: int, parameter: Tensor, numbers: torch.Generator) -> Tensor:
    """Random gradients [runs, ...] of a parameter, of another magnitude for every run."""
    drawn = torch.randn((runs, *parameter.shape), generator=numbers, dtype=torch.float64)
    scale = 10 ** (3 * torch.randn(runs, generator=numbers, dtype=torch.float64))
    return (drawn * scale.view(-1, *[1] * parameter.ndim)).to(parameter.device)


def _make(stepper: Stepper, lrs: Floats, gradients: Sequence[Mapping[int, Tensor]]) -> None:
    stepper.plan(lrs)
    for update, gradient in enumerate(gradients):
        stepper.step(update, gradient, ())


_STEPS = 12  # past the start-up phases of optimizers that have one
_SMALL = 5  # rows of a dimension in the experiment


def _small(run: Member, trained: Sequence[int], numbers: torch.Generator) -> Member:
    """The run with small random parameters of as many dimensions, and its state cut alike."""
    held = [(k, run.parameters[k]) for k in trained]
    small = {k: _normal([min(n, _SMALL) for n in p.shape], numbers, p.device) for k, p in held}
    memo = _kept(run.optimizer)
    memo |= {id(run.parameters[k]): tensor for k, tensor in small.items()}
    for k, old in held:
        for key, value in run.optimizer.state.get(old, {}).items():
            if _elementwise(key, value, old):
                memo[id(value)] = _cut(value, small[k])
    return Member(copied_optimizer(run.optimizer, memo), small)


def _cut(value: Tensor, like: Tensor) -> Tensor:
    part = value.detach()[tuple(slice(n) for n in like.shape)]
    return part.to(like.device, like.dtype if part.is_floating_point() else part.dtype).clone()


def _normal(shape: Sequence[int], numbers: torch.Generator, device: torch.device) -> Tensor:
    """Random numbers in float64 on the device, or on the processor where it has no float64."""
    drawn = torch.randn(tuple(shape), generator=numbers, dtype=torch.float64)
    return drawn if device.type == "mps" else drawn.to(device)


def _elementwise(key: str, value: Any, parameter: Tensor) -> bool:  # noqa: ANN401
    """Whether a value of an optimizer's state belongs to the elements of its parameter."""
    a_count = parameter.ndim == 0 and key == "step"
    return isinstance(value, Tensor) and value.shape == parameter.shape and not a_count


def _by_group_and_type(run: Member, trained: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The trained parameters of each group, those of every type apart."""
    index = {id(run.parameters[k]): k for k in trained}
    found: dict[tuple[int, torch.dtype], list[int]] = {}
    for number, group in enumerate(run.optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) in index:
                key = number, parameter.dtype
                found.setdefault(key, []).append(index[id(parameter)])
    return [(number, members) for (number, _), members in found.items()]


def _flat(runs: Sequence[Member], members: list[int]) -> Tensor:
    rows = [[run.parameters[k].detach().flatten() for k in members] for run in runs]
    return torch.stack([torch.cat(row) for row in rows])


def _joined_state(runs: Sequence[Member], flat: _Flat) -> dict[str, Any]:
    """The state of the flat parameter, joined from those of the parameters in it."""
    states = [
        [run.optimizer.state.get(run.parameters[k], {}) for k in flat.members] for run in runs
    ]
    keys = states[0][0].keys()
    if any(state.keys() != keys for row in states for state in row):
        raise NotOneError("the runs' optimizers hold different states")
    return {key: _joined_value(key, runs, flat, states) for key in keys}


def _joined_value(
    key: str, runs: Sequence[Member], flat: _Flat, states: Sequence[Sequence[Mapping[str, Any]]]
) -> Any:  # noqa: ANN401
    values = [[state[key] for state in row] for row in states]
    parameters = [run.parameters[k] for run in runs for k in flat.members]
    every = [value for row in values for value in row]
    if all(_elementwise(key, v, p) for v, p in zip(every, parameters, strict=True)):
        return torch.stack([torch.cat([v.detach().flatten() for v in row]) for row in values])
    if not all(_equal(value, every[0]) for value in every):
        raise NotOneError(f"the runs' optimizers differ in {key}")
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
                    raise NotOneError(f"the runs' optimizers differ in {key}")
        if _attributes(first) != _attributes(other):
            raise NotOneError("the runs' optimizers differ in an attribute")


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
        twin = copied_optimizer(optimizer, _kept(optimizer))
    finally:
        optimizer.state = state
    for number, group in enumerate(twin.param_groups):
        group["params"] = [flat.tensor for flat in flats if flat.group == number]
        group["lr"] = 1.0
    for flat, values in zip(flats, states, strict=True):
        if values:
            twin.state[flat.tensor] = values
    return twin


def _kept(optimizer: Optimizer) -> dict[int, Any]:
    """A memo for copy.deepcopy that keeps the optimizer's parameters as they are."""
    return {id(p): p for group in optimizer.param_groups for p in group["params"]}
