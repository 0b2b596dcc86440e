"""Whether a task can be batched, and how: found by trying a real step, never by name.

Two seeds train one batch and evaluate one, each with a model of its own; the same is done batched,
with one run of the one seed beside two of the other. Losses, gradients, buffers and measures must
agree. The trial shows whether the task draws random numbers, which parameters get a gradient, which
measures vmap takes, whether one optimizer can serve all runs, and how much memory a run needs. No
random state of the caller moves.
"""

import math
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.rnn import PackedSequence

from lrfinder.errors import LRFinderError, TaskFailed
from lrfinder.tasks.data.batches import Batch, leaves_of
from lrfinder.tasks.fields.measures import VALID_LOSS, check_has_gradient
from lrfinder.tasks.state.random_states import Stream, derive
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe
from lrfinder.training.batched.module_state import (
    Attributes,
    Template,
    ignore_vmap_fallback_warning,
)
from lrfinder.training.batched.optimizer_check import (
    check_optimizers,
    may_be_fused,
    why_not_stacked,
)
from lrfinder.training.batched.optimizers import RunParameters
from lrfinder.training.batched.program import ParameterRoles, Program
from lrfinder.training.batched.runs import SeedLayout, StackedRuns
from lrfinder.training.trainers.at_start import Update, check_batch
from lrfinder.training.trainers.building import build_model, build_optimizer, device_of
from lrfinder.training.trainers.evaluation import as_number, eval_mode, evaluation_stream

_LRS = (0.001, 0.003, 0.01)
_SEEDS = tuple(derive(0, "trial", k) for k in range(2))
_CACHE = 2**21  # bytes
_DRAWS = 64  # plain steps that look for layers left out at random
_DRAWING = 0.5  # seconds that they may take
_RUNS = (0, 0, 1)
"""Runs of the trial, by the place of their seed."""
_RUNS_OF_ONE_SEED = _RUNS[:2]


@dataclass(frozen=True)
class BatchingPlan:
    """How a task is batched."""

    inside: bool
    """A backward for every run inside vmap, instead of one through it."""
    random: bool
    """Training draws random numbers."""
    with_gradient: tuple[int, ...]
    """Parameters that get a gradient, by their index in the template."""
    together: tuple[str, ...]
    """Measures of all runs at once; the others are computed run by run.

    All of them are, where vmap does not take them or the evaluation of one run fills the cache.
    """
    one_optimizer: bool
    """One optimizer serves all runs."""
    fused: bool
    """It does so with a fused kernel."""
    shares: bool
    """Parameters that are not trained, and are the same in every run, serve all runs at once."""
    bytes_per_run: int
    """Estimated memory that a run needs in training."""


def plan_of(task: Task, device: torch.device | None) -> BatchingPlan | str:
    """How the task is batched, or why it cannot be, in one line; tried once per task and device."""
    known = task.data(device).findings
    if BatchingPlan not in known:
        try:
            known[BatchingPlan] = _TrialStep(task, device).plan()
        except (KeyboardInterrupt, TaskFailed):
            raise
        except BaseException as error:  # of the user's code; it is reported where it is trained
            own = isinstance(error, LRFinderError)
            known[BatchingPlan] = str(error) if own else f"its code raised {describe(error)}"
    return known[BatchingPlan]


def shared_parameters(models: Sequence[Template], with_gradient: Sequence[int]) -> set[int]:
    """Parameters without a gradient that are the same in every model, by index."""
    columns = enumerate(zip(*(model.parameters for model in models), strict=True))
    return {
        k
        for k, column in columns
        if k not in with_gradient and all(torch.equal(column[0], other) for other in column[1:])
    }


class _NotBatchableError(LRFinderError):
    """The task cannot be batched."""


@dataclass(frozen=True)
class _Reference:
    """What a plain evaluation and a plain training step of one model show."""

    measures: dict[str, Tensor | float]
    loss: Tensor
    gradients: dict[int, Tensor]
    buffers: list[Tensor]
    activations: int
    """Bytes that the forward keeps for the backward."""
    draws: bool
    evaluation_draws: bool


