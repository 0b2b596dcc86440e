"""Training in this process."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from lrfinder.training.executors.job import Job, Setup
from lrfinder.training.fit import fit


@dataclass(frozen=True)
class InProcess:
    """Trains in this process, as if no executor had been given.

    >>> InProcess()
    InProcess()
    """

    @contextmanager
    def at_work(self, setup: Setup) -> "Generator[AloneCrew]":
        """This process; see `Executor`."""
        yield AloneCrew(setup)


@dataclass(frozen=True)
class AloneCrew:
    """This process."""

    setup: Setup

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def fit(self, job: Job) -> None:
        """Train every plan; see `Crew`."""
        fit(
            self.setup.task,
            job.plans,
            watch=job.watch,
            trainer=self.setup.trainer,
            progress=job.progress,
            finished=job.finished,
        )
