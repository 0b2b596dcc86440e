"""The batches of a task on one device, and what a person should know about them."""

import copy
from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import torch
from torch import nn

from lrfinder.tasks.data.batches import Batch, alike
from lrfinder.tasks.data.data_checks import (
    NOT_REPEATABLE,
    OTHER_WEIGHTS,
    look_at,
    same_order_note,
    skipped_note,
)
from lrfinder.tasks.data.loaders import Data, LoaderSource, Seen, rows_of_epoch
from lrfinder.tasks.data.sketch import sketch_of_weights
from lrfinder.tasks.data.sources import (
    Source,
    are_tensors,
    evaluation_batches,
    first_evaluation_batch,
    first_of_subset,
    fixed_subset,
    training_source,
)
from lrfinder.tasks.fields.measures import VALID_LOSS
from lrfinder.tasks.fields.prototype import Prototype
from lrfinder.tasks.user_code import user_code


class _Task(Protocol):
    """What of a Task its data are made from, and told about."""

    @property
    def train(self) -> Data: ...
    @property
    def valid(self) -> Data | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int | None: ...
    @property
    def update_rows(self) -> int | None: ...
    @property
    def criterion(self) -> object: ...
    @property
    def code_for(self) -> str | None: ...
    @property
    def valid_loss(self) -> object: ...
    @property
    def prototype(self) -> Prototype: ...
    def count(self, batch: Batch) -> float: ...
    def built(self, seed: int) -> nn.Module: ...


class TaskData:
    """The batches of a task on one device, and how many of them make an update and an epoch."""

    def __init__(self, task: _Task, device: torch.device) -> None:
        self._task = task
        self._device = device
        self.findings: dict[type, Any] = {}
        """What a trainer has found out about the task here, by the type of it: tried only once."""
        k, steps = task.accumulate, task.steps_per_epoch
        self._seen = {"training": Seen(), "validation": Seen()}
        batches = None if steps is None else steps * k
        self.source: Source = training_source(
            task.train, task.batch_size, device, batches, self._seen["training"]
        )
        self.updates_per_epoch: int = -(-self.source.batches // k)

    def of(self, task: _Task) -> "TaskData":
        """The same data for a task that differs only in what is measured on them."""
        twin = copy.copy(self)
        twin._task, twin.findings = task, {}
        return twin

    @cached_property
    def valid(self) -> Iterable[Batch] | None:
        """Every batch of the validation set, or None where the task has none."""
        task = self._task
        if task.valid is None:
            return None
        seen = self._seen["validation"]
        return evaluation_batches(task.valid, task.batch_size, self._device, seen)

    @cached_property
    def fixed_subset(self) -> list[Batch]:
        """About 256 fixed rows of the validation set, or of the training set without one."""
        task = self._task
        data, kind = task.valid, "validation"
        if data is None:
            data, kind = task.train, "training"
        seen = self._seen[kind]
        with user_code("reading the data"):
            return fixed_subset(data, task.batch_size, self._device, task.count, seen)

    @property
    def repeats(self) -> bool:
        """Whether the training data are a set of rows, seen once in every epoch."""
        return rows_of_epoch(self._task.train) is not None

    @cached_property
    def rows_of_update(self) -> int | None:
        """Rows that an update sees; None where the batches are of several sizes.

        Where the task does not say, the first two batches do.
        """
        task = self._task
        if task.update_rows is not None:
            return task.update_rows
        with user_code("reading the training data"):
            counts = {int(task.count(batch)) for batch in islice(self.source.epoch(0, 0), 2)}
        return counts.pop() * task.accumulate if len(counts) == 1 else None

    @cached_property
    def first_evaluated(self) -> Batch:
        """The first batch of the validation set, or of the fixed subset without one."""
        task = self._task
        if task.valid is None or not are_tensors(task.valid):
            return self.fixed_subset[0]
        return first_evaluation_batch(task.valid, task.batch_size, self._device)

    def notes(self) -> list[str]:
        """What a person should know about the data before reading a result."""
        found: list[str] = []
        losses = {"the criterion": self._task.criterion, VALID_LOSS: self._task.valid_loss}
        for name, loss in losses.items():
            if getattr(loss, "reduction", "mean") == "sum":
                found.append(
                    f"{name} sums over rows, so that losses depend on the size of a batch "
                    "(reduction='mean' mends it)"
                )
        if isinstance(self._task.criterion, nn.Module) and any(
            p.requires_grad for p in self._task.criterion.parameters()
        ):
            found.append(
                "the criterion has parameters of its own, which nobody trains "
                "(make it a part of the model and give a loss of model and batch)"
            )
        prototype = self._task.prototype
        if prototype.untrained:
            found.append(
                f"{prototype.untrained} of the model's {prototype.trainable} trainable parameters "
                "are not in the optimizer and stay as they are"
            )
        if prototype.groups.options:
            found.append(
                f"the optimizer's {', '.join(prototype.groups.options)} depends on the lr; while "
                "the lr of a range test grows, it stays as it is at the smallest lr"
            )
        scale = prototype.groups.scale
        if scale != 1:
            found.append(
                f"optimizer(model, lr) sets {scale:.3g} times the lr that it is given, as where a "
                "scheduler is built in it; an lr found here is the one to give it, not the "
                "optimizer's own"
            )
        if self.source.drops_single_row:
            found.append("the last training batch has a single row and is left out of every epoch")
        return found + self._first_notes + self._notes_on_weights

    @cached_property
    def _first_notes(self) -> list[str]:
        """Notes on the first training batches, which are read once."""
        found: list[str] = []
        repeatable = True
        if isinstance(self.source, LoaderSource):
            with user_code("reading the training data"):
                first = look_at(self.source)
            found += skipped_note("training", first.seen)
            if first.same_order:
                found.append(same_order_note(self.source.loader, self._task.code_for))
            repeatable = first.repeatable
        valid = self._task.valid
        if repeatable and valid is not None and not are_tensors(valid):
            with user_code("reading the validation data"):
                again = first_of_subset(valid, self._task.batch_size, self._device)
                repeatable = alike(self.fixed_subset[0], again)
        return found if repeatable else [*found, NOT_REPEATABLE]

    @cached_property
    def _notes_on_weights(self) -> list[str]:
        """A note where a seed does not say what the weights are."""
        first, again = (sketch_of_weights(self._task.built(0)) for _ in range(2))
        return [] if first.alike(again) else [OTHER_WEIGHTS]

    @property
    def has_none(self) -> bool:
        """Whether any of the first training batches was None, or any that was read since."""
        return any("were None" in note for note in [*self._first_notes, *self.later_notes()])

    def later_notes(self) -> list[str]:
        """What has shown since `notes` was called."""
        told = " ".join(vars(self).get("_first_notes", []))
        kinds = {kind: seen for kind, seen in self._seen.items() if f"{kind} batches" not in told}
        return [note for kind, seen in kinds.items() for note in skipped_note(kind, seen)]
