"""The runs of the batched trainer: stacked when they start, copied by their rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.batches import Batch
from lrfinder.tasks.random_states import Stream
from lrfinder.tasks.sources import Feed
from lrfinder.tasks.task import Task
from lrfinder.training.batched.module_state import Attributes, Template
from lrfinder.training.batched.optimizers import (
    ManyOptimizers,
    Member,
    NotOneError,
    OneOptimizer,
    Stepper,
)
from lrfinder.training.batched.program import Program, Roles
from lrfinder.training.batched.runs import Lineup, Population
from lrfinder.training.batched.trial_step import Way, shared_parameters
from lrfinder.training.building import build_model, build_optimizer, device_of

_CACHED = 2**17  # parameters; with more of them, runs are stepped faster one by one


@dataclass(frozen=True)
class _Kept:
    """A run's parameters and buffers when its loss was not finite."""

    parameters: list[Tensor]
    buffers: list[Tensor]


@dataclass
class BatchedState:
    """Runs that stand at the same update."""

    task: Task
    way: Way
    device: torch.device
    program: Program
    population: Population
    stepper: Stepper
    base_lrs: Floats
    streams: dict[int, Stream]
    """Random states of each seed; its runs draw the same numbers."""
    feeds: dict[int, Feed]
    update: int = 0
    """Updates that were made."""
    broken: dict[int, _Kept] = field(default_factory=dict[int, _Kept])
    """What runs were when a loss was not finite; they are trained no further."""

    def __len__(self) -> int:
        return len(self.population.lineup.seeds)

    def gradients(self, micro_batches: Sequence[Sequence[Batch]]) -> tuple[Tensor, list[Tensor]]:
        """Mean losses of the micro-batches, one per distinct seed each, and their gradients."""
        streams = [self.streams[seed] for seed in self.population.lineup.distinct]
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

    def notice_broken(self, losses: Tensor) -> None:
        """Keep what the runs are whose loss is not finite for the first time."""
        if math.isfinite(float(losses.sum())):
            return
        for row, finite in enumerate(losses.isfinite().tolist()):
            if not finite and row not in self.broken:
                self.broken[row] = _Kept(
                    [t.detach()[row].clone() for t in self.stepper.tensors.values()],
                    [t[row].clone() for t in self.population.buffers],
                )

    def put_back_broken(self) -> None:
        """Undo what later updates did to broken runs."""
        for row, kept in self.broken.items():
            for tensor, was in zip(self.stepper.tensors.values(), kept.parameters, strict=True):
                tensor.detach()[row] = was
            for tensor, was in zip(self.population.buffers, kept.buffers, strict=True):
                tensor[row] = was


@dataclass(frozen=True)
class _Built:
    """What a seed gives."""

    template: Template
    random: Stream


def started(
    task: Task, way: Way, device: torch.device | None, seeds: Sequence[int], lrs: Sequence[float]
) -> BatchedState:
    """Build one model per seed and one optimizer per run, and stack them."""
    built: dict[int, _Built] = {}
    for seed in dict.fromkeys(seeds):
        model, random = build_model(task, seed, device)
        built[seed] = _Built(Template(model), random)
    _check_alike([one.template for one in built.values()])
    streams: dict[int, Stream] = {}
    members: list[Member] = []
    for seed, lr in zip(seeds, lrs, strict=True):
        template, streams[seed] = built[seed].template, built[seed].random.copy()
        optimizer = build_optimizer(task, template.model, lr, streams[seed])
        members.append(Member(optimizer, dict(enumerate(template.parameters))))
    templates = [built[seed].template for seed in seeds]
    program, population, stepper = _stacked(task, way, templates, members, seeds)
    source = task.data(device).source
    groups = [member.optimizer.param_groups for member in members]
    return BatchedState(
        task=task,
        way=way,
        device=device_of(templates[0].model),
        program=program,
        population=population,
        stepper=stepper,
        base_lrs=np.array([[float(group["lr"]) for group in run] for run in groups]),
        streams=streams,
        feeds={seed: Feed(source, seed) for seed in built},
    )


def taken(state: BatchedState, rows: Sequence[int], feeds: dict[int, Feed]) -> BatchedState:
    """Copies of runs, with everything that determines how they go on."""
    index = list(rows)
    stepper, old = state.stepper.taken(index), state.population
    seeds = [old.lineup.seeds[row] for row in index]
    pairs = zip(state.program.roles.leaves, old.leaves, strict=True)
    population = Population(
        lineup=Lineup.of(seeds, state.device),
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
        base_lrs=state.base_lrs[index],
        streams={seed: state.streams[seed].copy() for seed in seeds},
        feeds={seed: feeds[seed] for seed in seeds},
        broken={place: state.broken[row] for place, row in enumerate(index) if row in state.broken},
    )


def _stacked(
    task: Task, way: Way, templates: list[Template], members: list[Member], seeds: Sequence[int]
) -> tuple[Program, Population, Stepper]:
    template, device = templates[0], device_of(templates[0].model)
    held = {id(p) for group in members[0].optimizer.param_groups for p in group["params"]}
    trained = [k for k in way.with_gradient if id(template.parameters[k]) in held]
    leaves = tuple(trained) if task.clip_norm is None else way.with_gradient
    distinct = list({id(t): t for t in templates}.values())
    shared = shared_parameters(distinct, leaves)
    every = range(len(template.parameters))
    roles = Roles(leaves, tuple(k for k in every if k not in leaves and k not in shared))
    stepper = _stepper(way, members, trained)

    def column(k: int) -> Tensor:
        return torch.stack([t.parameters[k].detach() for t in templates])

    population = Population(
        lineup=Lineup.of(seeds, device),
        leaves=[
            stepper.tensors[k] if k in stepper.tensors else column(k).requires_grad_()
            for k in leaves
        ],
        fixed=[column(k) for k in roles.fixed],
        buffers=[torch.stack(b) for b in zip(*(t.buffers for t in templates), strict=True)],
    )
    program = Program(task, template, device, roles, inside=way.inside, random=way.random)
    return program, population, stepper


def _stepper(way: Way, members: list[Member], trained: Sequence[int]) -> Stepper:
    """One optimizer, where that is exact and the parameters of many runs fit into the cache."""
    parameters = [members[0].parameters[k] for k in trained]
    numbers = sum(p.numel() for p in parameters)
    cached = numbers <= _CACHED or parameters[0].device.type != "cpu"
    if way.one_optimizer and cached:
        try:
            return OneOptimizer.of(members, trained, fused=way.fused)
        except NotOneError:  # options that follow the lr, as in weight_decay=lr / 10
            pass
    return ManyOptimizers.of(members, trained)


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
