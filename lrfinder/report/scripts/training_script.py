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
from functools import cached_property
from textwrap import fill
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lrfinder.report.scripts.task_import import import_order, loaded_by, own_import
from lrfinder.results.summary import BestFacts
from lrfinder.schedules.families.codegen import variable_name
from lrfinder.tasks.data import devices
from lrfinder.tasks.data.batches import Batch, count_rows, is_plain
from lrfinder.tasks.data.devices import parts_of
from lrfinder.tasks.data.sources import are_tensors
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.state.own_states import parts_with_epochs
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.optimizer_modes import has_modes

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
    loop = _Loop(task, given=source is None)
    head = (
        f'"""Train {task.name} with the best schedule that was found.\n\n'
        f'{fill(f"{best.schedule}, initial learning rate {best.lr:.4g}.", 88)}\n"""'
    )
    scheduler = best.code.rpartition("\n# after")[0]
    parts = [
        head,
        *_imports(loop, task, source, scheduler),
        f"EPOCHS = {task.epochs}\nLR = {best.lr!r}\nSEED = 0",
        "\n".join(loop.setting_up(source, scheduler.removeprefix(_MATH).lstrip("\n"))),
        *loop.functions(),
        "\n" + "\n".join(loop.evaluating()) + "\n",
        "\n".join(loop.training(best.step_code, best.stepped_per)),
    ]
    return "\n\n".join(parts) + "\n"


