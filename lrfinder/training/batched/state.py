"""The runs of the batched trainer: stacked when they start, copied by their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.live import stand_in
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.sources import Feed
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.training.batched.module_state import Attributes, Template
from lrfinder.training.batched.optimizers import (
    NotSharedError,
    PerRunOptimizers,
    RunParameters,
    SharedOptimizer,
    Stepper,
)
from lrfinder.training.batched.program import ParameterRoles, Program
from lrfinder.training.batched.replay.steps import Recordings
from lrfinder.training.batched.runs import SeedLayout, StackedRuns
from lrfinder.training.batched.trial_step import BatchingPlan, shared_parameters
from lrfinder.training.trainers.building import build_model, build_optimizer, device_of

_CACHED = 2**17  # parameters; with more of them, runs are stepped faster one by one

_WORTH_RECORDING = 100  # updates of a training; recording takes as long as some tens of them


@dataclass
class BatchedState:
    """Runs that stand at the same update."""

    task: Task
    plan: BatchingPlan
    device: torch.device
    program: Program
    population: StackedRuns
    stepper: Stepper
    stand_ins: list[Optimizer]
    streams: dict[int, Stream]
    """Random states of each seed; its runs draw the same numbers."""
    feeds: dict[int, Feed]
    update: int = 0
    """Updates that were made."""
    broken: frozenset[int] = frozenset()
    """Runs that had a loss that is not finite; what they do from then on does not matter."""
    raised: dict[int, str] = field(default_factory=dict[int, str])
    """What the task raised in runs that have diverged by it, in one line, by their place."""
    last: Mapping[int, Sequence[Batch]] = field(default_factory=dict[int, Sequence[Batch]])
    """Micro-batches of the last update, by seed."""

    def __len__(self) -> int:
        return len(self.population.layout.seeds)

    @property
    def draws_globally(self) -> bool:
        """Whether training draws from the global random states: its one seed's, put there."""
        return self.plan.random and len(self.population.layout.distinct) == 1

    def gradients(self, micro_batches: Sequence[Sequence[Batch]]) -> tuple[Tensor, list[Tensor]]:
        """Mean losses of the micro-batches, one per distinct seed each, and their gradients.

        Raises whatever the task raises in any run.
        """
        streams = [self.streams[seed] for seed in self.population.layout.distinct]
        total: Tensor | None = None
        sums: list[Tensor] = []
        for batches in micro_batches:
            parts = len(micro_batches)
            losses, gradients = self.program.gradients(self.population, batches, streams, parts)
            if total is None:
                total, sums = losses if parts == 1 else _as_float64(losses), gradients
            else:
                total = total + _as_float64(losses)
                sums = [a + b for a, b in zip(sums, gradients, strict=True)]
        if total is None:
            raise InvalidArgument("an update must have a batch, but got none")
        return total, sums


@dataclass(frozen=True)
class _Built:
    """What a seed gives."""

    template: Template
    random: Stream


def start_runs(
    task: Task,
    plan: BatchingPlan,
    device: torch.device | None,
    seeds: Sequence[int],
    lrs: Sequence[float],
) -> BatchedState:
    """Build one model per seed and one optimizer per run, and stack them."""
    built: dict[int, _Built] = {}
    for seed in dict.fromkeys(seeds):
        model, random = build_model(task, seed, device)
        built[seed] = _Built(Template(model), random)
    _check_alike([one.template for one in built.values()])
    streams: dict[int, Stream] = {}
    members: list[RunParameters] = []
    for seed, lr in zip(seeds, lrs, strict=True):
        template, streams[seed] = built[seed].template, built[seed].random.copy()
        optimizer = build_optimizer(task, template.model, lr, streams[seed])
        members.append(RunParameters(optimizer, dict(enumerate(template.parameters))))
    templates = [built[seed].template for seed in seeds]
    program, population, stepper = _stacked(task, plan, device, templates, members, seeds)
    source = task.data(device).source
    return BatchedState(
        task=task,
        plan=plan,
        device=device_of(templates[0].model),
        program=program,
        population=population,
        stepper=stepper,
        stand_ins=[stand_in(member.optimizer) for member in members],
        streams=streams,
        feeds={seed: Feed(source, seed) for seed in built},
    )


