"""The learning-rate range test: grow the lr, record the loss, repeat over seeds.

The idea is old practice: start from a very small lr, raise it after every epoch, record the loss or
the accuracy of each epoch, and compare (Smith 2015, arXiv 1506.01186, made it per batch). Here it
is a population of runs, one per seed, whose schedule grows.

Per batch, the loss of one *fixed* probe (at most 256 rows) is recorded after every update: it has
far less noise than the loss of each batch. Per epoch, the whole validation set is.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from lrfinder.curve import Curve, Every, Growth
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import GROWTHS, Schedule
from lrfinder.task import Task
from lrfinder.training.fit import fit
from lrfinder.training.history import Plan
from lrfinder.training.sequential import SequentialTrainer
from lrfinder.training.trainer import Trainer

STEPS = {"batch": 100, "epoch": 20}
"""Default number of learning rates, by how often the lr grows."""


def range_test(
    task: Task,
    *,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int | None = None,
    seeds: int | Sequence[int] = 5,
    every: Every = "batch",
    growth: Growth = "exponential",
    trainer: Trainer | None = None,
    progress: Callable[[int], None] | None = None,
) -> Curve:
    """Train with a growing lr and record the loss.

    Args:
        task: the problem; nothing of it is changed.
        min_lr, max_lr: lr of the first and of the last step.
        steps: how many learning rates; by default 100 per batch, 20 per epoch.
        seeds: how many runs, or their seeds.
        every: grow after every batch (update) or every epoch.
        growth: equal ratios ("exponential") or equal differences ("linear") between steps.
        trainer: what trains; by default the sequential trainer.
        progress: called with the number of updates made since the last call.

    Raises InvalidArgument for a range, steps or seeds that cannot be tested, and TaskFailed when
    the task's code raises or its loss is not finite before the first update.
    """
    _check(min_lr, max_lr, steps, seeds, every, growth)
    steps = STEPS[every] if steps is None else steps
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    trainer = trainer or SequentialTrainer()
    params = {"factor": max_lr / min_lr, "steps": steps}
    schedule = Schedule(GROWTHS[growth], params, per=every)
    data = task.data(trainer.device)
    per_step = 1 if every == "batch" else data.updates_per_epoch
    before = time.perf_counter()
    history = fit(
        task,
        [Plan(min_lr, schedule, seed) for seed in numbers],
        updates=steps * per_step,
        evaluate_every=per_step,
        on=data.valid if every == "epoch" and data.valid is not None else data.probe,
        trainer=trainer,
        progress=progress,
    )
    by_step = history.train_loss.reshape(len(numbers), steps, per_step)
    return Curve(
        lr=schedule.rows([min_lr], steps)[:, 0],
        loss=history.measures["loss"][:, 1:],
        train_loss=by_step.mean(axis=2),
        start=history.measures["loss"][:, 0],
        metrics={k: history.measures[k][:, 1:] for k in task.metrics},
        seeds=numbers,
        every=every,
        growth=growth,
        optimizer=task.prototype.optimizer,
        batch_size=task.update_rows,
        updates=history.updates_trained,
        wall_seconds=time.perf_counter() - before,
    )


def _check(
    min_lr: float,
    max_lr: float,
    steps: int | None,
    seeds: int | Sequence[int],
    every: str,
    growth: str,
) -> None:
    if not 0 < min_lr < max_lr < np.inf:
        raise InvalidArgument(
            f"0 < min_lr < max_lr must hold, but got (min_lr={min_lr:g}, max_lr={max_lr:g})"
        )
    if steps is not None and steps < 8:
        raise InvalidArgument(f"a range test needs at least 8 steps, but got {steps}")
    if (seeds if isinstance(seeds, int) else len(seeds)) < 1:
        raise InvalidArgument(f"a range test needs at least one seed, but got {seeds}")
    if not isinstance(seeds, int) and len(set(seeds)) < len(seeds):
        raise InvalidArgument(f"seeds must differ, but got {list(seeds)}")
    if every not in STEPS:
        raise InvalidArgument(f"every must be 'batch' or 'epoch', but got {every!r}")
    if growth not in GROWTHS:
        raise InvalidArgument(f"growth must be 'exponential' or 'linear', but got {growth!r}")
