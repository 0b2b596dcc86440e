"""Training by the executor of another library, which takes a function and gives a Future.

Any `concurrent.futures.Executor` is one: the standard library's pools, `client.get_executor()` of
Dask, `mpi4py.futures.MPIPoolExecutor`. It stays the caller's: nothing of it is shut down. Each part
brings the setup along, so that a task with large data is better named by its file.

Submitit, for Slurm, needs a few lines in between:

    class Slurm(concurrent.futures.Executor):
        def __init__(self, folder, workers, **parameters):
            self.workers = workers
            self._slurm = submitit.AutoExecutor(folder)
            self._slurm.update_parameters(**parameters)
            self._waiting = concurrent.futures.ThreadPoolExecutor(2 * workers)

        def submit(self, function, *given):
            job = self._slurm.submit(function, *given)
            return self._waiting.submit(job.result)

`workers` says how many train beside each other, where the executor does not say it otherwise.
"""

import os
import sys
from collections.abc import Generator, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import LRFinderError, TaskFailed
from lrfinder.training.executors.elsewhere import prepared, trained
from lrfinder.training.executors.job import Packed, Setup
from lrfinder.training.executors.submitting import Returned, SubmittingCrew, WorkerDied
from lrfinder.training.records.sent import SentPlan

_SAY_WORKERS = ("workers", "num_workers", "_max_workers")
"""How executors say how many workers they have: ours above, mpi4py's, the standard library's."""


@dataclass(frozen=True)
class Futures:
    """Trains by an executor of the caller's."""

    executor: futures.Executor

    @contextmanager
    def at_work(self, setup: Setup) -> Generator[SubmittingCrew]:
        """The workers of the executor, which goes on after the block; see `Executor`."""
        yield SubmittingCrew(_Engine(self.executor, setup.packed()), setup)


@dataclass(frozen=True)
class _Engine:
    """Workers that are sent the setup with every part."""

    executor: futures.Executor
    setup: Packed

    @property
    def workers(self) -> int:
        return workers_of(self.executor)

    def prepare(self) -> Future[LRFinderError | None]:
        with _submitting():
            return self.executor.submit(prepared, self.setup)

    def train(self, plans: Sequence[SentPlan], watch: str) -> Future[Returned]:
        with _submitting():
            return self.executor.submit(trained, self.setup, plans, watch, 1)

    def meant(self, error: Exception) -> Exception:
        if isinstance(error, BrokenExecutor):
            return WorkerDied("its process ended")
        dask: Any = sys.modules.get("distributed")  # it is loaded, where the error is its own
        if dask is not None and isinstance(error, dask.KilledWorker):
            return TaskFailed(
                f"Dask has given the same plans to {error.args[-1] + 1} workers, and each has "
                "died, perhaps for want of memory; use fewer workers, or give each more"
            )
        return error

    def stop(self, futures: Sequence[Future[Returned]]) -> None:
        for future in futures:
            future.cancel()


def workers_of(executor: Any) -> int:  # noqa: ANN401 (of any library)
    """How many workers an executor has; as many as this machine has cores, where it does not say.

    >>> workers_of(futures.ThreadPoolExecutor(3))
    3
    """
    said = [getattr(executor, name, None) for name in _SAY_WORKERS]
    dask = getattr(executor, "_client", None)  # Dask's says it by its client
    if dask is not None:
        said.append(len(dask.nthreads()))
    return next((n for n in said if isinstance(n, int) and n > 0), os.cpu_count() or 1)


@contextmanager
def _submitting() -> Generator[None]:
    try:
        yield
    except BrokenExecutor as error:
        raise TaskFailed(
            "a worker of the executor died, perhaps for want of memory, and it takes nothing more; "
            "make a new one with fewer workers, or use lrfinder.Processes, which replaces them"
        ) from error
    except RuntimeError as error:  # it was shut down
        raise TaskFailed(f"the executor takes nothing to train: {error}") from error
