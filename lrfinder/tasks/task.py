"""A training problem, built fresh from a seed and never borrowed.

A `Task` holds factories (model, optimizer) and data. Every run calls the factories under its own
seed, so nothing has to be restored afterwards. `Task.from_objects` makes the same thing from live
objects, for fine-tuning: it copies the model and optimizer once, and every run copies that copy.

The loss of a batch is either ``criterion(model(x), y)`` for batches ``(x, y)``, or ``loss(model,
batch)`` for any other batch, or ``loss(forward(model, batch), batch)``, where one forward pass
serves the metrics too. Metrics take the same arguments as the one that is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Family
from lrfinder.tasks.data.batches import Batch, count_rows
from lrfinder.tasks.data.drawn_batches import Draw, data_or_drawn
from lrfinder.tasks.data.loaders import Data, rows_of_epoch
from lrfinder.tasks.data.targets import Target, check_target
from lrfinder.tasks.fields.baseline import STEPS_ASKED, Baseline, as_baseline, code_kind
from lrfinder.tasks.fields.lengths import EPOCHS, in_epochs
from lrfinder.tasks.fields.measures import VALID_LOSS, Measure, Measures, forward_of_pair
from lrfinder.tasks.fields.prototype import Prototype, prototype_of
from lrfinder.tasks.fields.task_checks import (
    as_row_count,
    check_autocast,
    check_by_name,
    check_clip_norm,
    check_data,
    check_factories,
    check_functions,
    check_measures,
    check_metric_names,
    check_name,
    check_one_loss,
    check_schedules,
)
from lrfinder.tasks.fields.whole_measures import Evaluate, names_of, whole_measures
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task_data import TaskData
from lrfinder.tasks.user_code import user_code
from lrfinder.types import CodeKind, Per


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A training problem: what is trained, on what, with which optimizer, for how long.

    Raises InvalidArgument, naming the field, the rule and the value, when a field cannot be used.
    """

    model: Callable[[], nn.Module]
    """Builds the model; called under the run's seed."""
    optimizer: Callable[[nn.Module, float], Optimizer]
    """Builds the optimizer for a model and a learning rate.

    A parameter group may have any lr: a multiple of the one asked for, a capped or a fixed one. In
    a range test a fixed lr stays; a schedule multiplies the lr of every group, as torch does.
    """
    train: Data = None  # pyright: ignore[reportAssignmentType] (never None afterwards)
    """TensorDataset (fast path), any other Dataset, or a DataLoader (used as it is)."""
    valid: Data | None = None
    """Validation data; studies need it, a range test does not."""
    batches: Draw | None = None
    """batches() -> a training batch, in place of `train`: ``lambda: get_batch("train")``.

    It is called under the random states of each run. Its training is told in `updates`.
    """
    valid_batches: Draw | None = None
    """valid_batches() -> a validation batch, in place of `valid`; the same ones for all runs."""
    valid_size: int = 20
    """How many `valid_batches` are the validation set."""
    criterion: Callable[[Any, Any], Tensor] | None = None
    """criterion(model(x), y) -> scalar mean loss of a batch (x, y); or give `loss`.

    A criterion, loss or metric that is a Module is copied for each run: see
    `tasks/fields/measures.py`.
    """
    loss: Callable[[Any, Any], Tensor] | None = None
    """loss(model, batch) -> scalar mean loss of any batch; or give `criterion`.

    With `forward` it is loss(output, batch).
    """
    forward: Callable[[nn.Module, Any], Any] | None = None
    """forward(model, batch) -> output: the one forward pass from which `loss` and metrics compute.

    They all are functions of (output, batch) then, and the model is called once for all of them.
    """
    valid_loss: Measure | None = None
    """The loss that is evaluated, where it is not the one that is trained.

    Same arguments as the criterion or the loss given; a mean over the batch. Training minimises the
    one, and lrs and schedules are compared by the other, as where the training loss has label
    smoothing, class weights or a penalty.
    """
    metrics: Mapping[str, Measure] = field(default_factory=dict[str, Measure])
    """Further means over a batch, by name; same arguments as the criterion or the loss given."""
    evaluate: Evaluate | None = None
    """evaluate(model) -> measures by name, for what is no mean of batches: F1, AUC, perplexity.

    It reads data of its own, in eval mode and without gradients (with them where it asks for some
    by torch.autograd.grad, as any measure may), after every epoch of a study, and may be the
    objective. A range test does not call it: there the loss alone counts.
    """
    batch_size: int = 64
    """Rows of a (micro-)batch; ignored where `train` is a DataLoader."""
    epochs: int = EPOCHS
    """Length of a training run: what a schedule decays over, and what a suggested lr is for."""
    updates: int | None = None
    """The length in updates, instead; a schedule is then stepped after each by default.

    An epoch is then what lies between two evaluations: `steps_per_epoch` updates, or as many as
    make `epochs` of them.
    """
    clip_norm: float | None = None
    """Largest gradient norm, as in torch.nn.utils.clip_grad_norm_."""
    accumulate: int = 1
    """Micro-batches whose gradients are averaged for one update."""
    autocast: torch.dtype | None = None
    """torch.bfloat16 or torch.float16: forward and loss run under torch.autocast.

    With float16 the loss is scaled by a torch.amp.GradScaler of the run's own, which leaves updates
    out whose gradients are not finite; such runs are not batched.
    """
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
    """The lr and schedule in use today, which is always a candidate of the comparison.

    A Baseline, or what stands for one: a number for a constant lr, a pair ``(lr, lambda optimizer:
    scheduler)``, a function get_lr(it) of the update's number, counted from 0, or a text such as
    "0.1,step,step_size=30,gamma=0.1".
    """
    schedules: Mapping[str, Family] = field(default_factory=dict[str, Family])
    """Further decay families, each under its own `Family.name`, searched like the built-in ones."""
    name: str = "task"
    """Shown in reports and in the name of the run folder; one line without slash and quote."""
    code_for: CodeKind | None = None
    """What the code of the answer is written for in reports: "torch", "lightning", ...

    By default what the task was made from, and "function" where the baseline is a function.
    """

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_by_name("metrics", self.metrics)
        check_by_name("schedules", self.schedules)
        self._check_functions()
        self._check_counts()
        self._settle_length()
        self._settle_data()
        check_clip_norm(self.clip_norm)
        check_autocast(self.autocast)
        check_data("train", self.train)
        if self.valid is not None:
            check_data("valid", self.valid)
        check_metric_names(self.metrics)
        check_schedules(self.schedules)
        self._settle_baseline()

    def _check_functions(self) -> None:
        check_one_loss(self.criterion, self.loss, self.forward)
        check_factories(self.model, self.optimizer)
        check_functions({"model": self.model, "optimizer": self.optimizer, "rows": self.rows})
        check_measures({f"metrics[{name!r}]": metric for name, metric in self.metrics.items()})
        losses = {"criterion": self.criterion, "loss": self.loss, "valid_loss": self.valid_loss}
        further = {"forward": self.forward, "evaluate": self.evaluate}
        measures = {**losses, **further}
        check_measures({name: given for name, given in measures.items() if given is not None})
        check_target(self.target)

    def _check_counts(self) -> None:
        counts = {"batch_size": self.batch_size, "epochs": self.epochs}
        counts |= {"accumulate": self.accumulate, "valid_size": self.valid_size}
        asked = {"steps_per_epoch": self.steps_per_epoch, "updates": self.updates}
        counts |= {name: count for name, count in asked.items() if count is not None}
        for name, count in counts.items():
            check_count(name, count)

    def _settle_length(self) -> None:
        """Work out epochs and their updates where the length is told in updates."""
        if self.updates is not None:
            steps, epochs = in_epochs(self.updates, self.steps_per_epoch, self.epochs)
            object.__setattr__(self, "steps_per_epoch", steps)
            object.__setattr__(self, "epochs", epochs)
        elif self.batches is not None and self.steps_per_epoch is None:
            raise InvalidArgument(
                "batches have no end, so that the length must be told in updates, but got none; "
                "give Task(updates=...)"
            )

    def _settle_data(self) -> None:
        """Make loaders of the functions that draw batches."""
        train = data_or_drawn(("train", "batches"), self.train, self.batches)
        drawn = self.valid_batches
        valid = data_or_drawn(("valid", "valid_batches"), self.valid, drawn, self.valid_size)
        object.__setattr__(self, "train", train)
        object.__setattr__(self, "valid", valid)

    def _settle_baseline(self) -> None:
        """Make a Baseline of what stands for one, and settle what its code is written for."""
        object.__setattr__(self, "code_for", code_kind(self.code_for, self.baseline))
        if self.baseline is not None:
            asked = self.updates or self.epochs * (self.steps_per_epoch or STEPS_ASKED)
            baseline = as_baseline(self.baseline, self.per, asked, self.schedules)
            object.__setattr__(self, "baseline", baseline)

    @staticmethod
    def from_objects(
        model: nn.Module,
        optimizer: Optimizer,
        criterion: Callable[[Any, Any], Tensor] | None,
        train_loader: Data | None = None,
        valid_loader: Data | None = None,
        *,
        loss: Callable[[Any, Any], Tensor] | None = None,
        epochs: int = EPOCHS,
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
            train=cast(Data, train_loader),
            valid=valid_loader,
            epochs=epochs,
            metrics=metrics or {},
            **fields,
        )

    @staticmethod
    def from_lightning(
        module: nn.Module,
        datamodule: Any = None,  # noqa: ANN401 (a LightningDataModule)
        *,
        train_loader: DataLoader[Any] | None = None,
        valid_loader: DataLoader[Any] | None = None,
        epochs: int | None = None,
        trainer: Any = None,  # noqa: ANN401 (a Lightning Trainer)
        valid_loss: str | None = None,
        **fields: Any,  # noqa: ANN401 (the remaining fields of Task, checked there)
    ) -> "Task":
        """Task from a LightningModule, by its own steps; nothing of the caller's is changed.

        Data are those of the data module, the loaders, or the module's own. Of a Trainer clipping,
        accumulation, precision and length are taken. Every run trains a copy of the module from its
        present weights with the optimizer of `configure_optimizers`, whose lr and scheduler become
        the baseline. The loss compared is what `validation_step` returns or logs as val_loss, or
        the logged value called `valid_loss`; what else it logs are the metrics, as means over
        batches. Of the hooks those that set up the module and transfer a batch are called.

        An update of fewer batches than are accumulated, at the end of an epoch, averages those it
        has; Lightning divides by the full number.

        Raises InvalidArgument where a step, an optimizer or a setting cannot be used.
        """
        from lrfinder.tasks.adapters.lightning import fields_of

        made = fields_of(
            module, datamodule, train_loader, valid_loader, epochs, trainer, valid_loss, fields
        )
        return Task(**{**made, **fields})

    @staticmethod
    def from_trainer(trainer: Any, **fields: Any) -> "Task":  # noqa: ANN401 (a transformers.Trainer)
        """Task from a Trainer of Hugging Face Transformers; nothing of the caller's is changed.

        Everything is taken from the Trainer: data and collator, `compute_loss`, parameter groups
        and weight decay, accumulation, clipping, bf16, length; its lr and its scheduler, warm-up
        included, become the baseline. Every run trains a new model of `model_init`, or a copy of
        the present model.

        Of accumulated batches the losses are averaged, whatever number of tokens each has.

        Raises InvalidArgument where the Trainer has no eval set or a setting cannot be used.
        """
        from lrfinder.tasks.adapters.transformers import fields_of

        return Task(**{**fields_of(trainer, fields), **fields})

    @staticmethod
    def from_skorch(
        net: Any,  # noqa: ANN401 (a skorch NeuralNet)
        X: Any,  # noqa: ANN401 (whatever `fit` takes)
        y: Any = None,  # noqa: ANN401
        **fields: Any,  # noqa: ANN401 (the remaining fields of Task, checked there)
    ) -> "Task":
        """Task from a skorch net and what its `fit` takes; nothing of the caller's is changed.

        Every run trains a fresh module, as `fit` does, with the net's criterion, optimizer,
        train_split, iterators and max_epochs. Of its callbacks GradientNormClipping is used, and
        LRScheduler becomes the baseline's.

        Raises InvalidArgument where the net trains in a way of its own.
        """
        from lrfinder.tasks.adapters.skorch import fields_of

        return Task(**{**fields_of(net, X, y, fields), **fields})

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured: "loss", the metrics and what `evaluate` returns."""
        return (*self.means, *self.whole)

    @property
    def means(self) -> tuple[str, ...]:
        """Names of what is measured batch by batch: "loss" and the metrics."""
        return ("loss", *self.metrics)

    @cached_property
    def whole(self) -> tuple[str, ...]:
        """Names of what `evaluate` returns, as a call with initial weights shows."""
        if self.evaluate is None:
            return ()
        model, device = self.built(0), self.prototype.device
        if device.type == "cpu" and torch.cuda.is_available():
            device = torch.device("cuda")
        model.to(device).eval()
        with Stream(0, device).active(), torch.no_grad(), user_code("evaluating"):
            return names_of(whole_measures(self.evaluate, model), self.metrics)

    @property
    def per(self) -> Per:
        """How often schedules are stepped where nobody says it."""
        return "epoch" if self.updates is None else "batch"

    def trained_for(self, epochs: int) -> "Task":
        """The task with trainings of another length."""
        updates = None if self.updates is None else epochs * (self.steps_per_epoch or 1)
        return replace(self, epochs=epochs, updates=updates)

    @property
    def update_rows(self) -> int | None:
        """Rows that a full update sees; None where a DataLoader does not say."""
        size: int | None = self.batch_size
        if isinstance(self.train, DataLoader):
            loader = self.train
            size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        rows = rows_of_epoch(self.train)
        if size is None or rows is None:
            return None if size is None else size * self.accumulate
        update = min(size, rows) * self.accumulate
        return update if self.steps_per_epoch is not None else min(update, rows)

    def measures_on(self, device: torch.device) -> Measures:
        """The loss and the metrics behind `measures`, as copies for one run on the device."""
        loss = cast(Measure, self.loss if self.criterion is None else self.criterion)
        given = {"loss": loss, **self.metrics}
        if self.valid_loss is not None:
            given[VALID_LOSS] = self.valid_loss
        forward = self.forward if self.criterion is None else forward_of_pair
        return Measures(given, forward, device, self.autocast).copy()

    def count(self, batch: Batch) -> float:
        """Rows of a batch by `rows`; InvalidArgument where that gives no number of them."""
        return as_row_count(self.rows(batch))

    def measured_by(self, metrics: Mapping[str, Measure]) -> "Task":
        """The task with these metrics and no others; what was read of its data is kept."""
        other = replace(self, metrics=metrics, evaluate=None)
        other._opened.update({device: data.of(other) for device, data in self._opened.items()})
        return other

    def data(self, device: torch.device | None = None) -> TaskData:
        """The task's data on a device, by default the model's own; opened once per device."""
        device = device or self.prototype.device
        if device not in self._opened:
            self._opened[device] = TaskData(self, device)
        return self._opened[device]

    @cached_property
    def _opened(self) -> dict[torch.device, TaskData]:
        return {}

    def built(self, seed: int) -> nn.Module:
        """A new model under the random states of a seed, where its factory puts it."""
        with Stream(seed, self.prototype.device).active(), user_code("building the model"):
            return self.model()

    @property
    def prototype(self) -> Prototype:
        """What building the task once shows about its model and optimizer."""
        return self._prototype

    @cached_property
    def _prototype(self) -> Prototype:
        return prototype_of(self.model, self.optimizer)
