"""The lines of a script before its loop: model, optimizer, scheduler and data, or a place for them.

Where the task was loaded, its own file has them. Where it was an object, no file has: the script
then has a marked place to be filled in.
"""

import re

from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lrfinder.report.scripts.needs import Needs
from lrfinder.report.scripts.task_import import loaded_by
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.task import Task


def setting_up(needs: Needs, source: TaskReference | None, scheduler: str) -> list[str]:
    """Lines that make the model, the optimizer, its scheduler and the data."""
    task = needs.task
    if source is None:
        filled_in = _marked_place(needs, scheduler)
        return ["torch.manual_seed(SEED)", *filled_in, scheduler, *needs.scaler]
    loaded = loaded_by(source)
    return [
        *([] if loaded == "task" else [f"task = {loaded}"]),
        'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")',
        "torch.manual_seed(SEED)",
        "model = task.model().to(device)",
        "optimizer = task.optimizer(model, LR)",
        scheduler,
        *needs.scaler,
        *(_on_device(task, "criterion", "criterion") if task.criterion else []),
        *(_on_device(task, "valid_loss_of", "valid_loss") if task.valid_loss else []),
        *(
            [f"train_loader = {_loader(task, 'train', shuffle=True)}"]
            if task.batches is None
            else []
        ),
        f"valid_loader = {_loader(task, 'valid', shuffle=False)}",
    ]


def _marked_place(needs: Needs, scheduler: str) -> list[str]:
    """Lines to be filled in where the task was an object, which no import brings back."""
    task = needs.task
    wanted = {
        "model": "the model, on the device",
        "optimizer": f"its {task.prototype.optimizer}, built for the learning rate LR",
        "train_loader": f"training batches of {task.update_rows or 'any'} rows, shuffled",
        "valid_loader": "validation batches",
    }
    wanted |= {"criterion": "criterion(output, target)"} if task.criterion else {}
    if task.batches is not None:
        del wanted["train_loader"]
        wanted |= {"get_batch": "get_batch(), a training batch"}
    arguments = "output, target" if task.criterion else needs.arguments
    wanted |= {"loss_of": f"loss_of({arguments})"} if task.loss else {}
    if task.valid_loss is not None:
        wanted |= {"valid_loss_of": f"valid_loss_of({arguments}), for validation"}
    wanted |= {"forward": "forward(model, batch)"} if task.forward else {}
    wanted |= {"metric_functions": f"by name: {', '.join(task.metrics)}"} if task.metrics else {}
    if task.evaluate is not None:
        wanted |= {"evaluate_whole": f"of a model, by name: {', '.join(task.whole)}"}
    wanted |= {"rows_of": "rows_of(batch), its number of rows"} if needs.counts_rows else {}
    if re.search(r"\btask\.", scheduler):
        wanted |= {"task": "the Task, which holds the scheduler"}
    line = "# " + "-" * 70
    return [
        'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")',
        line,
        "# Put in here what was given to lrfinder.",
        *(f"{name} = ...  # {what}" for name, what in wanted.items()),
        line,
    ]


def _on_device(task: Task, variable: str, field: str) -> list[str]:
    """The line that takes a loss from the task."""
    is_module = isinstance(getattr(task, field), nn.Module)
    return [f"{variable} = task.{field}{'.to(device)' if is_module else ''}"]


def _loader(task: Task, name: str, *, shuffle: bool) -> str:
    """The expression of the training or validation batches."""
    data, size = getattr(task, name), task.valid_size
    if name == "valid" and task.valid_batches is not None:
        return f"[task.valid_batches() for _ in range({size})]"
    if isinstance(data, DataLoader):
        return f"task.{name}"
    arguments = [f"task.{name}", "batch_size=task.batch_size"]
    if shuffle and not isinstance(data, IterableDataset):
        arguments.append("shuffle=True")
        if task.data().source.drops_single_row:
            arguments.append("drop_last=True")
    return f"DataLoader({', '.join(arguments)})"
