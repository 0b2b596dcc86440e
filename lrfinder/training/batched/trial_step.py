"""Whether a task can be batched, and how: found by trying a real step, never by name.

Two seeds train one batch and evaluate one, each with a model of its own; the same is done batched,
with one run of the one seed beside two of the other. Losses, gradients, buffers and measures must
agree. The trial shows whether the task draws random numbers, which parameters get a gradient, which
measures vmap takes, whether one optimizer can serve all runs, and how much memory a run needs. No
random state of the caller moves.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lrfinder.errors import LRFinderError, TaskFailed
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.measures import VALID_LOSS, check_has_gradient
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe
from lrfinder.training.batched.module_state import (
    Attributes,
    Template,
)
from lrfinder.training.batched.optimizer_check import (
    check_optimizers,
    may_be_fused,
    why_not_stacked,
)
from lrfinder.training.batched.optimizers import RunParameters
from lrfinder.training.batched.trial_runs import (
    RUNS,
    SEEDS,
    NotBatchableError,
    Reference,
    TrialRuns,
)
from lrfinder.training.trainers.at_start import Update, check_batch
from lrfinder.training.trainers.building import build_model, build_optimizer, device_of
from lrfinder.training.trainers.evaluation import as_number, eval_mode, evaluation_stream

_LRS = (0.001, 0.003, 0.01)
_CACHE = 2**21  # bytes
_DRAWS = 64  # plain steps that look for layers left out at random
_DRAWING = 0.5  # seconds that they may take
_RUNS_OF_ONE_SEED = RUNS[:2]


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


class _TrialStep:
    """An evaluation and a training step, plain and batched."""

    def __init__(self, task: Task, place: torch.device | None) -> None:
        self._task, self._place = task, place
        built = [build_model(task, seed, place) for seed in SEEDS]
        self._templates = [Template(model) for model, _ in built]
        self._streams = [stream for _, stream in built]
        self._device = device_of(built[0][0])
        self._measures = task.measures_on(self._device)
        self._optimizers = [
            build_optimizer(task, built[0][0], lr, self._streams[0].copy()) for lr in _LRS
        ]
        data = task.data(place)
        self._batches = [next(data.source.epoch(seed, 0)) for seed in SEEDS]
        self._evaluated: Batch = (
            data.first_evaluated if task.valid is not None else self._batches[0]
        )

    def plan(self) -> BatchingPlan:
        """How the task is batched; an exception says why it cannot be."""
        if self._task.autocast is torch.float16:
            raise NotBatchableError("float16 needs a gradient scaler of its own for each run")
        attributes = self._attributes()
        kept = {k: Attributes(m, tensors=True) for k, m in self._measures.modules.items()}
        stacks = self._stacks()
        streams = [stream.copy() for stream in self._streams]
        seen = [self._plainly(k) for k in range(len(SEEDS))]
        for seed, batch, one in zip(SEEDS, self._batches, seen, strict=True):
            if not all(torch.isfinite(t).all() for t in (one.loss, *one.gradients.values())):
                check_batch(self._task, self._place, Update(seed, 0, [batch]))
        random = any(one.draws for one in seen)
        constant = not random or self._always(tuple(seen[0].gradients))
        changed = attributes.changed(self._templates[0].model)
        if changed is not None:
            raise NotBatchableError(f"the model changes its attribute {changed}")
        self._check_functions(kept)
        leaves = tuple(seen[0].gradients)
        if any(tuple(other.gradients) != leaves for other in seen):
            raise NotBatchableError("which parameters get a gradient differs between runs")
        if not constant:
            raise NotBatchableError("which parameters get a gradient differs between updates")
        batched = TrialRuns(self._task, self._templates[0], self._device, leaves, stacks)
        one_optimizer, fused = self._one_optimizer(leaves)
        inside = batched.inside(self._batches, streams, seen, random=random)
        together = () if self._large(seen[0]) else batched.together(self._evaluated, seen)
        shares = all(
            self._shares(runs, stacks, streams, seen, together, random=random, inside=inside)
            for runs in (RUNS, _RUNS_OF_ONE_SEED)
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
        seen: Sequence[Reference],
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
        some = TrialRuns(self._task, template, device, leaves, stacks, runs, shared)
        right = some.right(self._batches, streams, seen, random=random, inside=inside)
        return right and set(some.together(self._evaluated, seen)) >= set(together)

    def _attributes(self) -> Attributes:
        first, second = (template.model for template in self._templates)
        attributes = Attributes(first)
        name = attributes.difference(second)
        if name is not None:
            raise NotBatchableError(f"the model's attribute {name} differs between seeds")
        return attributes

    def _check_functions(self, before: Mapping[str, Attributes]) -> None:
        """Refuse a loss or a metric that keeps something from call to call: all runs share it."""
        for name, module in self._measures.modules.items():
            changed = before[name].changed(module)
            if changed is not None:
                role = name if name in ("loss", VALID_LOSS) else f"metric {name}"
                raise NotBatchableError(f"the {role} changes its attribute {changed}")

    def _stacks(self) -> tuple[list[Tensor], list[Tensor]]:
        """Copies of the runs' parameters and buffers before anything moved."""
        chosen = [self._templates[k] for k in RUNS]
        parameters = zip(*(t.parameters for t in chosen), strict=True)
        buffers = zip(*(t.buffers for t in chosen), strict=True)
        return [torch.stack(p).detach() for p in parameters], [torch.stack(b) for b in buffers]

    def _plainly(self, seed: int) -> Reference:
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
        return Reference(
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
                raise NotBatchableError(reason)
        parameters = dict(enumerate(self._templates[0].parameters))
        trained = self._trained(leaves)
        stream = self._streams[0]
        before = stream.copy()
        runs = [RunParameters(o, parameters) for o in self._optimizers]
        with stream.active():
            fused = may_be_fused(self._optimizers[0], self._device)
            check = check_optimizers(runs, trained, fused=fused)
        if not stream.at(before):
            raise NotBatchableError("the optimizer draws random numbers")
        if check.why_not_many is not None:
            raise NotBatchableError(check.why_not_many)
        return check.one, check.fused

    def _trained(self, leaves: Sequence[int]) -> list[int]:
        """Those of the parameters with a gradient that an optimizer holds."""
        held = {id(p) for o in self._optimizers for g in o.param_groups for p in g["params"]}
        return [k for k in leaves if id(self._templates[0].parameters[k]) in held]

    def _evaluation_bytes(self, seen: Reference) -> float:
        """Memory of an evaluated batch, if all activations were kept."""
        rows = self._task.count
        return seen.activations * rows(self._evaluated) / max(1, rows(self._batches[0]))

    def _large(self, seen: Reference) -> bool:
        return self._device.type == "cpu" and self._evaluation_bytes(seen) > _CACHE

    def _bytes(self, seen: Reference) -> int:
        """Parameters eight times (gradients, optimizer, copies), and activations."""
        template = self._templates[0]
        parameters, buffers = (
            sum(t.numel() * t.element_size() for t in tensors)
            for tensors in (template.parameters, template.buffers)
        )
        activations = max(seen.activations, self._evaluation_bytes(seen) / 4)
        return int(8 * parameters + 3 * buffers + activations)
