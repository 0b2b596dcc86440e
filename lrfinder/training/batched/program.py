"""The stacked tensors of runs, and the one forward and backward that serves them all.

A `StackedRuns` holds tensors with a row per run, in three kinds: leaves (parameters that get a
gradient), fixed (other parameters that differ between runs) and buffers. Frozen parameters that are
the same in every run stay in the template, where a forward through them is computed once.

A `Program` computes losses and gradients with `torch.vmap` over `functional_call`. Backward goes
through the mapped forward, or is mapped with it (`inside`), which costs 1.2 to 1.6 times as much on
MLPs and CNNs and is the only way that takes recurrent layers. Runs of one seed see the same batches
and draw the same random numbers. So where nothing is random, all runs go in one call, each with its
seed's batch; where the task draws random numbers, the runs of each seed go in a call of their own
under ``randomness="same"``, which gives every row the numbers that a single run would draw.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lrfinder.errors import TaskFailed
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.whole_measures import whole_measures
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.training.batched.few_classes import quick
from lrfinder.training.batched.module_state import Template, dims_of, stack_batches
from lrfinder.training.batched.replay.steps import Computed, Recordings, Replay, Step
from lrfinder.training.batched.runs import StackedRuns
from lrfinder.training.trainers.evaluation import as_number, eval_mode


@dataclass(frozen=True)
class ParameterRoles:
    """Which of a template's parameters are leaves, and which are fixed; the rest is shared."""

    leaves: tuple[int, ...]
    fixed: tuple[int, ...]


