"""A training problem, built fresh from a seed and never borrowed.

A `Task` holds factories (model, optimizer) and data. Every run calls the factories under its own
seed, so nothing has to be restored afterwards. `Task.from_objects` makes the same thing from live
objects, for fine-tuning: it copies the model and optimizer once, and every run copies that copy.

The loss of a batch is either ``criterion(model(x), y)`` for batches ``(x, y)``, or ``loss(model,
batch)`` for any other batch. Metrics take the same arguments as the one that is given.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Family
from lrfinder.schedules.live import stand_in
from lrfinder.tasks.baseline import Baseline, as_baseline
from lrfinder.tasks.batches import Batch, alike, count_rows
from lrfinder.tasks.data_checks import (
    NOT_REPEATABLE,
    OTHER_WEIGHTS,
    look_at,
    same_order_note,
    skipped_note,
)
from lrfinder.tasks.loaders import Data, LoaderSource, Seen
from lrfinder.tasks.lr_groups import LRGroups, lr_groups
from lrfinder.tasks.measures import VALID_LOSS, Measure, Measures
from lrfinder.tasks.optimizer_copies import unwrapped
from lrfinder.tasks.random_states import Stream, kept
from lrfinder.tasks.sketch import sketch_of_weights
from lrfinder.tasks.sources import (
    Source,
    are_tensors,
    evaluation_batches,
    first_evaluation_batch,
    first_of_subset,
    fixed_subset,
    training_source,
)
from lrfinder.tasks.targets import Target, check_target
from lrfinder.tasks.task_checks import (
    as_row_count,
    check_autocast,
    check_built,
    check_by_name,
    check_clip_norm,
    check_data,
    check_factory,
    check_functions,
    check_metric_names,
    check_name,
    check_one_loss,
    check_schedules,
)
from lrfinder.tasks.user_code import user_code


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A training problem: what is trained, on what, with which optimizer, for how long.

    Raises InvalidArgument, naming the field, the rule and the value, when a field cannot be used.
    """

    model: Callable[[], nn.Module]
    """Builds the model; called under the run's seed."""
    train: Data
    """TensorDataset (fast path), any other Dataset, or a DataLoader (used as it is)."""
    optimizer: Callable[[nn.Module, float], Optimizer]
    """Builds the optimizer for a model and a learning rate.

    A parameter group may have any lr: a multiple of the one asked for, a capped or a fixed one. In
    a range test a fixed lr stays; a schedule multiplies the lr of every group, as torch does.
    """
    valid: Data | None = None
    """Validation data; studies need it, a range test does not."""
    criterion: Callable[[Any, Any], Tensor] | None = None
    """criterion(model(x), y) -> scalar mean loss of a batch (x, y); or give `loss`.

    A criterion, loss or metric that is a Module is copied for each run: see `tasks/measures.py`.
    """
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    """loss(model, batch) -> scalar mean loss of any batch; or give `criterion`."""
    valid_loss: Measure | None = None
    """The loss that is evaluated, where it is not the one that is trained.

    Same arguments as the criterion or the loss given; a mean over the batch. Training minimises the
    one, and lrs and schedules are compared by the other, as where the training loss has label
    smoothing, class weights or a penalty.
    """
    metrics: Mapping[str, Measure] = field(default_factory=dict[str, Measure])
    """Further means over a batch, by name; same arguments as the criterion or the loss given."""
    batch_size: int = 64
    """Rows of a (micro-)batch; ignored where `train` is a DataLoader."""
    epochs: int = 10
    """Length of a training run: what a schedule decays over, and what a suggested lr is for."""
    clip_norm: float | None = None
    """Largest gradient norm, as in torch.nn.utils.clip_grad_norm_."""
    accumulate: int = 1
    """Micro-batches whose gradients are averaged for one update."""
    autocast: torch.dtype | None = None
    """torch.bfloat16: forward and loss run under torch.autocast."""
    steps_per_epoch: int | None = None
    """Updates that make an epoch; needed where the data have no length."""
    rows: Callable[[Any], int] = count_rows
    """Rows of a batch, the weight of its means."""
    target: Target = None
    """What of a batch is the target, exchanged to see whether anything is learnt of the inputs.

    A key or an attribute, an index, or a function that returns that part of a batch as it is; by
    default the second of a pair (x, y), or what is called labels, label, target, targets or y.
    False where there is none, as where labels are inputs of a generative model. Nothing else uses
    it.
    """
    baseline: Baseline | None = None
    """The lr and schedule in use today, or a number for a constant lr.

    It is always a candidate of the comparison.
    """
    schedules: Mapping[str, Family] = field(default_factory=dict[str, Family])
    """Further decay families, each under its own `Family.name`, searched like the built-in ones."""
    name: str = "task"
    """Shown in reports and in the name of the run folder; one line without slash and quote."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        object.__setattr__(self, "baseline", as_baseline(self.baseline))
        check_by_name("metrics", self.metrics)
        check_by_name("schedules", self.schedules)
        check_one_loss(self.criterion, self.loss)
        loss = {"criterion": self.criterion} if self.loss is None else {"loss": self.loss}
        if self.valid_loss is not None:
            loss |= {"valid_loss": self.valid_loss}
        metrics = {f"metrics[{name!r}]": metric for name, metric in self.metrics.items()}
        functions = {"model": self.model, "optimizer": self.optimizer, "rows": self.rows}
        check_functions(functions | metrics | loss)
        check_factory(self.model)
        check_target(self.target)
        counts = {"batch_size": self.batch_size, "epochs": self.epochs}
        counts |= {"accumulate": self.accumulate}
        if self.steps_per_epoch is not None:
            counts |= {"steps_per_epoch": self.steps_per_epoch}
        for name, count in counts.items():
            check_count(name, count)
        check_clip_norm(self.clip_norm)
        check_autocast(self.autocast)
        check_data("train", self.train)
        if self.valid is not None:
            check_data("valid", self.valid)
        check_metric_names(self.metrics)
        check_schedules(self.schedules)

    @staticmethod
    def from_objects(
        model: nn.Module,
        optimizer: Optimizer,
        criterion: Callable[[Any, Any], Tensor] | None,
        train_loader: Data,
        valid_loader: Data | None = None,
        *,
        loss: Callable[[nn.Module, Any], Tensor] | None = None,
        epochs: int = 10,
        metrics: Mapping[str, Measure] | None = None,
        optimizer_state: Literal["fresh", "keep"] = "fresh",
        **fields: Any,  # noqa: ANN401 (the remaining fields of Task, checked there)
    ) -> "Task":
        """Task from live objects, for fine-tuning; nothing of the caller's is changed.

        The weights are given: a seed varies the order of the data and dropout only. Model and
        optimizer are copied now, data sets are shared. ``lr`` means the lr of the group with the
        largest lr, the other groups keep their ratio to it; the optimizer's present lr becomes the
        baseline. ``optimizer_state="keep"`` starts every run from the optimizer's present state
        (momentum buffers, step counts), "fresh" from none.

        Raises InvalidArgument when the optimizer holds parameters that the model does not have, or
        the model cannot be copied.
        """
        from lrfinder.tasks.from_objects import factories

        make_model, make_optimizer, lr = factories(model, optimizer, optimizer_state)
        fields.setdefault("baseline", Baseline(lr) if lr > 0 else None)
        return Task(
            model=make_model,
            optimizer=make_optimizer,
            criterion=criterion,
            loss=loss,
            train=train_loader,
            valid=valid_loader,
            epochs=epochs,
            metrics=metrics or {},
            **fields,
        )

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured: "loss" and the metrics."""
        return ("loss", *self.metrics)

    @property
    def update_rows(self) -> int | None:
        """Rows that a full update sees; None where a DataLoader does not say."""
        size: int | None = self.batch_size
        if isinstance(self.train, DataLoader):
            loader = self.train
            size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        return None if size is None else size * self.accumulate

    def measures_on(self, device: torch.device) -> Measures:
        """The loss and the metrics behind `measures`, as copies for one run on the device."""
        loss = cast(Measure, self.loss if self.criterion is None else self.criterion)
        given = {"loss": loss, **self.metrics}
        if self.valid_loss is not None:
            given[VALID_LOSS] = self.valid_loss
        return Measures(given, self.criterion is not None, device, self.autocast).copy()

    def count(self, batch: Batch) -> float:
        """Rows of a batch by `rows`; InvalidArgument where that gives no number of them."""
        return as_row_count(self.rows(batch))

    def measured_by(self, metrics: Mapping[str, Measure]) -> "Task":
        """The task with other metrics; what was read of its data is not read again."""
        other = replace(self, metrics=metrics)
        other._opened.update({device: data.of(other) for device, data in self._opened.items()})
        return other

    def data(self, device: torch.device | None = None) -> "TaskData":
        """The task's data on a device, by default the model's own; opened once per device."""
        device = device or self.prototype.device
        if device not in self._opened:
            self._opened[device] = TaskData(self, device)
        return self._opened[device]

    @cached_property
    def _opened(self) -> "dict[torch.device, TaskData]":
        return {}

    def built(self, seed: int) -> nn.Module:
        """A new model under the random states of a seed, where its factory puts it."""
        with Stream(seed, self.prototype.device).active(), user_code("building the model"):
            return self.model()

    @cached_property
    def prototype(self) -> "Prototype":
        """What building the task once shows about its model and optimizer."""
        accelerator = torch.device("cuda") if torch.cuda.is_initialized() else None
        with kept(accelerator), user_code("building the model"):
            model = self.model()
            check_built("model", model, nn.Module)
            if model is self.model():
                raise InvalidArgument(
                    "model() must build a new model at every call, but returned the same one "
                    "twice; build it inside the function, or use Task.from_objects"
                )
        with kept(accelerator), user_code("building the optimizer"):
            optimizer = unwrapped(self.optimizer(model, 1.0))
            check_built("optimizer", optimizer, Optimizer)
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            trainable = [p for p in model.parameters() if p.requires_grad]
            return Prototype(
                device=next((p.device for p in model.parameters()), torch.device("cpu")),
                parameters=sum(p.numel() for p in model.parameters() if not is_lazy(p)),
                untrained=sum(id(p) not in held for p in trainable),
                trainable=len(trainable),
                optimizer=type(optimizer).__name__,
                stand_in=stand_in(optimizer),
                groups=lr_groups(self.optimizer, model),
            )


@dataclass(frozen=True)
class Prototype:
    """Facts about a task's model and optimizer."""

    device: torch.device
    """Where the factory puts the model."""
    parameters: int
    """Numbers in its parameters; those of lazy modules, whose shapes are not known yet, left out.
    """
    trainable: int
    """Parameters that may get a gradient."""
    untrained: int
    """Those of them that the optimizer does not hold."""
    optimizer: str
    stand_in: Optimizer
    """A tiny one like it, built for lr 1, on which schedulers can be started."""
    groups: LRGroups
    """How its parameter groups follow the lr asked for."""


class TaskData:
    """The batches of a task on one device, and how many of them make an update and an epoch."""

    def __init__(self, task: Task, device: torch.device) -> None:
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

    def of(self, task: Task) -> "TaskData":
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
            found += [same_order_note(self.source.loader)] if first.same_order else []
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
