"""Whether a task that was loaded again is the same problem: its data and its initial weights.

A task file is loaded once per process, and what it draws without a seed is different every time. So
a run keeps a sketch of the first rows of its data and of the weights that one seed gives; worker
processes, and a run that is resumed, compare it with their own.
"""

from collections.abc import Mapping

import torch

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.loaders import Data, LoaderSource
from lrfinder.tasks.data.sketch import Sketch, sketch, sketch_of_weights
from lrfinder.tasks.data.sources import are_tensors, first_of_subset, fixed_subset
from lrfinder.tasks.loops.looking import sketch_of_gradients, sketch_of_start
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.state.random_states import derive
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import user_code

TRAINING, VALIDATION, WEIGHTS = "training data", "validation data", "initial weights"

Fingerprint = Mapping[str, Sketch]
"""A sketch of the training data, of the validation data and of the initial weights, by name."""


def fingerprint(task: Problem, device: torch.device | None) -> Fingerprint:
    """Read the first rows of the data, and build the model once.

    Raises TaskFailed where the task's code raises.
    """
    if isinstance(task, Loop):
        return _of_loop(task, device)
    found = {TRAINING: sketch(_first_rows(task, task.train, device))}
    if task.valid is not None:
        found[VALIDATION] = sketch(_first_rows(task, task.valid, device))
    return {**found, WEIGHTS: sketch_of_weights(task.built(0))}


def check_same(task: Problem, device: torch.device | None, made: Fingerprint, says: str) -> None:
    """Raise InvalidArgument where the task is another problem than the one of a fingerprint.

    What differs when it is read or built again in one process cannot be compared. `says` is the
    message, with {what} for what differs.
    """
    now = fingerprint(task, device)
    differs = [k for k, own in now.items() if k in made and not own.alike(made[k])]
    if differs:
        again = fingerprint(task, device)
        differs = [k for k in differs if again[k].alike(now[k])]
    if differs:
        raise InvalidArgument(says.format(what=" and the ".join(differs)))


def _of_loop(loop: Loop, device: torch.device | None) -> Fingerprint:
    """Start the loop once: its weights and, from its first batches, the gradients."""
    training = loop.begun(0, device)
    try:
        gradients = sketch_of_gradients(training)
        found = {} if gradients is None else {TRAINING: gradients}
        return {**found, WEIGHTS: sketch_of_start(training)}
    finally:
        training.close()


def _first_rows(task: Task, data: Data, device: torch.device | None) -> Batch:
    """Rows of tensors, however they are batched; or the first batch of a loader."""
    device = device or task.prototype.device
    with user_code("reading the data"):
        if are_tensors(data):
            return fixed_subset(data, task.batch_size, device)
        source = task.data(device).source
        if data is task.train and isinstance(source, LoaderSource):
            return next(iter(source.cycle(derive(0, "fingerprint"))), None)
        return first_of_subset(data, task.batch_size, device)
