"""Whose fault a failure is, the task's or the lr's: the same batch is tried with initial weights.

A loss that is not finite, or an exception, is a divergence where the initial weights of the run
give neither for the same batch. Else no lr is to blame, and the batch is named. Nothing of this is
done while losses are finite.

A gradient that is not finite spoils the weights for the next batch, so the batch before the one
whose loss is not finite is looked at too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lrfinder.errors import TaskFailed
from lrfinder.tasks.data.batches import Batch, is_plain, leaves_of, map_leaves
from lrfinder.tasks.data.sources import TensorSource
from lrfinder.tasks.fields.measures import Measures
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import user_code
from lrfinder.training.trainers.building import build_model, build_optimizer, device_of
from lrfinder.training.trainers.evaluation import eval_mode, evaluation_stream

_MOST_ROWS = 1024
"""Rows of a batch that are tried one by one."""
_LR = 1e-6
"""Of the one update from initial weights."""
_NAMED = 8
"""Rows that a message names."""
_OF_BATCH = (
    "check the data for nan, and make the loss of such a batch a finite number or leave it out"
)


@dataclass(frozen=True)
class Update:
    """What one update trained on."""

    seed: int
    number: int
    """Updates made before it."""
    batches: Sequence[Batch]
    """Its micro-batches."""


def check_lost(
    task: Task, device: torch.device | None, update: Update, before: Sequence[Batch] | None
) -> None:
    """Raise TaskFailed where the loss of an update is not finite with initial weights either.

    Or the gradient of the update before it, whose micro-batches are `before`.
    """
    check_batch(task, device, update, gradient=False)
    if before is not None:
        check_batch(task, device, Update(update.seed, update.number - 1, before))


def check_batch(
    task: Task, device: torch.device | None, update: Update, *, gradient: bool = True
) -> None:
    """Raise TaskFailed where a loss, or a gradient too, is not finite with initial weights."""
    with user_code("training"):
        for number, batch in enumerate(update.batches):
            loss, largest = _tried(task, device, update.seed, batch)
            if not torch.isfinite(loss):
                _refuse(task, device, update, number, "loss", loss)
            if gradient and not torch.isfinite(largest):
                _refuse(task, device, update, number, "gradient", largest)


def check_trained(task: Task, device: torch.device | None, update: Update) -> None:
    """Make an update from the initial weights; raises TaskFailed where it raises, or is not finite.

    Where the task itself raises, that is the cause of the TaskFailed.
    """
    check_batch(task, device, update, gradient=False)
    with user_code("training"):
        model, random = build_model(task, update.seed, device)
        optimizer = build_optimizer(task, model, _LR, random)
        with random.active():
            for batch in update.batches:
                _loss_and_gradient(model, task.measures_on(device_of(model)), batch)
            optimizer.step()


def check_evaluated(task: Task, device: torch.device | None, update: Update) -> None:
    """Measure the batches with the initial weights; raises TaskFailed where the task raises.

    Without batches the whole set, as the task's `evaluate` does.
    """
    model, _ = build_model(task, update.seed, device)
    measures = task.measures_on(device_of(model))
    modules = [model, *measures.modules.values()]
    random = evaluation_stream(measures.device)
    with user_code("evaluating"), eval_mode(modules), random.active():
        for batch in update.batches:
            measures.measure(model, batch)
        if task.evaluate is not None and not update.batches:
            task.evaluate(model)


def _tried(
    task: Task, device: torch.device | None, seed: int, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Loss of a batch with the initial weights, and the largest number of its gradient."""
    model, random = build_model(task, seed, device)
    with random.active():
        return _loss_and_gradient(model, task.measures_on(device_of(model)), batch)


def _loss_and_gradient(model: nn.Module, measures: Measures, batch: Batch) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        loss = measures.loss(model, batch)
        loss.backward()
    gradients = [p.grad.detach() for p in model.parameters() if p.grad is not None]
    strided = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    largest = [g.abs().max() for g in strided if g.numel()]
    return loss.detach(), torch.stack(largest).max() if largest else torch.zeros(())


def _refuse(
    task: Task, device: torch.device | None, update: Update, number: int, what: str, value: Tensor
) -> None:
    epoch, start = divmod(update.number, task.data(device).updates_per_epoch)
    place = start * task.accumulate + number
    rows, cure = _rows(task, device, update, epoch, place, update.batches[number])
    raise TaskFailed(
        f"the {what} of training batch {place + 1} of epoch {epoch + 1} (seed {update.seed}) is "
        f"{float(value)} with the initial weights too, whatever the lr: {rows}; {cure}"
    )


def _rows(
    task: Task, device: torch.device | None, update: Update, epoch: int, place: int, batch: Batch
) -> tuple[str, str]:
    """Which rows of a batch are to blame, in words, and what to do about them."""
    bad = _bad_rows(task, device, update.seed, batch)
    source, where = task.data(device).source, "of the batch"
    if isinstance(source, TensorSource):
        numbers = source.row_numbers(update.seed, epoch, place)
        bad = sorted(numbers[row] for row in bad) if bad else []
        where = "of the training data"
        if len(bad) in (0, len(numbers)):
            return f"all its rows, {_named(sorted(numbers))} {where}", _OF_BATCH
    if not bad:
        return "the batch as a whole", _OF_BATCH
    one = len(bad) == 1
    cure = "mend it, or leave it out" if one else "mend them, or leave them out"
    return f"row{'' if one else 's'} {_named(bad)} {where}, counted from 0", cure


def _named(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(map(str, rows[:_NAMED])) + more


def _bad_rows(task: Task, device: torch.device | None, seed: int, batch: Batch) -> list[int]:
    """Rows whose own loss or gradient is not finite; none where rows cannot be told apart."""
    rows = _common_length(leaves_of(batch))
    if rows != task.count(batch) or not (is_plain(batch) or isinstance(batch, Tensor)):
        return []
    model, random = build_model(task, seed, device)
    measures = task.measures_on(device_of(model))
    bad: list[int] = []
    try:
        with random.active(), eval_mode([model]):
            for row in range(rows):
                model.zero_grad()
                one = map_leaves(partial(_only, row=row), batch)
                found = _loss_and_gradient(model, measures, one)
                if not all(bool(torch.isfinite(value)) for value in found):
                    bad.append(row)
    except Exception:  # a single row may be no batch
        return []
    return bad


def _only(tensor: Tensor, row: int) -> Tensor:
    return tensor[row : row + 1]


def _common_length(tensors: Sequence[object]) -> int:
    """Length of the first dimension of tensors that all have the same; else 0."""
    lengths = {t.shape[0] if isinstance(t, Tensor) and t.ndim else 0 for t in tensors}
    length = lengths.pop() if len(lengths) == 1 else 0
    return length if length <= _MOST_ROWS else 0
