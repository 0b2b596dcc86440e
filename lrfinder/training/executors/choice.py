"""From what is given as `executor` to workers."""

from collections.abc import Generator
from concurrent import futures
from contextlib import contextmanager

from lrfinder.errors import InvalidArgument
from lrfinder.training.executors.futures import Futures
from lrfinder.training.executors.in_process import InProcess
from lrfinder.training.executors.job import Crew, Executor, Setup

AnyExecutor = Executor | futures.Executor
"""InProcess(), Processes(4), Ray("auto"), or a `concurrent.futures.Executor`."""


def executor_of(given: AnyExecutor | None) -> Executor:
    """What is given as an executor, as one of ours; InvalidArgument for anything else.

    >>> executor_of(None)
    InProcess()
    """
    if given is None:
        return InProcess()
    if isinstance(given, futures.Executor):
        return Futures(given)
    if not isinstance(given, Executor) or isinstance(given, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(
            "executor must be InProcess(), Processes(4), Ray('auto') or a "
            f"concurrent.futures.Executor, but got {given!r}"
        )
    return given


@contextmanager
def at_work(given: AnyExecutor | Crew | None, setup: Setup) -> Generator[Crew]:
    """A crew for a task; one that is given is at work already, and stays so after the block."""
    if isinstance(given, Crew):
        yield given
        return
    with executor_of(given).at_work(setup) as crew:
        yield crew