class _TrialStep:
    """An evaluation and a training step, plain and batched."""

    def __init__(self, task: Task, place: torch.device | None) -> None:
        self._task, self._place = task, place
        built = [build_model(task, seed, place) for seed in _SEEDS]
        self._templates = [Template(model) for model, _ in built]
        self._streams = [stream for _, stream in built]
        self._device = device_of(built[0][0])
        self._measures = task.measures_on(self._device)
        self._optimizers = [
            build_optimizer(task, built[0][0], lr, self._streams[0].copy()) for lr in _LRS
        ]
        data = task.data(place)
        self._batches = [next(data.source.epoch(seed, 0)) for seed in _SEEDS]
        self._evaluated: Batch = (
            data.first_evaluated if task.valid is not None else self._batches[0]
        )

    def plan(self) -> BatchingPlan:
        """How the task is batched; an exception says why it cannot be."""
        if self._task.autocast is torch.float16:
            raise _NotBatchableError("float16 needs a gradient scaler of its own for each run")
        attributes = self._attributes()
        kept = {k: Attributes(m, tensors=True) for k, m in self._measures.modules.items()}
        stacks = self._stacks()
        streams = [stream.copy() for stream in self._streams]
        seen = [self._plainly(k) for k in range(len(_SEEDS))]
        for seed, batch, one in zip(_SEEDS, self._batches, seen, strict=True):
            if not all(torch.isfinite(t).all() for t in (one.loss, *one.gradients.values())):
                check_batch(self._task, self._place, Update(seed, 0, [batch]))
        random = any(one.draws for one in seen)
        constant = not random or self._always(tuple(seen[0].gradients))
        changed = attributes.changed(self._templates[0].model)
        if changed is not None:
            raise _NotBatchableError(f"the model changes its attribute {changed}")
        self._check_functions(kept)
        leaves = tuple(seen[0].gradients)
        if any(tuple(other.gradients) != leaves for other in seen):
            raise _NotBatchableError("which parameters get a gradient differs between runs")
        if not constant:
            raise _NotBatchableError("which parameters get a gradient differs between updates")
        batched = _Batched(self._task, self._templates[0], self._device, leaves, stacks)
        one_optimizer, fused = self._one_optimizer(leaves)
        inside = batched.inside(self._batches, streams, seen, random=random)
        together = () if self._large(seen[0]) else batched.together(self._evaluated, seen)
        shares = all(
            self._shares(runs, stacks, streams, seen, together, random=random, inside=inside)
            for runs in (_RUNS, _RUNS_OF_ONE_SEED)
        )
        return BatchingPlan(
            inside=inside,
            random=random,
            with_gradient=leaves,
            together=together,
            one_optimizer=one_optimizer,
            fused=fused,
            shares=shares,
            bytes_per_run=self._bytes(seen[0]),
        )

    def _shares(
        self,
        runs: Sequence[int],
        stacks: tuple[list[Tensor], list[Tensor]],
        streams: Sequence[Stream],
        seen: Sequence[_Reference],
        together: tuple[str, ...],
        *,
        random: bool,
        inside: bool,
    ) -> bool:
        """Whether these runs come out right where what they have in common is not stacked."""
        leaves = tuple(self._trained(tuple(seen[0].gradients)))
        shared = shared_parameters([self._templates[k] for k in dict.fromkeys(runs)], leaves)
        if not shared:
            return True
        template, device = self._templates[0], self._device
        some = _Batched(self._task, template, device, leaves, stacks, runs, shared)
        right = some.right(self._batches, streams, seen, random=random, inside=inside)
        return right and set(some.together(self._evaluated, seen)) >= set(together)

    def _attributes(self) -> Attributes:
        first, second = (template.model for template in self._templates)
        attributes = Attributes(first)
        name = attributes.difference(second)
        if name is not None:
            raise _NotBatchableError(f"the model's attribute {name} differs between seeds")
        return attributes

    def _check_functions(self, before: Mapping[str, Attributes]) -> None:
        """Refuse a loss or a metric that keeps something from call to call: all runs share it."""
        for name, module in self._measures.modules.items():
            changed = before[name].changed(module)
            if changed is not None:
                role = name if name in ("loss", VALID_LOSS) else f"metric {name}"
                raise _NotBatchableError(f"the {role} changes its attribute {changed}")

    def _stacks(self) -> tuple[list[Tensor], list[Tensor]]:
        """Copies of the runs' parameters and buffers before anything moved."""
        chosen = [self._templates[k] for k in _RUNS]
        parameters = zip(*(t.parameters for t in chosen), strict=True)
        buffers = zip(*(t.buffers for t in chosen), strict=True)
        return [torch.stack(p).detach() for p in parameters], [torch.stack(b) for b in buffers]

    def _plainly(self, seed: int) -> _Reference:
        """Evaluate and train the model of a seed like any other."""
        own, template, device = self._measures, self._templates[seed], self._device
        stream = evaluation_stream(device)
        before = stream.copy()
        modules = [template.model, *own.modules.values()]
        with eval_mode(modules), stream.active():  # what they keep must be seen
            values = own.measure(template.model, self._evaluated)
        measures = {name: as_number(name, value, device) for name, value in values.items()}
        start, saved = self._streams[seed].copy(), dict[int, int]()

        def keep(tensor: Tensor) -> Tensor:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with self._streams[seed].active(), saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = own.loss(template.model, self._batches[seed])
            check_has_gradient(loss)
            loss.backward()
        return _Reference(
            measures=measures,
            loss=loss.detach(),
            gradients={k: p.grad for k, p in enumerate(template.parameters) if p.grad is not None},
            buffers=[buffer.clone() for buffer in template.current_buffers()],
            activations=sum(saved.values()),
            draws=not self._streams[seed].at(start),
            evaluation_draws=not stream.at(before),
        )

    def _always(self, leaves: tuple[int, ...]) -> bool:
        """Whether these parameters get a gradient whatever random numbers are drawn."""
        template, end = self._templates[0], time.monotonic() + _DRAWING
        with self._streams[0].copy().active():
            for _ in range(_DRAWS):
                template.model.zero_grad(set_to_none=True)
                self._measures.loss(template.model, self._batches[0]).backward()
                given = enumerate(parameter.grad for parameter in template.parameters)
                if tuple(k for k, gradient in given if gradient is not None) != leaves:
                    return False
                if time.monotonic() > end:
                    break
        return True

    def _one_optimizer(self, leaves: Sequence[int]) -> tuple[bool, bool]:
        """Whether one optimizer serves all runs, and whether it does so with a fused kernel."""
        reasons = [why_not_stacked(optimizer) for optimizer in self._optimizers]
        for reason in reasons:
            if reason is not None:
                raise _NotBatchableError(reason)
        parameters = dict(enumerate(self._templates[0].parameters))
        trained = self._trained(leaves)
        stream = self._streams[0]
        before = stream.copy()
        runs = [RunParameters(o, parameters) for o in self._optimizers]
        with stream.active():
            fused = may_be_fused(self._optimizers[0], self._device)
            check = check_optimizers(runs, trained, fused=fused)
        if not stream.at(before):
            raise _NotBatchableError("the optimizer draws random numbers")
        if check.why_not_many is not None:
            raise _NotBatchableError(check.why_not_many)
        return check.one, check.fused

    def _trained(self, leaves: Sequence[int]) -> list[int]:
        """Those of the parameters with a gradient that an optimizer holds."""
        held = {id(p) for o in self._optimizers for g in o.param_groups for p in g["params"]}
        return [k for k in leaves if id(self._templates[0].parameters[k]) in held]

    def _evaluation_bytes(self, seen: _Reference) -> float:
        """Memory of an evaluated batch, if all activations were kept."""
        rows = self._task.count
        return seen.activations * rows(self._evaluated) / max(1, rows(self._batches[0]))

    def _large(self, seen: _Reference) -> bool:
        return self._device.type == "cpu" and self._evaluation_bytes(seen) > _CACHE

    def _bytes(self, seen: _Reference) -> int:
        """Parameters eight times (gradients, optimizer, copies), and activations."""
        template = self._templates[0]
        parameters, buffers = (
            sum(t.numel() * t.element_size() for t in tensors)
            for tensors in (template.parameters, template.buffers)
        )
        activations = max(seen.activations, self._evaluation_bytes(seen) / 4)
        return int(8 * parameters + 3 * buffers + activations)


