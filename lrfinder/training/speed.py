"""A model of time: how fast a trainer is, and how much work an act asks for."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from lrfinder.tasks.problem import Problem
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.trainer import AnyTrainer


@dataclass(frozen=True)
class Speed:
    """Measured times of one run; of its share, where several are trained together."""

    seconds_per_update: float
    seconds_per_evaluation: float
    """Of what is evaluated: a whole validation set, or the fixed subset."""

    def seconds(self, updates: int, evaluations: int) -> float:
        """Time of so many updates and evaluations."""
        return updates * self.seconds_per_update + evaluations * self.seconds_per_evaluation


@dataclass(frozen=True)
class Work:
    """Updates and evaluations that one act of a run asks for."""

    runs: int
    updates: int
    """Per run."""
    evaluations: int
    """Per run."""
    overhead: float = 0.0
    """Seconds besides training."""

    def seconds(self, speed: Speed) -> float:
        """Estimated time at the measured speed."""
        return self.runs * speed.seconds(self.updates, self.evaluations) + self.overhead


_TINY_LR = 1e-12  # timing must not train the model into nan
_REPEATS, _REPEAT_SECONDS, _LONGEST_SECONDS = 7, 0.1, 1.0


@contextmanager
def threads(count: int) -> Generator[None]:
    """Use so many intra-op threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Measured:
    """How fast a trainer was, by two clocks."""

    wall: Speed
    """What a person waits, on the machine as busy as it was."""
    cpu: Speed
    """Time of the processor alone, which others on the machine hardly change."""


def measure_speed(
    task: Problem, trainer: AnyTrainer, runs: int, count: int, *, on_subset: bool = False
) -> Measured:
    """Speed of a run among so many of two seeds, with so many threads.

    Evaluated is the validation set, or the fixed subset where there is none or it is asked for.
    """
    if on_subset and task.evaluate is not None:
        task = task.measured_by(task.metrics)
    state = trainer.start(task, [run % 2 for run in range(runs)], [_TINY_LR] * runs)
    data = task.data(trainer.device)
    groups = len(state.stand_ins[0].param_groups)
    lrs = np.full((runs, data.updates_per_epoch, groups), _TINY_LR)
    valid = None if on_subset else data.valid
    batches = data.fixed_subset if valid is None else valid
    with threads(count):
        _, first = _seconds(lambda: trainer.advance(state, lrs[:, :1]))
        some = int(min(data.updates_per_epoch, max(1, 0.05 / max(first, 1e-6))))
        updates = _least_seconds(lambda: trainer.advance(state, lrs[:, :some]))
        if isinstance(task, Task) and task.evaluate is None:
            trainer.evaluate(state, islice(batches, 1))  # what is compiled first is no evaluation
        evaluation = _least_seconds(lambda: trainer.evaluate(state, batches))
        trainer.select(state, [])
    wall, cpu = (
        Speed(update / some / runs, evaluated / runs)
        for update, evaluated in zip(updates, evaluation, strict=True)
    )
    return Measured(wall, cpu)


def _least_seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Least time of an action, within about a tenth of a second, by both clocks.

    It is warmed up once before, unless it takes more than a second.

    What else the machine does only adds to a time, and must not decide.
    """
    first = _seconds(action)
    if first[0] > _LONGEST_SECONDS:
        return first
    seconds = [_seconds(action)]
    while len(seconds) < _REPEATS and sum(cpu for _, cpu in seconds) < _REPEAT_SECONDS:
        if sum(wall for wall, _ in seconds) > _LONGEST_SECONDS:
            break
        seconds.append(_seconds(action))
    return min(wall for wall, _ in seconds), min(cpu for _, cpu in seconds)


def _seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds of an action, of the wall clock and of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu
