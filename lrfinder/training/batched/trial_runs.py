"""The runs of a trial, trained and evaluated at once, and held against what plain steps show.

Losses, gradients, buffers and measures must agree with those of models that are trained alone.
"""

import math
from collections.abc import Container, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lrfinder.errors import LRFinderError
from lrfinder.tasks.data.batches import Batch, leaves_of
from lrfinder.tasks.state.random_states import Stream, derive
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe
from lrfinder.training.batched.module_state import Template, ignore_vmap_fallback_warning
from lrfinder.training.batched.program import ParameterRoles, Program
from lrfinder.training.batched.runs import SeedLayout, StackedRuns
from lrfinder.training.trainers.evaluation import eval_mode, evaluation_stream

SEEDS = tuple(derive(0, "trial", k) for k in range(2))
RUNS = (0, 0, 1)
"""Runs of the trial, by the place of their seed."""


class NotBatchableError(LRFinderError):
    """The task cannot be batched."""


@dataclass(frozen=True)
class Reference:
    """What a plain evaluation and a plain training step of one model show."""

    measures: dict[str, Tensor | float]
    loss: Tensor
    gradients: dict[int, Tensor]
    buffers: list[Tensor]
    activations: int
    """Bytes that the forward keeps for the backward."""
    draws: bool
    evaluation_draws: bool


class TrialRuns:
    """The same evaluation and training step, for the runs of the trial at once.

    They are the three, or the first of them; parameters that are shared are those of the template.
    """

    def __init__(
        self,
        task: Task,
        template: Template,
        device: torch.device,
        leaves: tuple[int, ...],
        stacks: tuple[list[Tensor], list[Tensor]],
        runs: Sequence[int] = RUNS,
        shared: Container[int] = (),
    ) -> None:
        self._task, self._template, self._device, self._runs = task, template, device, runs
        others = (k for k in range(len(template.parameters)) if k not in leaves)
        self._roles = ParameterRoles(leaves, tuple(k for k in others if k not in shared))
        self._stacks = stacks
        self._lineup = SeedLayout.of([SEEDS[k] for k in runs], device)

    def inside(
        self,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        seen: Sequence[Reference],
        *,
        random: bool,
    ) -> bool:
        """Whether the backward must be inside vmap; an exception where neither way is right."""
        if any(isinstance(leaf, PackedSequence) for leaf in leaves_of(batches[0])):
            raise NotBatchableError(
                "its batches hold packed sequences, which torch.func.vmap does not take"
            )
        try:
            self._train(batches, streams, seen, random=random, inside=False)
        except KeyboardInterrupt:
            raise
        except BaseException:  # the other way may do; if not, its message is raised
            self._train_inside(batches, streams, seen, random=random)
            return True
        return False

    def right(
        self,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        seen: Sequence[Reference],
        *,
        random: bool,
        inside: bool,
    ) -> bool:
        """Whether a training step is the plain one."""
        try:
            self._train(batches, streams, seen, random=random, inside=inside)
        except KeyboardInterrupt:
            raise
        except BaseException:  # the step has been made another way, so that the code is right
            return False
        return True

    def _train_inside(
        self,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        seen: Sequence[Reference],
        *,
        random: bool,
    ) -> None:
        """Make a step with the backward inside vmap; what that refuses is said to be its refusal.

        The step has been made without it, so that the task's own code is right.
        """
        try:
            self._train(batches, streams, seen, random=random, inside=True)
        except (KeyboardInterrupt, LRFinderError):
            raise
        except BaseException as error:
            raise NotBatchableError(
                f"torch.func.vmap does not take its training step ({describe(error)})"
            ) from error

    def together(self, batch: Batch, seen: Sequence[Reference]) -> tuple[str, ...]:
        """Measures that come out right for all runs at once.

        Where evaluating draws random numbers, it is all measures or none: a measure computed for
        itself would draw others.
        """
        names = tuple(name for name in seen[0].measures if self._measures(batch, name, seen))
        draws = any(one.evaluation_draws for one in seen)
        return () if draws and len(names) < len(seen[0].measures) else names

    def _program(self, *, inside: bool, random: bool) -> Program:
        return Program(
            self._task, self._template, self._device, self._roles, inside=inside, random=random
        )

    def _population(self) -> StackedRuns:
        parameters, buffers = self._stacks
        runs = slice(len(self._runs))
        leaves = [parameters[k][runs].clone().requires_grad_() for k in self._roles.leaves]
        fixed = [parameters[k][runs] for k in self._roles.fixed]
        return StackedRuns(self._lineup, leaves, fixed, [b[runs].clone() for b in buffers])

    def _train(
        self,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        seen: Sequence[Reference],
        *,
        random: bool,
        inside: bool,
    ) -> None:
        """Make a training step; an exception where it is not the plain one."""
        population = self._population()
        seeds = len(self._lineup.distinct)
        copies = [stream.copy() for stream in streams[:seeds]]
        one_call = random and seeds == 1  # it draws from what is active
        with ignore_vmap_fallback_warning(), copies[0].active() if one_call else nullcontext():
            losses, gradients = self._program(inside=inside, random=random).gradients(
                population, batches[:seeds], copies
            )
        for row, seed in enumerate(self._runs):
            plain = seen[seed]
            expected = [plain.gradients[k] for k in self._roles.leaves]
            agree = [
                self._agree([losses[row]], [plain.loss]),
                self._agree([t[row] for t in gradients], expected),
                self._agree([t[row] for t in population.buffers], plain.buffers),
            ]
            if not all(agree):
                raise NotBatchableError("runs trained together differ from runs trained alone")

    def _measures(self, batch: Batch, name: str, seen: Sequence[Reference]) -> bool:
        program, stream = self._program(inside=False, random=False), evaluation_stream(self._device)
        try:
            with eval_mode(program.modules), stream.active(), ignore_vmap_fallback_warning():
                (found,) = program.measure(self._population(), batch, [name])
        except KeyboardInterrupt:
            raise
        except BaseException:  # it is measured run by run
            return False
        expected = [torch.as_tensor(seen[seed].measures[name]) for seed in self._runs]
        return all(self._agree([a], [b]) for a, b in zip(found, expected, strict=True))

    def _agree(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
        """Whether results are the same but for rounding in the task's own precision.

        The largest of them is the measure: a gradient that is zero in theory is all rounding.
        """
        a = _numbers(found)
        b = _numbers(expected)
        scale = float(b.abs().max()) if b.numel() else 0.0
        if not math.isfinite(scale):  # the task fails where it is trained
            return True
        return torch.allclose(a, b, rtol=0, atol=self._tolerance() * scale, equal_nan=True)

    def _tolerance(self) -> float:
        if self._task.autocast is not None:
            return 0.1
        precise = all(p.dtype == torch.float64 for p in self._template.parameters)
        return 1e-8 if precise else 1e-2


def _numbers(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of the tensors in one, in float64."""
    flat = [tensor.detach().cpu().double().flatten() for tensor in tensors]
    return torch.cat(flat) if flat else torch.zeros(0)
