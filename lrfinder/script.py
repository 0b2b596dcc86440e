"""best_schedule.py: the winner as a plain PyTorch training loop that runs as it is.

Its only use of lrfinder is through the task's own file, which it imports for the model, the data,
the loss and the optimizer. Everything else is the loop that one writes by hand, with no more in it
than the task needs.
"""

from collections.abc import Mapping
from textwrap import indent
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from lrfinder.load import TaskReference
from lrfinder.task import Task


def training_loop(task: Task, reference: str, summary: Mapping[str, Any]) -> str:
    """Text of the script for a task, the reference it is loaded by, and a run's summary."""
    best, source = summary["best"], TaskReference.parse(reference)
    imports = ["import torch"]
    if _cuts_epochs(task):
        imports.insert(0, "from itertools import chain, islice, repeat\n")
    if not (_is_loader(task.train) and _is_loader(task.valid)):
        imports.append("from torch.utils.data import DataLoader")
    parts = [
        f'"""{best["schedule"]} at lr {best["lr"]:.4g}: the best schedule for {task.name}."""\n',
        "\n".join([*imports, "", *source.imports]),
        f"EPOCHS = {task.epochs}\nLR = {best['lr']!r}\nSEED = 0",
        _setting_up(task, source.factory, best["code"]),
        _moving(task),
        _evaluating(task),
        _training(task, best["step_code"], best["stepped_per"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting_up(task: Task, factory: str, scheduler: str) -> str:
    lines = [
        "torch.manual_seed(SEED)",
        f"task = {factory}()",
        "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')".replace("'", '"'),
        "model = task.model().to(device)",
        "optimizer = task.optimizer(model, LR)",
        scheduler.rpartition("\n# after")[0],
        f"train_loader = {_loader(task, 'train', shuffle=True)}",
        f"valid_loader = {_loader(task, 'valid', shuffle=False)}",
    ]
    return "\n".join(lines)


def _moving(task: Task) -> str:
    """Function that moves a batch to the device, for batches that are not (x, y)."""
    if task.criterion is not None:
        return ""
    return (
        "\ndef to_device(batch):\n"
        "    if isinstance(batch, dict):\n"
        "        return {name: value.to(device) for name, value in batch.items()}\n"
        "    return tuple(value.to(device) for value in batch)\n"
    )


def _evaluating(task: Task) -> str:
    names = ["loss", *task.metrics]
    values = ["loss(batch)"]
    arguments = "(model, batch)" if task.criterion is None else "(model(batch[0]), batch[1])"
    values += [f"task.metrics[{name!r}]{arguments}".replace("'", '"') for name in task.metrics]
    move = _moved(task)
    adding = "\n".join(
        f"            totals[{i}] += rows * float({value})" for i, value in enumerate(values)
    )
    return (
        f"\ndef loss(batch):\n{indent(_loss(task), '    ')}\n\n\n"
        f'def evaluate():\n    """Means over the validation set: {", ".join(names)}."""\n'
        f"    totals, count = [0.0] * {len(names)}, 0\n"
        "    model.eval()\n    with torch.no_grad():\n        for batch in valid_loader:\n"
        f"            batch = {move}\n            rows = task.rows(batch)\n"
        f"{adding}\n            count += rows\n"
        "    return [total / count for total in totals]\n"
    )


def _loss(task: Task) -> str:
    call = (
        "return task.loss(model, batch)"
        if task.criterion is None
        else "return task.criterion(model(batch[0]), batch[1])"
    )
    if task.autocast is None:
        return call
    return f"with torch.autocast(device.type, {task.autocast}):\n    {call}"


def _training(task: Task, step: str, per: str) -> str:
    batches = "train_loader"
    if _cuts_epochs(task):
        count = (task.steps_per_epoch or 0) * task.accumulate
        batches = f"islice(chain.from_iterable(repeat(train_loader)), {count})"
    body = _update(task) + ([step] if per == "batch" else [])
    lines = ["model.train()"]
    if task.accumulate > 1:
        lines += [f"batches = list({batches})", f"groups = {_groups(task.accumulate)}"]
        lines += ["for group in groups:", *(f"    {line}" for line in body)]
    else:
        lines += [f"for batch in {batches}:", *(f"    {line}" for line in body)]
    measures = ["valid_loss", *("metric_" + str(i) for i in range(len(task.metrics)))]
    lines += [f"{', '.join(measures)}{',' * (len(measures) == 1)} = evaluate()"]
    if per == "epoch":
        lines.append(step)
    shown = ["epoch {epoch + 1:3d}", "lr {lr:.3g}", "valid_loss {valid_loss:.4f}"]
    shown += [f"{name} {{metric_{i}:.4f}}" for i, name in enumerate(task.metrics)]
    lines.insert(0, 'lr = max(group["lr"] for group in optimizer.param_groups)')
    lines.append(f'print(f"{"  ".join(shown)}")')
    return "\nfor epoch in range(EPOCHS):\n" + indent("\n".join(lines), "    ")


def _update(task: Task) -> list[str]:
    clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {task.clip_norm})"
    backward = [f"loss({_moved(task)}).backward()"]
    if task.accumulate > 1:
        backward = ["for batch in group:", f"    (loss({_moved(task)}) / len(group)).backward()"]
    return [
        "optimizer.zero_grad()",
        *backward,
        *([clip] if task.clip_norm is not None else []),
        "optimizer.step()",
    ]


def _groups(size: int) -> str:
    return f"[batches[i : i + {size}] for i in range(0, len(batches), {size})]"


def _moved(task: Task) -> str:
    if task.criterion is None:
        return "to_device(batch)"
    return "[part.to(device) for part in batch]"


def _loader(task: Task, name: str, *, shuffle: bool) -> str:
    data = getattr(task, name)
    if _is_loader(data):
        return f"task.{name}"
    arguments = [f"task.{name}", "batch_size=task.batch_size"]
    if shuffle and not isinstance(data, IterableDataset):
        arguments.append("shuffle=True")
        if task.data().source.drops_single_row:
            arguments.append("drop_last=True")
    return f"DataLoader({', '.join(arguments)})"


def _is_loader(data: Any) -> bool:  # noqa: ANN401
    return isinstance(data, DataLoader)


def _cuts_epochs(task: Task) -> bool:
    return task.steps_per_epoch is not None
