"""A crew of workers that are given parts of a job, one after another.

Parts keep plans together that share a beginning, so long as all workers are busy; the larger ones
go first, and no more are out than keep every worker busy. A part whose worker dies is given to
another one, twice; the third time it is the part's own fault.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from lrfinder.errors import LRFinderError, TaskFailed
from lrfinder.tasks.user_code import describe
from lrfinder.training.executors.job import Job, Setup
from lrfinder.training.prefix_tree import together
from lrfinder.training.records.history import History, Plan
from lrfinder.training.records.sent import SentPlan

TRIES = 3
"""How often a part is given to a worker that dies of it."""
_AHEAD = 2
"""Parts that are out for each worker: the one in training, and the next one."""

Returned = History | LRFinderError


class WorkerDied(Exception):
    """A worker ended before it returned anything."""


class Engine(Protocol):
    """Workers of some kind, which know the setup."""

    @property
    def workers(self) -> int:
        """How many there are now."""
        ...

    def prepare(self) -> Future[LRFinderError | None]:
        """Let a worker build the task."""
        ...

    def train(self, plans: Sequence[SentPlan], watch: str) -> Future[Returned]:
        """Let a worker train plans."""
        ...

    def meant(self, error: Exception) -> Exception:
        """What an error of a future means: WorkerDied, or what was raised in the worker."""
        ...

    def stop(self, futures: Sequence[Future[Returned]]) -> None:
        """End what is still in training."""
        ...


class SubmittingCrew:
    """Trains by an engine, in parts of no more plans than the trainer can hold at once."""

    def __init__(self, engine: Engine, setup: Setup, share: float = 1.0) -> None:
        """A crew, each of whose workers has this share of a device."""
        self._engine = engine
        self._capacity = max(1, int(setup.in_use.capacity(setup.task) * share))
        self._build_once()

    @property
    def workers(self) -> int:
        """How many there are; one at least, which may come."""
        return max(1, self._engine.workers)

    def fit(self, job: Job) -> None:
        """Train every plan; see `Crew`.

        Raises TaskFailed also where a part's workers die, one after another.
        """
        todo = sorted(parts(job.plans, self._capacity, self.workers), key=len)
        out: dict[Future[Returned], list[int]] = {}
        deaths: dict[int, int] = {}
        try:
            while todo or out:
                while todo and len(out) < _AHEAD * self.workers:
                    rows = todo.pop()
                    out[self._given(job, rows)] = rows
                done, _ = wait(out, return_when=FIRST_COMPLETED)
                for future in done:
                    rows = out.pop(future)
                    try:
                        history = self._result(future)
                    except WorkerDied as error:
                        deaths[rows[0]] = deaths.get(rows[0], 0) + 1
                        if deaths[rows[0]] == TRIES:
                            raise _died(error) from error
                        todo.append(rows)
                        continue
                    own = tuple(job.plans[row] for row in rows)
                    job.hand_out(rows, replace(history, plans=own))
        finally:
            self._engine.stop(list(out))

    def _given(self, job: Job, rows: Sequence[int]) -> Future[Returned]:
        sent = [SentPlan.of(job.plans[row]) for row in rows]
        return self._engine.train(sent, job.watch)

    def _result(self, future: Future[Returned]) -> History:
        with self._errors_as_meant():
            returned = future.result()
        if isinstance(returned, LRFinderError):
            raise returned
        return returned

    def _build_once(self) -> None:
        """Build the task in a worker, so that what it raises comes before anything is trained."""
        for tried in range(1, TRIES + 1):
            try:
                with self._errors_as_meant():
                    raised = self._engine.prepare().result()
            except WorkerDied as error:
                if tried == TRIES:
                    raise _died(error) from error
                continue
            if raised is not None:
                raise raised
            return

    @contextmanager
    def _errors_as_meant(self) -> Generator[None]:
        try:
            yield
        except LRFinderError:
            raise
        except Exception as error:
            meant = self._engine.meant(error)
            if isinstance(meant, WorkerDied | LRFinderError):
                raise meant from error
            raise TaskFailed(
                f"a worker raised {describe(meant)}; every worker needs lrfinder, the packages of "
                "this process and the task's code"
            ) from error


def parts(plans: Sequence[Plan], capacity: int, workers: int) -> Iterator[list[int]]:
    """Rows of plans to train in one place: those that share a beginning, so far as all work.

    Where there are fewer runs than workers, the plans of a run are shared out, and train their
    common beginning more than once.
    """
    most = -(-len(plans) // workers)
    for group in together(plans, min(capacity, most)):
        rows = [row for run in group for row in run]
        for first in range(0, len(rows), most):
            yield rows[first : first + most]


def _died(error: Exception) -> TaskFailed:
    return TaskFailed(
        f"a worker died {TRIES} times over the same plans, perhaps for want of memory "
        f"({error}); use fewer workers, or give each more"
    )