def _imports(loop: "_Loop", task: Task, source: TaskReference | None, scheduler: str) -> list[str]:
    file = None if source is None else source.file
    standard = [] if loop.moves_plainly else [*_DEVICE_IMPORTS]
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

    def __init__(self, task: Task, *, given: bool) -> None:
        self._task, self._given = task, given
        data = task.data()
        first: Any = next(data.source.epoch(0, 0))
        self.pairs = task.criterion is not None and all(isinstance(p, Tensor) for p in first)
        """Whether batches are x, y: two tensors."""
        evaluated = [] if task.valid is None else [data.first_evaluated]
        self.moves_plainly = self.pairs or all(map(_is_simple, [first, *evaluated]))
        """Whether a few lines are enough to move a batch to a device."""
        self._without_none = data.has_none
        self.counts_updates = task.steps_per_epoch is not None or data.has_none
        """Whether an epoch is a number of batches, and not one iteration of the loader."""

    def iterators(self) -> list[str]:
        """What the loop takes from itertools."""
        if self._task.batches is not None:
            drawn = {"islice", "repeat"} if self._without_none else set[str]()
            return sorted(drawn | ({"islice"} if self._task.accumulate > 1 else set()))
        if self.counts_updates:
            return ["chain", "islice", "repeat"]
        return ["islice"] if self._task.accumulate > 1 else []

    def functions(self) -> list[str]:
        """The functions that the loop calls for a batch."""
        parts = [_WITHOUT_NONE] if self._without_none else []
        if self.pairs:
            return parts
        return [*parts, _TO_DEVICE if self.moves_plainly else _all_of_devices()]

    def setting_up(self, source: TaskReference | None, scheduler: str) -> list[str]:
        """Lines that make the model, the optimizer, its scheduler and the data."""
        if source is None:
            filled_in = self._marked_place(scheduler)
            return ["torch.manual_seed(SEED)", *filled_in, scheduler, *self._scaler]
        loaded = loaded_by(source)
        return [
            *([] if loaded == "task" else [f"task = {loaded}"]),
            'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")',
            "torch.manual_seed(SEED)",
            "model = task.model().to(device)",
            "optimizer = task.optimizer(model, LR)",
            scheduler,
            *self._scaler,
            *(self._on_device("criterion", "criterion") if self._task.criterion else []),
            *(self._on_device("valid_loss_of", "valid_loss") if self._task.valid_loss else []),
            *(
                [f"train_loader = {self._loader('train', shuffle=True)}"]
                if self._task.batches is None
                else []
            ),
            f"valid_loader = {self._loader('valid', shuffle=False)}",
        ]

    def _marked_place(self, scheduler: str) -> list[str]:
        """Lines to be filled in where the task was an object, which no import brings back."""
        task = self._task
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
        arguments = "output, target" if task.criterion else self._arguments
        wanted |= {"loss_of": f"loss_of({arguments})"} if task.loss else {}
        if task.valid_loss is not None:
            wanted |= {"valid_loss_of": f"valid_loss_of({arguments}), for validation"}
        wanted |= {"forward": "forward(model, batch)"} if task.forward else {}
        wanted |= (
            {"metric_functions": f"by name: {', '.join(task.metrics)}"} if task.metrics else {}
        )
        if task.evaluate is not None:
            wanted |= {"evaluate_whole": f"of a model, by name: {', '.join(task.whole)}"}
        wanted |= {"rows_of": "rows_of(batch), its number of rows"} if self._counts_rows else {}
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

    def _own(self, name: str) -> str:
        """A field of the task, or the variable of the marked place that holds it."""
        given = {"loss": "loss_of", "rows": "rows_of", "metrics": "metric_functions"}
        given |= {"evaluate": "evaluate_whole", "batches": "get_batch"}
        return given.get(name, name) if self._given else f"task.{name}"

    def _on_device(self, variable: str, field: str) -> list[str]:
        """The line that takes a loss from the task."""
        is_module = isinstance(getattr(self._task, field), nn.Module)
        return [f"{variable} = task.{field}{'.to(device)' if is_module else ''}"]

    def evaluating(self) -> list[str]:
        task = self._task
        body = [*self._forward("valid"), f"rows = {self._rows()}", "count += rows"]
        batches = "batches_of(valid_loader)" if self._without_none else "valid_loader"
        number = "torch.as_tensor({}).item()" if self._takes_gradients else "float({})"
        further = len(task.measures) > 1
        if task.metrics:
            others = f"metric({self._arguments}) for metric in {self._own('metrics')}.values()"
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
            whole = [f"        whole = {self._own('evaluate')}(model)"]
            result += f" + [whole[name] for name in {_listed(task.whole)}]"
        what = f"Means over the validation set: {', '.join(task.means)}"
        what += f"; of the whole: {', '.join(task.whole)}" if task.whole else ""
        return [
            "def evaluate():",
            f'    """{what}."""',
            f"    sums, count = {sums}, 0",
            "    model.eval()",
            *(["    optimizer.eval()"] if self._has_modes else []),
            f"    with torch.{'enable' if self._takes_gradients else 'no'}_grad():",
            f"        for {self._batch} in {batches}:",
            *_indented(body, 3),
            *whole,
            f"    return {result}",
        ]

    @cached_property
    def _takes_gradients(self) -> bool:
        """Whether a measure calls torch.autograd.grad, so that evaluating needs gradients."""
        task = self._task
        if task.valid is None:
            return False
        data, device = task.data(), task.prototype.device
        model, measures = task.built(0).eval(), task.measures_on(device)
        with Stream(0, device).active():
            return measures.take_gradients(model, data.first_evaluated)

    def training(self, step: str, per: str) -> list[str]:
        task = self._task
        line = 'f"epoch {epoch + 1:3d}  lr {lr:.3g}  valid_loss {valid_loss:.4f}"'
        show = [f"    print({line})"]
        further = task.measures[1:]
        if further:
            names = _listed(further) if task.whole else self._own("metrics")
            pairs = f"zip({names}, metrics, strict=True)"
            values = f'f" {{name}} {{value:.4f}}" for name, value in {pairs}'
            show = [f"    shown = [{values}]", f"    print({line}, *shown)"]
        found = "valid_loss, *metrics" if further else "valid_loss"
        return [
            "for epoch in range(EPOCHS):",
            *_indented([f"{name}.set_epoch(epoch)" for name in self._told_epochs()], 1),
            '    lr = max(float(group["lr"]) for group in optimizer.param_groups)',
            "    model.train()",
            *(["    optimizer.train()"] if self._has_modes else []),
            *_indented(self._updates([step] if per == "batch" else []), 1),
            f"    {found} = evaluate()",
            *_indented(self._watched(step), 1),
            *([f"    {step}"] if per == "epoch" else []),
            *show,
        ]

    def _told_epochs(self) -> list[str]:
        """Parts of the training loader that draw a new order for each number they are given."""
        data = self._task.train
        parts = parts_with_epochs(data) if isinstance(data, DataLoader) else []
        return [f"train_loader{name}" for name, _ in parts]

    def _watched(self, step: str) -> list[str]:
        """Line that names the metric by which the scheduler is stepped, where it is one."""
        names = list(self._task.measures[1:])
        watched = [name for name in names if f"({variable_name(name)})" in step]
        return [f"{variable_name(name)} = metrics[{names.index(name)}]" for name in watched]

    def _updates(self, after_step: Sequence[str]) -> list[str]:
        """Updates of an epoch."""
        task, size = self._task, self._task.accumulate
        batches = "train_loader"
        if task.batches is not None:
            batches = self._drawn()
        elif self.counts_updates:
            cycles = "map(batches_of, repeat(train_loader))" if self._without_none else ""
            cycles = cycles or "repeat(train_loader)"
            batches = f"islice(chain.from_iterable({cycles}), {task.data().source.batches})"
        scaled = bool(self._scaler)
        step = ["scaler.step(optimizer)", "scaler.update()"] if scaled else ["optimizer.step()"]
        step += after_step
        if task.clip_norm is not None:
            clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {task.clip_norm})"
            step = [*(["scaler.unscale_(optimizer)"] if scaled else []), clip, *step]
        if size == 1:
            body = ["optimizer.zero_grad()", *self._forward("train"), self._backward("loss"), *step]
            if isinstance(task.train, DataLoader) and task.data().source.drops_single_row:
                skip = f"if {self._own('rows')}({'(x, y)' if self.pairs else 'batch'}) == 1:"
                body = [skip, "    continue  # batch normalisation cannot train on it", *body]
            return [f"for {self._batch} in {batches}:", *_indented(body, 1)]
        return [
            f"batches = iter({batches})",
            f"while group := list(islice(batches, {size})):",
            "    optimizer.zero_grad()",
            f"    for {self._batch} in group:",
            *_indented([*self._forward("train"), self._backward("loss / len(group)")], 2),
            *_indented(step, 1),
        ]

    def _drawn(self) -> str:
        """Batches of an epoch, where the task draws each of them."""
        draw, count = f"{self._own('batches')}()", self._task.data().source.batches
        if self._without_none:
            return f"islice(batches_of({draw} for _ in repeat(None)), {count})"
        return f"({draw} for _ in range({count}))"

    @property
    def _scaler(self) -> list[str]:
        """The line that makes the gradient scaler, where float16 wants one."""
        wanted = self._task.autocast is torch.float16
        return ["scaler = torch.amp.GradScaler(device.type)"] if wanted else []

    def _backward(self, loss: str) -> str:
        if self._scaler:
            return f"scaler.scale({loss}).backward()"
        return f"({loss}).backward()" if " " in loss else f"{loss}.backward()"

    @property
    def _has_modes(self) -> bool:
        """Whether the optimizer trains at other weights than it evaluates."""
        return has_modes(self._task.prototype.stand_in)

    @property
    def _batch(self) -> str:
        return "x, y" if self.pairs else "batch"

    def _forward(self, name: str) -> list[str]:
        """Lines that move a batch of these data to the device and compute its loss."""
        task = self._task
        if self.pairs:
            move = "x, y = x.to(device), y.to(device)"
        else:
            data = getattr(task, name)
            of_tensors = data is not None and are_tensors(data)
            move = f"batch = to_device({'tuple(batch)' if of_tensors else 'batch'}, device)"
        function = self._own("loss") if task.criterion is None else "criterion"
        if name == "valid" and task.valid_loss is not None:
            function = "valid_loss_of"
        lines = [*self._output, f"loss = {function}({self._arguments})"]
        if self._task.autocast is not None:
            opened = f"with torch.autocast(device.type, {self._task.autocast}):"
            lines = [opened, *_indented(lines, 1)]
        return [move, *lines]

    @property
    def _output(self) -> list[str]:
        """Line that computes what the loss and the metrics are given, where there is one."""
        if self._task.criterion is None:
            forward = f"output = {self._own('forward')}(model, batch)"
            return [] if self._task.forward is None else [forward]
        return [f"output = model({'x' if self.pairs else 'batch[0]'})"]

    @property
    def _arguments(self) -> str:
        """Arguments of the loss and of every metric."""
        if self._task.criterion is None:
            return "model, batch" if self._task.forward is None else "output, batch"
        return "output, y" if self.pairs else "output, batch[1]"

    @property
    def _counts_rows(self) -> bool:
        """Whether the rows of a batch need a function to count them."""
        return self._task.rows is not count_rows or not self.pairs

    def _rows(self) -> str:
        if self._counts_rows:
            return f"{self._own('rows')}({'(x, y)' if self.pairs else 'batch'})"
        return "len(x)"

    def _loader(self, name: str, *, shuffle: bool) -> str:
        data, size = getattr(self._task, name), self._task.valid_size
        if name == "valid" and self._task.valid_batches is not None:
            return f"[task.valid_batches() for _ in range({size})]"
        if isinstance(data, DataLoader):
            return f"task.{name}"
        arguments = [f"task.{name}", "batch_size=task.batch_size"]
        if shuffle and not isinstance(data, IterableDataset):
            arguments.append("shuffle=True")
            if self._task.data().source.drops_single_row:
                arguments.append("drop_last=True")
        return f"DataLoader({', '.join(arguments)})"


def _is_simple(batch: Batch) -> bool:
    """Whether nothing but tensors in plain tuples, lists and dicts has to be moved."""
    if is_plain(batch):
        return all(map(_is_simple, parts_of(batch)))
    return isinstance(batch, Tensor) or not (hasattr(type(batch), "to") or parts_of(batch))


def _all_of_devices() -> str:
    """The functions by which lrfinder moves batches, without the linter's comments."""
    text = inspect.getsource(devices)
    return "\n" + re.sub(r"  # noqa.*", "", text[text.index("_MOST_PARTS =") :]).rstrip()


def _listed(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _indented(lines: Sequence[str], levels: int) -> list[str]:
    return ["    " * levels + line for line in lines]
