"""What a run will cost, from timing a few real updates, and how many threads it should use.

Small models are slower with several intra-op threads than with one, so both are tried.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from lrfinder.task import Task
from lrfinder.training.trainer import State, Trainer

_TINY_LR = 1e-12  # timing must not train the model into nan
_CLEARLY_FASTER = 1.5
_SECONDS_PER_TRIAL = 0.15  # of the sampler and the storage, on 2 cores at about 2.5 GHz


@dataclass(frozen=True)
class Speed:
    """Measured times of a task, with the number of threads that was best."""

    seconds_per_update: float
    seconds_per_evaluation: float
    """Of a whole validation set; of the probe where there is none."""
    threads: int


@dataclass(frozen=True)
class Work:
    """Updates and evaluations that one act of a run asks for."""

    runs: int
    updates: int
    """Per run."""
    evaluations: int
    """Per run."""
    trials: int = 0

    def seconds(self, speed: Speed) -> float:
        """Estimated time at the measured speed."""
        training = self.updates * speed.seconds_per_update
        evaluating = self.evaluations * speed.seconds_per_evaluation
        return self.runs * (training + evaluating) + self.trials * _SECONDS_PER_TRIAL


def measure_speed(task: Task, trainer: Trainer) -> Speed:
    """Time real updates with one thread and with PyTorch's present number of threads.

    Several threads are taken only where they are clearly faster: on a busy machine they can turn
    out hundreds of times slower than they were when they were timed.
    """
    several = torch.get_num_threads()
    if (trainer.device or task.prototype.device).type != "cpu" or several == 1:
        return _speed(task, trainer, several)
    one, more = _speed(task, trainer, 1), _speed(task, trainer, several)
    clearly = one.seconds_per_update > _CLEARLY_FASTER * more.seconds_per_update
    return more if clearly else one


def estimate(works: Mapping[str, Work], speed: Speed) -> str:
    """One line that says what is to come: updates and minutes."""
    parts = ", ".join(f"{name} {w.runs} x {w.updates}" for name, w in works.items())
    updates = sum(work.runs * work.updates for work in works.values())
    seconds = sum(work.seconds(speed) for work in works.values())
    length = f"{seconds / 60:.1f} min" if seconds >= 60 else f"{math.ceil(seconds)} s"
    per_update = speed.seconds_per_update * 1000
    return (
        f"{updates:,} updates ({parts}), about {length} at {per_update:.2g} ms an update "
        f"with {speed.threads} {'thread' if speed.threads == 1 else 'threads'}"
    )


@contextmanager
def threads(count: int) -> Generator[None]:
    """Use so many intra-op threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _speed(task: Task, trainer: Trainer, count: int) -> Speed:
    state: State = trainer.start(task, [0], [_TINY_LR])
    data = task.data(trainer.device)
    lrs = np.full((1, 1, state.base_lrs.shape[1]), _TINY_LR)
    batches = data.probe if data.valid is None else data.valid
    with threads(count):
        return Speed(
            seconds_per_update=_time(lambda: trainer.advance(state, lrs), 30),
            seconds_per_evaluation=_time(lambda: trainer.evaluate(state, batches), 3),
            threads=count,
        )


def _time(action: Callable[[], object], times: int) -> float:
    """Median seconds of an action after one warm-up, within about half a second."""
    action()
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < times and time.perf_counter() - begin < 0.5:
        before = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - before)
    return float(np.median(seconds))
