"""A task with another number of rows in an update, by its batch size or by accumulation."""

from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.held_out import can_be_made_again, made_again
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.task import Task


def with_update_rows(task: Problem, rows: int) -> Task:
    """The task with so many rows in an update; an epoch remains one pass over the data.

    A data set is cut into other batches, and so is a plain DataLoader. Any other loader keeps its
    batches, of which several make an update. InvalidArgument where neither is possible.
    """
    check_count("batch size", rows)
    if not isinstance(task, Task):
        raise InvalidArgument(
            "batch sizes are those of a Task, but got a Loop, which makes its own batches"
        )
    if rows == task.update_rows:
        return task
    _check_enough(task, rows)
    changed = _in_other_batches(task, rows)
    if task.steps_per_epoch is None or task.update_rows is None:
        return changed
    steps = max(1, round(task.steps_per_epoch * task.update_rows / rows))
    return replace(changed, steps_per_epoch=steps)


def _check_enough(task: Task, rows: int) -> None:
    data: Any = task.train.dataset if isinstance(task.train, DataLoader) else task.train
    there = len(data) if hasattr(data, "__len__") else rows
    if rows > there:
        raise InvalidArgument(
            f"a batch of {rows} rows must be no more than the {there} rows of the training data"
        )


def _in_other_batches(task: Task, rows: int) -> Task:
    micro = task.batch_size
    if isinstance(task.train, DataLoader):
        loader = task.train
        micro = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 0
        if task.accumulate == 1 and can_be_made_again(loader, len_of(loader)):
            train = made_again(loader, loader.dataset, rows)
            return replace(task, train=train)
    elif task.accumulate == 1:
        return replace(task, batch_size=rows)
    if micro and rows % micro == 0:
        return replace(task, accumulate=rows // micro)
    if not isinstance(task.train, DataLoader):
        return replace(task, batch_size=rows, accumulate=1)
    size = f"batches of {micro} rows" if micro else "batches of unknown size"
    cure = f"take multiples of {micro}" if micro else "give Task(train=) a data set"
    raise InvalidArgument(
        f"an update of {rows} rows cannot be made of the training DataLoader's {size}; {cure}"
    )


def len_of(loader: DataLoader[Any]) -> int:
    """Rows of a loader's data set; 0 where they have no length."""
    data: Any = loader.dataset
    return len(data) if hasattr(data, "__len__") else 0
