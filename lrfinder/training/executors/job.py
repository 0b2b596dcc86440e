"""What executors have in common: a setup to train by, jobs to train, and the crew that does it.

An *executor* says where to train, and can be kept and used again: `InProcess()`, `Processes(4)`,
`Ray("auto")`. A *setup* is the task and the trainer. Both together give a *crew*, which trains one
*job* after another and hands out the Histories as they are complete. Where a plan is trained makes
no difference to what comes out.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cloudpickle

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.user_code import describe
from lrfinder.training.prefix_tree import Finished
from lrfinder.training.records.history import History, Plan
from lrfinder.training.trainers.driven import reference_trainer
from lrfinder.training.trainers.trainer import AnyTrainer

Build = Callable[[], tuple[Problem, AnyTrainer]]
"""Makes the task and the trainer; a function that can be sent to a process, such as a partial."""


@dataclass(frozen=True)
class Job:
    """Plans to train for the task's epochs, and who is told of it; see `fit`."""

    plans: Sequence[Plan]
    watch: str = "loss"
    progress: Callable[[int], None] | None = None
    """Called with the number of updates made since the last call."""
    finished: Finished | None = None
    """Called with the rows of plans that are complete, and their own History."""

    def part(self, rows: Sequence[int]) -> "Job":
        """The job of some of the plans, which are handed out under the rows that they have here."""

        def finished(places: Sequence[int], history: History) -> None:
            if self.finished is not None:
                self.finished([rows[place] for place in places], history)

        return Job([self.plans[row] for row in rows], self.watch, self.progress, finished)

    def hand_out(self, rows: Sequence[int], history: History) -> None:
        """Tell of plans that were trained elsewhere, all at once."""
        if self.progress is not None:
            self.progress(history.updates_asked)
        if self.finished is not None:
            self.finished(rows, history)


@dataclass(frozen=True)
class Setup:
    """A task, what trains it, and how another process comes by both."""

    task: Problem
    trainer: AnyTrainer | None = None
    """By default the sequential trainer, or that of loops."""
    build: Build | None = None
    """Makes both anew in another process, from a reference; by default they are sent there."""

    @property
    def in_use(self) -> AnyTrainer:
        """The trainer."""
        return self.trainer or reference_trainer(self.task)

    def packed(self) -> "Packed":
        """The setup as it is sent.

        Raises InvalidArgument where the task is an object that cannot be sent.
        """
        try:
            return Packed.of(self.build or (self.task, self.in_use))
        except Exception as error:
            raise InvalidArgument(
                "this task must be trained in this process, without workers, for it cannot be sent "
                f"to another ({describe(error)}); or name its file, as in "
                "lrfinder.run('my_task.py', workers=2)"
            ) from error


@dataclass(frozen=True)
class Packed:
    """A setup as bytes."""

    key: str
    """Tells setups apart."""
    content: bytes

    @classmethod
    def of(cls, value: object) -> "Packed":
        """A setup, or a function that makes one, by cloudpickle."""
        content: bytes = cloudpickle.dumps(value)
        return cls(hashlib.sha256(content).hexdigest(), content)


@runtime_checkable
class Crew(Protocol):
    """Trains the plans of one task."""

    @property
    def workers(self) -> int:
        """How many train beside each other."""
        ...

    def fit(self, job: Job) -> None:
        """Train every plan, and hand each out as it is complete. Raises what `fit` raises."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Where plans are trained."""

    def at_work(self, setup: Setup) -> AbstractContextManager[Crew]:
        """A crew for a task, which ends with the block.

        Raises InvalidArgument where there is none to be had, or the task cannot be sent to it.
        """
        ...
