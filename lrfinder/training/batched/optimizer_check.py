"""Which steppers step runs like optimizers of their own do: found by an experiment.

It is never decided by name. What an optimizer holds may forbid to stack its parameters; else small
runs of it are stepped in every way, and what agrees is exact.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.tasks.state.optimizer_copies import COPIED_BY_TORCH, copied_optimizer, counts_steps
from lrfinder.training.batched.optimizers import (
    PerRunOptimizers,
    RunParameters,
    SharedOptimizer,
    Stepper,
    elementwise,
    kept_parameters,
)
from lrfinder.training.trainers.optimizer_modes import has_modes

_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_STEPS = 12  # past the start-up phases of optimizers that have one
_SMALL = 5  # rows of a dimension in the experiment


@dataclass(frozen=True)
class OptimizerCheck:
    """Which steppers step runs like optimizers of their own do."""

    one: bool
    """One optimizer serves all runs."""
    fused: bool
    """It does so with a fused kernel."""
    why_not_many: str | None
    """One line that says why not even an optimizer per run can step stacked parameters."""


def may_be_fused(optimizer: Optimizer, device: torch.device) -> bool:
    """Whether a fused kernel may be tried: on a processor torch takes it on request only.

    No fused kernel takes complex parameters.

    It takes 7 to 13% off an update of 8 to 128 runs of an MLP 64-128-10 with Adam, and 0 to 4% with
    SGD and momentum (CPU time, one thread, medians of 9).
    """
    return device.type == "cpu" and all(
        "fused" in group
        and group["fused"] is None
        and not group.get("foreach")
        and not any(parameter.is_complex() for parameter in group["params"])
        for group in optimizer.param_groups
    )


def why_not_stacked(optimizer: Optimizer) -> str | None:
    """One line that says why an optimizer cannot step stacked parameters, found without a step.

    A hook, or an attribute that is more than plain values, may hold on to what is not stacked.
    """
    name = type(optimizer).__name__
    if has_modes(optimizer):
        return f"{name} switches between train() and eval()"
    for attribute, value in vars(optimizer).items():
        if attribute in _STEP_HOOKS and value:
            return f"{name} has a hook on its step"
        if attribute in COPIED_BY_TORCH or counts_steps(optimizer, attribute, value):
            continue
        if not _plain(value):
            kind = type(value).__name__
            return f"{name} keeps a {kind} ({attribute}) that runs trained together would share"
    return None


def check_optimizers(
    runs: Sequence[RunParameters], trained: Sequence[int], *, fused: bool
) -> OptimizerCheck:
    """Find out which steppers are exact, by trying; a fused kernel only where asked for.

    Small tensors of the same number of dimensions take steps along random gradients of many
    magnitudes, each run with the lr of its own, in float64. They are compared with optimizers that
    step tensors of their own.
    """
    trial = _Experiment(runs, trained)
    by_fused = fused and trial.one_is_exact(fused=True)
    one = by_fused or trial.one_is_exact(fused=False)
    return OptimizerCheck(one, by_fused, trial.why_not_many())


class _Experiment:
    """Steps of small runs, which steppers must repeat."""

    def __init__(self, runs: Sequence[RunParameters], trained: Sequence[int]) -> None:
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
            one = SharedOptimizer.of(self._runs, self._trained, fused=fused)
            _make(one, self._lrs, self._gradients)
        except Exception:  # whatever it was, the other way is open
            return False
        return self._agree(one)

    def why_not_many(self) -> str | None:
        """One line that says why an optimizer per run does not step its rows alike."""
        many = PerRunOptimizers.of(self._runs, self._trained)
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
            memo = kept_parameters(run.optimizer) | {
                id(run.parameters[k]): p for k, p in own.items()
            }
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


def _small(run: RunParameters, trained: Sequence[int], numbers: torch.Generator) -> RunParameters:
    """The run with small random parameters of as many dimensions, and its state cut alike."""
    held = [(k, run.parameters[k]) for k in trained]
    small = {k: _normal([min(n, _SMALL) for n in p.shape], numbers, p.device) for k, p in held}
    memo = kept_parameters(run.optimizer)
    memo |= {id(run.parameters[k]): tensor for k, tensor in small.items()}
    for k, old in held:
        for key, value in run.optimizer.state.get(old, {}).items():
            if elementwise(key, value, old):
                memo[id(value)] = _cut(value, small[k])
    return RunParameters(copied_optimizer(run.optimizer, memo), small)


def _cut(value: Tensor, like: Tensor) -> Tensor:
    part = value.detach()[tuple(slice(n) for n in like.shape)]
    return part.to(like.device, like.dtype if part.is_floating_point() else part.dtype).clone()


def _normal(shape: Sequence[int], numbers: torch.Generator, device: torch.device) -> Tensor:
    """Random numbers in float64 on the device, or on the processor where it has no float64."""
    drawn = torch.randn(tuple(shape), generator=numbers, dtype=torch.float64)
    return drawn if device.type == "mps" else drawn.to(device)


def _plain(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, Mapping):
        return all(_plain(one) for pair in cast(Mapping[Any, Any], value).items() for one in pair)
    if isinstance(value, (list, tuple, set)):
        return all(_plain(one) for one in cast(Collection[Any], value))
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device))
