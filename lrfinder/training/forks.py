"""Whether a run can be forked: found by an experiment, never by name.

Plans that begin alike are trained once, and the run is copied where they part. That is exact only
where a copy goes on like its original and leaves it alone. What cannot be copied, such as a lock,
and what goes on using the original, such as a hook with a closure, forbids it: then every plan is
trained from its start.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lrfinder.arrays import Floats
from lrfinder.errors import TaskFailed
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.state.reach import held_of
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.driven import NO_COPIES
from lrfinder.training.trainers.sequential import SequentialState, SequentialTrainer
from lrfinder.training.trainers.trainer import AnyTrainer

_LR = 1e-3


@dataclass(frozen=True)
class Forking:
    """What the experiment showed."""

    why_not: str | None
    """One line that says why runs cannot be forked; None where they can."""


def why_not_forked(task: Problem, trainer: AnyTrainer) -> str | None:
    """One line that says why runs of the trainer cannot be forked; tried once per task and device.

    The batched trainer copies tensors alone, and refuses what holds more.
    """
    if isinstance(task, Loop):
        return NO_COPIES
    if not isinstance(trainer, SequentialTrainer):
        return None
    known = task.data(trainer.device).findings
    if Forking not in known:
        known[Forking] = Forking(_why_not(task, SequentialTrainer(trainer.device)))
    return known[Forking].why_not


def _why_not(task: Task, trainer: SequentialTrainer) -> str | None:
    state = trainer.start(task, [0], [_LR])
    groups = state.stand_ins[0].param_groups
    lrs = np.array([[[float(group["lr"]) for group in groups]]])
    trainer.advance(state, lrs)
    try:
        fork = trainer.fork(state, [0])
    except TaskFailed as error:
        return str(error)
    run, copy = state.runs[0], fork.runs[0]
    holding = held_of(run.model, run.optimizer, copy.model, copy.optimizer)
    if holding is not None:
        return f"{holding} holds on to the run that it was made for"
    on_processor = run.measures.device.type == "cpu"  # elsewhere the same sum may be rounded anew
    if on_processor and not _go_on_alike(trainer, fork, state, lrs):
        return "a copy of a run does not go on like the run itself"
    return None


def _go_on_alike(
    trainer: SequentialTrainer, fork: SequentialState, state: SequentialState, lrs: Floats
) -> bool:
    """Whether a fork, and then its original, do the same in two more updates and an evaluation."""
    batches = state.task.data(trainer.device).fixed_subset[:1]
    seen: list[list[Any]] = []
    for one in (fork, state):
        losses = trainer.advance(one, np.concatenate([lrs, lrs], axis=1))
        seen.append([losses, *trainer.evaluate(one, batches).values()])
    weights = zip(fork.runs[0].model.parameters(), state.runs[0].model.parameters(), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*seen, strict=True)) and all(
        torch.equal(a, b) for a, b in weights
    )