class Program:
    """Losses, gradients and measures of a population."""

    def __init__(
        self,
        task: Task,
        template: Template,
        device: torch.device,
        roles: ParameterRoles,
        *,
        inside: bool,
        random: bool,
        recordings: Recordings | None = None,
    ) -> None:
        self.template, self.roles, self.random = template, roles, random
        measures = task.measures_on(device)
        self.measures = replace(
            measures, by_name={name: quick(f) for name, f in measures.by_name.items()}
        )
        self._device, self._inside = device, inside
        self._randomness = "same" if random else "error"
        self._places = _places(template.parameter_names, (*roles.leaves, *roles.fixed))
        self._buffers = _places(template.buffer_names, range(len(template.buffers)))
        self._loss = _Call(template.model, self.measures.loss)
        self._compute = self._plainly
        if recordings is not None and len(roles.leaves) + len(roles.fixed) == len(
            template.parameters
        ):
            self._compute = Replay(recordings, self._plainly, template.model, measures).compute

    @property
    def modules(self) -> list[nn.Module]:
        """What is in eval mode while it is evaluated."""
        return [self.template.model, *self.measures.modules.values()]

    def gradients(
        self,
        population: StackedRuns,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        parts: int = 1,
    ) -> tuple[Tensor, list[Tensor]]:
        """Losses [runs] of a batch per distinct seed, over `parts`, and the leaves' gradients.

        The streams, one per distinct seed, are drawn from where there are several calls; a single
        call draws from the states that are active.
        """
        if len(batches) == 1:
            return self._gradients(population, batches[0], parts)
        if not self.random:
            together = stack_batches(batches, population.layout.place)
            if together is not None:
                return self._gradients(population, together, parts, batched=True)
        return self._apart(population, batches, streams, parts)

    def gradients_of_run(
        self, population: StackedRuns, row: int, batch: Batch, parts: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss [1] of one run, over `parts`, and its leaves' gradients [1, ...]."""
        place = torch.tensor([row], device=self._device)
        one = population.only(place)
        found = self._gradients(one, batch, parts)
        for whole, part in zip(population.buffers, one.buffers, strict=True):
            whole[place] = part
        return found

    def measure(self, population: StackedRuns, batch: Batch, names: Sequence[str]) -> list[Tensor]:
        """Measures of one batch for every run: float64[runs] by name."""

        call = _Call(self.template.model, lambda model, one: self._numbers(model, one, names))

        def of_one(*tensors: list[Tensor]) -> tuple[list[Tensor], dict[int, Tensor]]:
            leaves, fixed, buffers = tensors
            values, moved = self._call(call, leaves, fixed, buffers, batch)
            return [torch.as_tensor(value, device=self._device) for value in values], moved

        values, moved = torch.vmap(of_one, randomness="same")(
            population.leaves, population.fixed, population.buffers
        )
        self._take_over(population.buffers, moved)
        return values

    def measure_run(
        self, population: StackedRuns, row: int, batch: Batch, names: Sequence[str]
    ) -> dict[str, Tensor | float]:
        """Measures of one batch for one run, by calling the model like any other."""
        one = population.run(row)
        call = _Call(self.template.model, lambda model, one: self._numbers(model, one, names))
        values, moved = self._call(call, one.leaves, one.fixed, one.buffers, batch)
        self._take_over(one.buffers, moved)
        return dict(zip(names, values, strict=True))

    def evaluate_run(self, population: StackedRuns, row: int, task: Task) -> list[Tensor | float]:
        """Measures of the whole set for one run, by name, by calling the task's `evaluate`."""

        def compute(model: nn.Module, _: Batch) -> list[Tensor | float]:
            if task.evaluate is None:
                return []
            values = whole_measures(task.evaluate, model, task.whole)
            return [as_number(name, value, self._device) for name, value in values.items()]

        one = population.run(row)
        call = _Call(self.template.model, compute)
        with eval_mode(self.modules):  # the one model serves all runs, whatever mode it is left in
            values, moved = self._call(call, one.leaves, one.fixed, one.buffers, None)
        self._take_over(one.buffers, moved)
        return values

    def _numbers(
        self, model: nn.Module, batch: Batch, names: Sequence[str]
    ) -> list[Tensor | float]:
        values = self.measures.measure(model, batch, names)
        return [as_number(name, values[name], self._device) for name in names]

    def _call(
        self,
        call: "_Call",
        leaves: list[Tensor],
        fixed: list[Tensor],
        buffers: list[Tensor],
        batch: Batch,
    ) -> tuple[Any, dict[int, Tensor]]:
        """Call the model with a run's tensors; returns what comes out, and buffers it replaced."""
        parameters = [*leaves, *fixed]
        tensors = {name: parameters[k] for name, k in self._places}
        tensors |= {name: buffers[k] for name, k in self._buffers}
        value = functional_call(call, tensors, (batch,), tie_weights=False)
        now = ((k, tensors[name]) for name, k in self._buffers)  # it put replaced buffers there
        return value, {k: tensor for k, tensor in now if tensor is not buffers[k]}

    def _of_one(self, parts: int) -> Callable[..., Any]:
        """The loss of one run, and the buffers that the model put in place of its own.

        With its gradients before it, where the backward is inside.
        """

        def loss(
            leaves: list[Tensor], fixed: list[Tensor], buffers: list[Tensor], batch: Batch
        ) -> tuple[Tensor, dict[int, Tensor]]:
            value, moved = self._call(self._loss, leaves, fixed, buffers, batch)
            return value if parts == 1 else value / parts, moved

        return torch.func.grad_and_value(loss, has_aux=True) if self._inside else loss

    def _gradients(
        self,
        population: StackedRuns,
        batch: Batch,
        parts: int,
        *,
        batched: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Losses and gradients in one call for all runs."""
        p = population
        computed = self._compute(Step(p.leaves, p.fixed, p.buffers, batch, batched, parts))
        self._take_over(p.buffers, computed.moved)
        return computed.losses, computed.gradients

    def _plainly(self, step: Step) -> Computed:
        """Compute a step by vmap; its backward is mapped with the forward, or goes through it."""
        dims = dims_of(step.batch) if step.batched else None
        call = torch.vmap(self._of_one(step.parts), (0, 0, 0, dims), randomness=self._randomness)
        if self._inside:
            leaves = [leaf.detach() for leaf in step.leaves]
            gradients, (losses, moved) = call(leaves, step.fixed, step.buffers, step.batch)
        else:
            losses, moved = call(step.leaves, step.fixed, step.buffers, step.batch)
            gradients = _given(torch.autograd.grad(losses.sum(), step.leaves, allow_unused=True))
        return Computed(losses.detach(), gradients, moved)

    def _apart(
        self,
        population: StackedRuns,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        parts: int,
    ) -> tuple[Tensor, list[Tensor]]:
        """One call for the runs of each seed, under the seed's random states."""
        layout = population.layout
        losses: list[Tensor] = []
        gradients: list[list[Tensor]] = []
        for rows, batch, stream in zip(layout.members, batches, streams, strict=True):
            some = population.only(rows)
            with stream.active() if self.random else nullcontext():
                loss, gradient = self._gradients(some, batch, parts)
            losses.append(loss)
            gradients.append(gradient)
            for whole, part in zip(population.buffers, some.buffers, strict=True):
                whole[rows] = part

        def joined(members: Sequence[Tensor]) -> Tensor:
            together = torch.cat(list(members))
            return together if layout.order is None else together[layout.order]

        return joined(losses), [joined(column) for column in zip(*gradients, strict=True)]

    def _take_over(self, buffers: list[Tensor], moved: dict[int, Tensor]) -> None:
        """Write the buffers that the model replaced into the population's own."""
        for k, tensor in moved.items():
            buffers[k].copy_(tensor.detach())


def _places(names: Sequence[Sequence[str]], chosen: Iterable[int]) -> list[tuple[str, int]]:
    """Every name, inside a `_Call`, of the chosen tensors, with its place among them."""
    pairs = enumerate(chosen)
    return [(f"model.{name}", place) for place, k in pairs for name in names[k]]


class _Call(nn.Module):
    """A model and what is computed with it, as one module that functional_call can call."""

    def __init__(self, model: nn.Module, compute: Callable[[nn.Module, Batch], Any]) -> None:
        super().__init__()
        self.model, self._compute = model, compute

    def forward(self, batch: Batch) -> Any:  # noqa: ANN401 (whatever is computed)
        return self._compute(self.model, batch)


def _given(gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients, of which none may be missing."""
    found = [gradient for gradient in gradients if gradient is not None]
    if len(found) < len(gradients):
        raise TaskFailed(
            "a parameter that had a gradient in the trial has none now, so the runs cannot be "
            "batched; use --engine sequential, or SequentialTrainer"
        )
    return found
