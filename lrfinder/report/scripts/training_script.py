"""best_schedule.py: the winner as a plain PyTorch training loop that runs as it is.

Its only use of lrfinder is through the task's own file, which it imports for the model, the data,
the loss and the optimizer. Where the task was an object, no file has these: the script then has a
marked place for them. Everything else is the loop that one writes by hand, with no more in it than
the task needs.
"""

import inspect
import json
import re
from collections.abc import Sequence
from textwrap import fill

from torch.utils.data import DataLoader

from lrfinder.report.scripts.needs import Needs
from lrfinder.report.scripts.setting_up import setting_up
from lrfinder.report.scripts.task_import import import_order, own_import
from lrfinder.results.summary import BestFacts
from lrfinder.schedules.families.codegen import variable_name
from lrfinder.tasks.data import devices
from lrfinder.tasks.data.sources import are_tensors
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.state.own_states import parts_with_epochs
from lrfinder.tasks.task import Task

_TO_DEVICE = """
def to_device(batch, device):
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [to_device(part, device) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch"""
"""What is enough for plain batches; others take `devices.py` as it is."""
_DEVICE_IMPORTS = (
    "import copy",
    "import dataclasses",
    "from collections.abc import Mapping",
    "from typing import Any",
)
_WITHOUT_NONE = """
def batches_of(loader):
    return (batch for batch in loader if batch is not None)"""

_MATH = "import math"


def training_loop(task: Task, source: TaskReference | None, best: BestFacts) -> str:
    """Text of the script for a task, what it was loaded from, and the winner of a run.

    A task without a reference was an object; the script has a marked place for what it held.
    """
    needs = Needs(task, given=source is None)
    loop = _Loop(needs)
    head = (
        f'"""Train {task.name} with the best schedule that was found.\n\n'
        f'{fill(f"{best.schedule}, initial learning rate {best.lr:.4g}.", 88)}\n"""'
    )
    scheduler = best.code.rpartition("\n# after")[0]
    parts = [
        head,
        *_imports(loop, needs, source, scheduler),
        f"EPOCHS = {task.epochs}\nLR = {best.lr!r}\nSEED = 0",
        "\n".join(setting_up(needs, source, scheduler.removeprefix(_MATH).lstrip("\n"))),
        *loop.functions(),
        "\n" + "\n".join(loop.evaluating()) + "\n",
        "\n".join(loop.training(best.step_code, best.stepped_per)),
    ]
    return "\n\n".join(parts) + "\n"


def _imports(
    loop: "_Loop", needs: Needs, source: TaskReference | None, scheduler: str
) -> list[str]:
    task = needs.task
    file = None if source is None else source.file
    standard = [] if needs.moves_plainly else [*_DEVICE_IMPORTS]
    standard += ["import sys"] if file is not None else []
    standard += [_MATH] if scheduler.startswith(_MATH) else []
    if source is not None and not source.is_importable:
        standard.append("from importlib.util import module_from_spec, spec_from_file_location")
    tools = loop.iterators()
    if tools:
        standard.append(f"from itertools import {', '.join(tools)}")
    torch = ["import torch"]
    if source is not None and not (
        isinstance(task.train, DataLoader) and isinstance(task.valid, DataLoader)
    ):
        torch.append("from torch.utils.data import DataLoader")
    parts = [
        "\n".join(sorted(standard, key=import_order)),
        "\n".join(torch),
        "" if source is None else own_import(source),
    ]
    return [part for part in parts if part]


