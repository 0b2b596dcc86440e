"""When what the task raises is a divergence: a result, kept in the record, and no failure.

A loss that takes a logarithm, a solver or a decomposition may raise where training has broken. It
counts as a divergence where the lr did it: the same batch raises nothing with initial weights, and
training at next to no lr comes as far. Never does a mistake in the code, want of memory, or what
concerns files.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lrfinder.errors import LRFinderError
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.at_start import Update, check_evaluated, check_trained

NO_LR = 1e-12
"""An lr at which nothing is learnt."""
Control = Callable[[Task, int, int], None]
"""Trains a task under a seed for so many updates at next to no lr; raises what that raises."""
_NEVER = (
    LRFinderError,
    TypeError,
    AttributeError,
    NameError,
    ImportError,
    NotImplementedError,
    MemoryError,
    OSError,
)
_OF_THE_DEVICE = ("OutOfMemoryError", "AcceleratorError")


@dataclass(frozen=True)
class _Passed:
    """How many updates were made at next to no lr, without an exception."""

    updates: int


def is_divergence(
    error: Exception,
    task: Task,
    device: torch.device | None,
    update: Update,
    control: Control,
    *,
    evaluating: bool = False,
) -> bool:
    """Whether an exception of an update, or of an evaluation after it, counts as a divergence.

    Raises TaskFailed where the batch is not finite with initial weights.
    """
    if update.number == 0 or not may_be_divergence(error):
        return False
    known, needed = task.data(device).findings, update.number + (not evaluating)
    try:
        with torch.enable_grad():
            (check_evaluated if evaluating else check_trained)(task, device, update)
            if known.get(_Passed, _Passed(0)).updates < needed:
                control(task, update.seed, needed)
                known[_Passed] = _Passed(needed)
    except LRFinderError as cause:
        if cause.__cause__ is None:
            raise
        return False
    return True


def may_be_divergence(error: Exception) -> bool:
    """Whether an exception is of a kind that an lr can cause."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    memory = "out of memory" in str(error).lower() or "can't allocate memory" in str(error)
    return not (isinstance(error, _NEVER) or memory or kinds.intersection(_OF_THE_DEVICE))