class _Batched:
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
        runs: Sequence[int] = _RUNS,
        shared: Container[int] = (),
    ) -> None:
        self._task, self._template, self._device, self._runs = task, template, device, runs
        others = (k for k in range(len(template.parameters)) if k not in leaves)
        self._roles = ParameterRoles(leaves, tuple(k for k in others if k not in shared))
        self._stacks = stacks
        self._lineup = SeedLayout.of([_SEEDS[k] for k in runs], device)

    def inside(
        self,
        batches: Sequence[Batch],
        streams: Sequence[Stream],
        seen: Sequence[_Reference],
        *,
        random: bool,
    ) -> bool:
        """Whether the backward must be inside vmap; an exception where neither way is right."""
        if any(isinstance(leaf, PackedSequence) for leaf in leaves_of(batches[0])):
            raise _NotBatchableError(
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
        seen: Sequence[_Reference],
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
        seen: Sequence[_Reference],
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
            raise _NotBatchableError(
                f"torch.func.vmap does not take its training step ({describe(error)})"
            ) from error

    def together(self, batch: Batch, seen: Sequence[_Reference]) -> tuple[str, ...]:
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
        seen: Sequence[_Reference],
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
                raise _NotBatchableError("runs trained together differ from runs trained alone")

    def _measures(self, batch: Batch, name: str, seen: Sequence[_Reference]) -> bool:
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