def select_runs(state: BatchedState, rows: Sequence[int], feeds: dict[int, Feed]) -> BatchedState:
    """Copies of runs, with everything that determines how they go on."""
    index = list(rows)
    stepper, old = state.stepper.select(index), state.population
    seeds = [old.layout.seeds[row] for row in index]
    pairs = zip(state.program.roles.leaves, old.leaves, strict=True)
    population = StackedRuns(
        layout=SeedLayout.of(seeds, state.device),
        leaves=[
            stepper.tensors[k] if k in stepper.tensors else t.detach()[index].requires_grad_()
            for k, t in pairs
        ],
        fixed=[t[index] for t in old.fixed],
        buffers=[t[index] for t in old.buffers],
    )
    return replace(
        state,
        population=population,
        stepper=stepper,
        stand_ins=[state.stand_ins[row] for row in index],
        streams={seed: state.streams[seed].copy() for seed in seeds},
        feeds={seed: feeds[seed] for seed in seeds},
        broken=frozenset(place for place, row in enumerate(index) if row in state.broken),
        raised={p: state.raised[row] for p, row in enumerate(index) if row in state.raised},
    )


def _stacked(
    task: Task,
    plan: BatchingPlan,
    place: torch.device | None,
    templates: list[Template],
    members: list[RunParameters],
    seeds: Sequence[int],
) -> tuple[Program, StackedRuns, Stepper]:
    template, device = templates[0], device_of(templates[0].model)
    held = {id(p) for group in members[0].optimizer.param_groups for p in group["params"]}
    trained = [k for k in plan.with_gradient if id(template.parameters[k]) in held]
    leaves = tuple(trained) if task.clip_norm is None else plan.with_gradient
    distinct = list({id(t): t for t in templates}.values())
    shared = shared_parameters(distinct, leaves) if plan.shares else set[int]()
    every = range(len(template.parameters))
    roles = ParameterRoles(leaves, tuple(k for k in every if k not in leaves and k not in shared))
    stepper = _stepper(plan, members, trained)

    def column(k: int) -> Tensor:
        return torch.stack([t.parameters[k].detach() for t in templates])

    population = StackedRuns(
        layout=SeedLayout.of(seeds, device),
        leaves=[
            stepper.tensors[k] if k in stepper.tensors else column(k).requires_grad_()
            for k in leaves
        ],
        fixed=[column(k) for k in roles.fixed],
        buffers=[torch.stack(b) for b in zip(*(t.buffers for t in templates), strict=True)],
    )
    data = task.data(place)
    long = task.epochs * data.updates_per_epoch >= _WORTH_RECORDING
    recordings = data.findings.setdefault(Recordings, Recordings()) if long else None
    program = Program(
        task,
        template,
        device,
        roles,
        inside=plan.inside,
        random=plan.random,
        recordings=recordings,
    )
    return program, population, stepper


def _stepper(plan: BatchingPlan, members: list[RunParameters], trained: Sequence[int]) -> Stepper:
    """One optimizer, where that is exact and the parameters of many runs fit into the cache."""
    parameters = [members[0].parameters[k] for k in trained]
    numbers = sum(p.numel() for p in parameters)
    cached = numbers <= _CACHED or parameters[0].device.type != "cpu"
    if plan.one_optimizer and cached:
        try:
            return SharedOptimizer.of(members, trained, fused=plan.fused)
        except NotSharedError:  # options that follow the lr, as in weight_decay=lr / 10
            pass
    return PerRunOptimizers.of(members, trained)


def _check_alike(templates: list[Template]) -> None:
    attributes = Attributes(templates[0].model)
    for other in templates[1:]:
        name = attributes.difference(other.model)
        if name is not None:
            raise InvalidArgument(
                "the task cannot be batched, use SequentialTrainer: "
                f"the model's attribute {name} differs between seeds"
            )


def _as_float64(values: Tensor) -> Tensor:
    return values.cpu().double() if values.device.type == "mps" else values.double()
