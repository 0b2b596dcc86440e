"""What happens in a process that trains for another one.

It is told by plain functions, which any engine can call there: each call brings the setup, which is
unpacked once and kept as long as no other one comes, and plans. What lrfinder raises on purpose is
returned, not raised: engines dress up what is raised. Randomness belongs to the process, so that
calls in several threads of it train one after another.
"""

import pickle
from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any

from lrfinder.errors import InvalidArgument, LRFinderError
from lrfinder.tasks.problem import Problem
from lrfinder.training.executors.job import Packed
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History
from lrfinder.training.records.sent import SentPlan, without_plans
from lrfinder.training.speed import threads
from lrfinder.training.trainers.trainer import AnyTrainer

_ONE_AT_A_TIME = Lock()


@cache
def _known() -> dict[str, tuple[Problem, AnyTrainer]]:
    """The setup that this process has, by its key."""
    return {}


def prepared(setup: Packed) -> LRFinderError | None:
    """Build the task; returns what that raises."""
    try:
        with _ONE_AT_A_TIME:
            _unpacked(setup)
    except LRFinderError as error:
        return error
    return None


def trained(
    setup: Packed, plans: Sequence[SentPlan], watch: str, count: int
) -> History | LRFinderError:
    """Train the plans with so many threads; returns their History, or what lrfinder raises."""
    try:
        with _ONE_AT_A_TIME, threads(count):
            task, trainer = _unpacked(setup)
            own = [plan.plan(task) for plan in plans]
            return without_plans(fit(task, own, watch=watch, trainer=trainer))
    except LRFinderError as error:
        return error


def _unpacked(setup: Packed) -> tuple[Problem, AnyTrainer]:
    known = _known()
    if setup.key not in known:
        known.clear()
        try:
            held: Any = pickle.loads(setup.content)  # of the process that this one trains for
        except ImportError as error:
            raise InvalidArgument(
                f"a worker cannot import the task's code ({error}); install it where the workers "
                "run, or name its file: lrfinder.run('my_task.py', ...)"
            ) from error
        known[setup.key] = held if isinstance(held, tuple) else held()
    return known[setup.key]
