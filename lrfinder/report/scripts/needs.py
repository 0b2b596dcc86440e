"""What a training loop of a task needs, and how it names things: asked of the task and its data."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lrfinder.tasks.data.batches import Batch, count_rows, is_plain
from lrfinder.tasks.data.devices import parts_of
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.optimizer_modes import has_modes


class Needs:
    """What the parts of a script must agree on."""

    def __init__(self, task: Task, *, given: bool) -> None:
        self.task, self._given = task, given
        data = task.data()
        first: Any = next(data.source.epoch(0, 0))
        self.pairs = task.criterion is not None and all(isinstance(p, Tensor) for p in first)
        """Whether batches are x, y: two tensors."""
        evaluated = [] if task.valid is None else [data.first_evaluated]
        self.moves_plainly = self.pairs or all(map(_is_simple, [first, *evaluated]))
        """Whether a few lines are enough to move a batch to a device."""
        self.without_none = data.has_none
        """Whether batches that are None are skipped."""
        self.counts_updates = task.steps_per_epoch is not None or data.has_none
        """Whether an epoch is a number of batches, and not one iteration of the loader."""

    def own(self, name: str) -> str:
        """A field of the task, or the variable of the marked place that holds it."""
        given = {"loss": "loss_of", "rows": "rows_of", "metrics": "metric_functions"}
        given |= {"evaluate": "evaluate_whole", "batches": "get_batch"}
        return given.get(name, name) if self._given else f"task.{name}"

    @property
    def batch(self) -> str:
        """What a batch is called."""
        return "x, y" if self.pairs else "batch"

    @property
    def arguments(self) -> str:
        """Arguments of the loss and of every metric."""
        if self.task.criterion is None:
            return "model, batch" if self.task.forward is None else "output, batch"
        return "output, y" if self.pairs else "output, batch[1]"

    @property
    def counts_rows(self) -> bool:
        """Whether the rows of a batch need a function to count them."""
        return self.task.rows is not count_rows or not self.pairs

    @property
    def scaler(self) -> list[str]:
        """The line that makes the gradient scaler, where float16 wants one."""
        wanted = self.task.autocast is torch.float16
        return ["scaler = torch.amp.GradScaler(device.type)"] if wanted else []

    @property
    def has_modes(self) -> bool:
        """Whether the optimizer trains at other weights than it evaluates."""
        return has_modes(self.task.prototype.stand_in)

    @cached_property
    def takes_gradients(self) -> bool:
        """Whether a measure calls torch.autograd.grad, so that evaluating needs gradients."""
        task = self.task
        if task.valid is None:
            return False
        data, device = task.data(), task.prototype.device
        model, measures = task.built(0).eval(), task.measures_on(device)
        with Stream(0, device).active():
            return measures.take_gradients(model, data.first_evaluated)


def _is_simple(batch: Batch) -> bool:
    """Whether nothing but tensors in plain tuples, lists and dicts has to be moved."""
    if is_plain(batch):
        return all(map(_is_simple, parts_of(batch)))
    return isinstance(batch, Tensor) or not (hasattr(type(batch), "to") or parts_of(batch))
