"""Where runs are trained: in this process, or side by side in several.

An act hands its plans to an `Executor` and is handed their Histories as they are complete; where
they are trained makes no difference to what comes out. `Processes` is the way to use several cores
for models that gain nothing from batching: the parent asks and tells, a worker builds the task
once, trains what it is given on one thread, and sends its History back. Plans that share a
beginning go to one worker, as long as all workers are busy.
"""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

import cloudpickle
import torch
from loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.user_code import describe
from lrfinder.training.fit import fit
from lrfinder.training.history import History, Plan
from lrfinder.training.prefix_tree import Finished, together
from lrfinder.training.sent import SentPlan, without_plans
from lrfinder.training.trainer import AnyTrainer

Build = Callable[[], tuple[Problem, AnyTrainer]]
"""Makes the task and the trainer; a function that can be sent to a process, such as a partial."""


class Executor(Protocol):
    """Trains the plans of one task."""

    def fit(
        self,
        plans: Sequence[Plan],
        *,
        watch: str = "loss",
        progress: Callable[[int], None] | None = None,
        finished: Finished | None = None,
    ) -> None:
        """Train every plan for the task's epochs, and hand each out as it is complete; see `fit`.

        Raises what `fit` raises.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """Trains in this process, by default with the sequential trainer."""

    task: Problem
    trainer: AnyTrainer | None = None

    def fit(
        self,
        plans: Sequence[Plan],
        *,
        watch: str = "loss",
        progress: Callable[[int], None] | None = None,
        finished: Finished | None = None,
    ) -> None:
        """Train every plan; see `Executor`."""
        trainer = self.trainer
        fit(self.task, plans, watch=watch, trainer=trainer, progress=progress, finished=finished)


class Processes:
    """Trains in processes of its own; a context manager that ends them.

    `build` is called in each of the `count` processes. A worker is given as many plans at a time as
    `capacity` says, or fewer where they would not keep all workers busy.
    """

    def __init__(self, count: int, build: Build, capacity: int = 1) -> None:
        check_count("workers", count)
        self._count, self._capacity = count, capacity
        self._pool = ProcessPoolExecutor(count, initializer=_begin, initargs=(build,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, kill_workers=True)

    def try_one(self) -> None:
        """Build the task in one of the processes; raises what that raises."""
        with _worker_may_die():
            self._pool.submit(_try).result()

    def fit(
        self,
        plans: Sequence[Plan],
        *,
        watch: str = "loss",
        progress: Callable[[int], None] | None = None,
        finished: Finished | None = None,
    ) -> None:
        """Train every plan; see `Executor`. Raises TaskFailed also where a worker dies."""
        jobs: dict[Future[History], list[int]] = {}
        with _worker_may_die():
            try:
                for rows in self._parts(plans):
                    sent = [SentPlan.of(plans[row]) for row in rows]
                    jobs[self._pool.submit(_train, sent, watch)] = rows
                for job in as_completed(jobs):
                    rows = jobs[job]
                    history = replace(job.result(), plans=tuple(plans[row] for row in rows))
                    if progress is not None:
                        progress(history.updates_asked)
                    if finished is not None:
                        finished(rows, history)
            finally:
                for job in jobs:
                    job.cancel()

    def _parts(self, plans: Sequence[Plan]) -> Iterator[list[int]]:
        """Rows of plans to train in one process: those that share a beginning, so far as all work.

        Where there are fewer runs than workers, the plans of a run are shared out, and train their
        common beginning more than once.
        """
        most = -(-len(plans) // self._count)
        for group in together(plans, min(self._capacity, most)):
            rows = [row for run in group for row in run]
            for first in range(0, len(rows), most):
                yield rows[first : first + most]


def check_can_be_sent(task: Problem) -> None:
    """Raise InvalidArgument where a task that is an object cannot be sent to other processes."""
    try:
        cloudpickle.dumps(task)
    except Exception as error:
        raise InvalidArgument(
            "workers must be 1 for this task, which cannot be sent to a process "
            f"({describe(error)}); or name its file, as in lrfinder.run('my_task.py', workers=2)"
        ) from error


@contextmanager
def _worker_may_die() -> Generator[None]:
    try:
        yield
    except TerminatedWorkerError as error:
        raise TaskFailed(
            "a worker process died, perhaps for want of memory; use fewer --workers"
        ) from error


@cache
def _builds() -> list[Build]:
    """What this worker process builds its problem with."""
    return []


@cache
def _problem() -> tuple[Problem, AnyTrainer]:
    return _builds()[0]()


def _begin(build: Build) -> None:
    """Make this process a worker: one thread, and interrupts are the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _builds().append(build)
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # pyright: ignore[reportPrivateUsage]


def _try() -> None:
    _problem()


def _train(sent: Sequence[SentPlan], watch: str) -> History:
    task, trainer = _problem()
    history = fit(task, [one.plan(task) for one in sent], watch=watch, trainer=trainer)
    return without_plans(history)