class _Loop:
    """The parts of the loop, as lines of code."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs

    def iterators(self) -> list[str]:
        """What the loop takes from itertools."""
        if self._needs.task.batches is not None:
            drawn = {"islice", "repeat"} if self._needs.without_none else set[str]()
            return sorted(drawn | ({"islice"} if self._needs.task.accumulate > 1 else set()))
        if self._needs.counts_updates:
            return ["chain", "islice", "repeat"]
        return ["islice"] if self._needs.task.accumulate > 1 else []

    def functions(self) -> list[str]:
        """The functions that the loop calls for a batch."""
        parts = [_WITHOUT_NONE] if self._needs.without_none else []
        if self._needs.pairs:
            return parts
        return [*parts, _TO_DEVICE if self._needs.moves_plainly else _all_of_devices()]

    def evaluating(self) -> list[str]:
        task = self._needs.task
        body = [*self._forward("valid"), f"rows = {self._rows()}", "count += rows"]
        batches = "batches_of(valid_loader)" if self._needs.without_none else "valid_loader"
        number = "torch.as_tensor({}).item()" if self._needs.takes_gradients else "float({})"
        further = len(task.measures) > 1
        if task.metrics:
            metrics = self._needs.own("metrics")
            others = f"metric({self._needs.arguments}) for metric in {metrics}.values()"
            body += [
                f"others = ({others})",
                "values = [loss, *others]",
                "pairs = zip(sums, values, strict=True)",
                f"sums = [total + rows * {number.format('value')} for total, value in pairs]",
            ]
            sums, result = f"[0.0] * {1 + len(task.metrics)}", "[total / count for total in sums]"
        else:
            body.append(f"sums += rows * {number.format('loss')}")
            sums, result = "0.0", "[sums / count]" if further else "sums / count"
        whole = []
        if task.evaluate is not None:
            whole = [f"        whole = {self._needs.own('evaluate')}(model)"]
            result += f" + [whole[name] for name in {_listed(task.whole)}]"
        what = f"Means over the validation set: {', '.join(task.means)}"
        what += f"; of the whole: {', '.join(task.whole)}" if task.whole else ""
        return [
            "def evaluate():",
            f'    """{what}."""',
            f"    sums, count = {sums}, 0",
            "    model.eval()",
            *(["    optimizer.eval()"] if self._needs.has_modes else []),
            f"    with torch.{'enable' if self._needs.takes_gradients else 'no'}_grad():",
            f"        for {self._needs.batch} in {batches}:",
            *_indented(body, 3),
            *whole,
            f"    return {result}",
        ]

    def training(self, step: str, per: str) -> list[str]:
        task = self._needs.task
        line = 'f"epoch {epoch + 1:3d}  lr {lr:.3g}  valid_loss {valid_loss:.4f}"'
        show = [f"    print({line})"]
        further = task.measures[1:]
        if further:
            names = _listed(further) if task.whole else self._needs.own("metrics")
            pairs = f"zip({names}, metrics, strict=True)"
            values = f'f" {{name}} {{value:.4f}}" for name, value in {pairs}'
            show = [f"    shown = [{values}]", f"    print({line}, *shown)"]
        found = "valid_loss, *metrics" if further else "valid_loss"
        return [
            "for epoch in range(EPOCHS):",
            *_indented([f"{name}.set_epoch(epoch)" for name in self._told_epochs()], 1),
            '    lr = max(float(group["lr"]) for group in optimizer.param_groups)',
            "    model.train()",
            *(["    optimizer.train()"] if self._needs.has_modes else []),
            *_indented(self._updates([step] if per == "batch" else []), 1),
            f"    {found} = evaluate()",
            *_indented(self._watched(step), 1),
            *([f"    {step}"] if per == "epoch" else []),
            *show,
        ]

    def _told_epochs(self) -> list[str]:
        """Parts of the training loader that draw a new order for each number they are given."""
        data = self._needs.task.train
        parts = parts_with_epochs(data) if isinstance(data, DataLoader) else []
        return [f"train_loader{name}" for name, _ in parts]

    def _watched(self, step: str) -> list[str]:
        """Line that names the metric by which the scheduler is stepped, where it is one."""
        names = list(self._needs.task.measures[1:])
        watched = [name for name in names if f"({variable_name(name)})" in step]
        return [f"{variable_name(name)} = metrics[{names.index(name)}]" for name in watched]

    def _updates(self, after_step: Sequence[str]) -> list[str]:
        """Updates of an epoch."""
        task, size = self._needs.task, self._needs.task.accumulate
        batches = "train_loader"
        if task.batches is not None:
            batches = self._drawn()
        elif self._needs.counts_updates:
            cycles = "map(batches_of, repeat(train_loader))" if self._needs.without_none else ""
            cycles = cycles or "repeat(train_loader)"
            batches = f"islice(chain.from_iterable({cycles}), {task.data().source.batches})"
        scaled = bool(self._needs.scaler)
        step = ["scaler.step(optimizer)", "scaler.update()"] if scaled else ["optimizer.step()"]
        step += after_step
        if task.clip_norm is not None:
            clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {task.clip_norm})"
            step = [*(["scaler.unscale_(optimizer)"] if scaled else []), clip, *step]
        if size == 1:
            body = ["optimizer.zero_grad()", *self._forward("train"), self._backward("loss"), *step]
            if isinstance(task.train, DataLoader) and task.data().source.drops_single_row:
                batch = "(x, y)" if self._needs.pairs else "batch"
                skip = f"if {self._needs.own('rows')}({batch}) == 1:"
                body = [skip, "    continue  # batch normalisation cannot train on it", *body]
            return [f"for {self._needs.batch} in {batches}:", *_indented(body, 1)]
        return [
            f"batches = iter({batches})",
            f"while group := list(islice(batches, {size})):",
            "    optimizer.zero_grad()",
            f"    for {self._needs.batch} in group:",
            *_indented([*self._forward("train"), self._backward("loss / len(group)")], 2),
            *_indented(step, 1),
        ]

    def _drawn(self) -> str:
        """Batches of an epoch, where the task draws each of them."""
        draw, count = f"{self._needs.own('batches')}()", self._needs.task.data().source.batches
        if self._needs.without_none:
            return f"islice(batches_of({draw} for _ in repeat(None)), {count})"
        return f"({draw} for _ in range({count}))"

    def _backward(self, loss: str) -> str:
        if self._needs.scaler:
            return f"scaler.scale({loss}).backward()"
        return f"({loss}).backward()" if " " in loss else f"{loss}.backward()"

    def _forward(self, name: str) -> list[str]:
        """Lines that move a batch of these data to the device and compute its loss."""
        task = self._needs.task
        if self._needs.pairs:
            move = "x, y = x.to(device), y.to(device)"
        else:
            data = getattr(task, name)
            of_tensors = data is not None and are_tensors(data)
            move = f"batch = to_device({'tuple(batch)' if of_tensors else 'batch'}, device)"
        function = self._needs.own("loss") if task.criterion is None else "criterion"
        if name == "valid" and task.valid_loss is not None:
            function = "valid_loss_of"
        lines = [*self._output, f"loss = {function}({self._needs.arguments})"]
        if self._needs.task.autocast is not None:
            opened = f"with torch.autocast(device.type, {self._needs.task.autocast}):"
            lines = [opened, *_indented(lines, 1)]
        return [move, *lines]

    @property
    def _output(self) -> list[str]:
        """Line that computes what the loss and the metrics are given, where there is one."""
        if self._needs.task.criterion is None:
            forward = f"output = {self._needs.own('forward')}(model, batch)"
            return [] if self._needs.task.forward is None else [forward]
        return [f"output = model({'x' if self._needs.pairs else 'batch[0]'})"]

    def _rows(self) -> str:
        if self._needs.counts_rows:
            return f"{self._needs.own('rows')}({'(x, y)' if self._needs.pairs else 'batch'})"
        return "len(x)"


def _all_of_devices() -> str:
    """The functions by which lrfinder moves batches, without the linter's comments."""
    text = inspect.getsource(devices)
    return "\n" + re.sub(r"  # noqa.*", "", text[text.index("_MOST_PARTS =") :]).rstrip()


def _listed(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _indented(lines: Sequence[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]
