"""Training in processes of this machine.

`Processes` is the way to use several cores for models that gain nothing from batching: the parent
asks and tells, a worker builds the task once, trains what it is given on one thread, and sends its
History back. One that dies is replaced.
"""

import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Thread
from typing import TypeVar

import torch
from loky.process_executor import ProcessPoolExecutor

from lrfinder.checks import check_count
from lrfinder.errors import LRFinderError
from lrfinder.training.executors.elsewhere import prepared, trained
from lrfinder.training.executors.job import Packed, Setup
from lrfinder.training.executors.submitting import Returned, SubmittingCrew, WorkerDied
from lrfinder.training.records.sent import SentPlan

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Trains in so many processes of this machine, each on one thread.

    >>> Processes(4)
    Processes(count=4)

    Raises InvalidArgument for a count below 1.
    """

    count: int

    def __post_init__(self) -> None:
        check_count("workers", self.count)

    @contextmanager
    def at_work(self, setup: Setup) -> Generator[SubmittingCrew]:
        """The processes, which end with the block; see `Executor`."""
        engine = _Pool(self.count, setup.packed())
        try:
            yield SubmittingCrew(engine, setup)
        finally:
            engine.end()


class _Pool:
    """Processes that hold a setup."""

    def __init__(self, count: int, setup: Packed) -> None:
        self._count, self._setup = count, setup
        self._pool = self._new()

    @property
    def workers(self) -> int:
        return self._count

    def prepare(self) -> Future[LRFinderError | None]:
        return self._submit(_prepared)

    def train(self, plans: Sequence[SentPlan], watch: str) -> Future[Returned]:
        return self._submit(_trained, plans, watch)

    def meant(self, error: Exception) -> Exception:
        return WorkerDied("its process ended") if isinstance(error, BrokenProcessPool) else error

    def stop(self, futures: Sequence[Future[Returned]]) -> None:
        for future in futures:
            future.cancel()

    def end(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, kill_workers=True)

    def _submit(self, call: Callable[..., T], *given: object) -> Future[T]:
        """Call it in one of the processes; of new ones where one has died, which ends them all."""
        try:
            return self._pool.submit(call, *given)
        except BrokenProcessPool:
            self.end()
            self._pool = self._new()
            return self._pool.submit(call, *given)

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._count, initializer=_begin, initargs=(self._setup,))


@cache
def _setups() -> list[Packed]:
    """What this worker process trains."""
    return []


def _begin(setup: Packed) -> None:
    """Make this process a worker: one thread, and interrupts are the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _setups().append(setup)
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # pyright: ignore[reportPrivateUsage]


def _prepared() -> LRFinderError | None:
    return prepared(_setups()[0])


def _trained(plans: Sequence[SentPlan], watch: str) -> Returned:
    return trained(_setups()[0], plans, watch, 1)
