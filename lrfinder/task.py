"""A training problem, built fresh from a seed and never borrowed.

A `Task` holds factories (model, optimizer) and data. Every run calls the factories under its own
seed, so nothing has to be restored afterwards. `Task.from_objects` makes the same thing from live
objects, for fine-tuning: it copies the model and optimizer once, and every run copies that copy.

The loss of a batch is either ``criterion(model(x), y)`` for batches ``(x, y)``, or ``loss(model,
batch)`` for any other batch. Metrics take the same arguments as the one that is given.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from sysconfig import get_path
from traceback import extract_tb
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset

from lrfinder.data import (
    Batch,
    Data,
    Source,
    count_rows,
    evaluation_batches,
    loader_length,
    no_batch_message,
    probe_batches,
    same_order_every_time,
    tensors_of,
    training_source,
)
from lrfinder.errors import InvalidArgument, LRFinderError, TaskFailed
from lrfinder.functions import Functions, Measure
from lrfinder.rng import kept
from lrfinder.schedules import FAMILIES, Family, Schedule

_TAKEN = {
    "loss",
    "valid_loss",
    "train_loss",
    "lr",
    "peak_lr",
    "seed",
    "step",
    "epoch",
    "update",
    "updates",
    "value",
    "diverged",
    "candidate",
    "schedule",
    "run",
    "act",
    "name",
    "trial",
}
"""Columns of the records: no metric has one of these names."""


@dataclass(frozen=True)
class Baseline:
    """The learning rate and the schedule that a task uses today."""

    lr: float
    schedule: Schedule | None = None
    """None: a constant learning rate."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < float("inf"):
            raise InvalidArgument(f"baseline: lr must be positive and finite, but got {self.lr}")


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
    """Builds the optimizer for a model and a learning rate; group lrs may be multiples of it."""
    valid: Data | None = None
    """Validation data; studies need it, a range test does not."""
    criterion: Callable[[Any, Any], Tensor] | None = None
    """criterion(model(x), y) -> scalar mean loss of a batch (x, y); or give `loss`.

    A criterion, loss or metric that is a Module is copied for each run; see `lrfinder.functions`.
    """
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    """loss(model, batch) -> scalar mean loss of any batch; or give `criterion`."""
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
    baseline: Baseline | None = None
    """The lr and schedule in use today: always a candidate of the comparison."""
    schedules: Mapping[str, Family] = field(default_factory=dict[str, Family])
    """Further decay families, each under its own `Family.name`, searched like the built-in ones."""
    name: str = "task"
    """Shown in reports and in the name of the run folder."""

    def __post_init__(self) -> None:
        _check_callables(self)
        _check_numbers(self)
        _check_data("train", self.train)
        if self.valid is not None:
            _check_data("valid", self.valid)
        _check_names(self)

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
        from lrfinder.live_objects import factories

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
        """Rows that a full update sees; None where a DataLoader does not tell."""
        size: int | None = self.batch_size
        if isinstance(self.train, DataLoader):
            loader = self.train
            size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        return None if size is None else size * self.accumulate

    def functions(self, device: torch.device) -> Functions:
        """The loss and the metrics behind `measures`, as copies for one run on the device."""
        loss = cast(Measure, self.loss if self.criterion is None else self.criterion)
        given = {"loss": loss, **self.metrics}
        return Functions(given, self.criterion is not None, device, self.autocast).copy()

    def data(self, device: torch.device | None = None) -> "TaskData":
        """The task's data on a device, by default the model's own; opened once per device."""
        device = device or self.prototype.device
        if device not in self._opened:
            self._opened[device] = TaskData(self, device)
        return self._opened[device]

    @cached_property
    def _opened(self) -> "dict[torch.device, TaskData]":
        return {}

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
            optimizer = self.optimizer(model, 1.0)
            check_built("optimizer", optimizer, Optimizer)
            return Prototype(
                device=next((p.device for p in model.parameters()), torch.device("cpu")),
                parameters=sum(p.numel() for p in model.parameters()),
                optimizer=type(optimizer).__name__,
                lr_ratios=tuple(float(group["lr"]) for group in optimizer.param_groups),
            )


@dataclass(frozen=True)
class Prototype:
    """Facts about a task's model and optimizer."""

    device: torch.device
    """Where the factory puts the model."""
    parameters: int
    optimizer: str
    lr_ratios: tuple[float, ...]
    """Learning rate of each parameter group, as a multiple of the lr asked for."""


class TaskData:
    """The batches of a task on one device, and how many of them make an update and an epoch."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self._task = task
        self._device = device
        k, steps = task.accumulate, task.steps_per_epoch
        self.source: Source = training_source(
            task.train, task.batch_size, device, None if steps is None else steps * k
        )
        self.updates_per_epoch: int = -(-self.source.batches // k)

    @cached_property
    def valid(self) -> Iterable[Batch] | None:
        """Every batch of the validation set, or None where the task has none."""
        task = self._task
        if task.valid is None:
            return None
        return evaluation_batches(task.valid, task.batch_size, self._device)

    @cached_property
    def probe(self) -> list[Batch]:
        """At most 256 fixed rows of the validation set, or of the training set without one."""
        task = self._task
        data = task.train if task.valid is None else task.valid
        with user_code("reading the data"):
            return probe_batches(data, task.batch_size, self._device)

    def notes(self) -> list[str]:
        """What a person should know about the data before reading a result."""
        found: list[str] = []
        if getattr(self._task.criterion, "reduction", "mean") == "sum":
            found.append(
                "the criterion sums over rows, so that losses depend on the size of a batch "
                "(reduction='mean' mends it)"
            )
        if self.source.drops_single_row:
            found.append("the last training batch has a single row and is left out of every epoch")
        with user_code("reading the training data"):
            if same_order_every_time(self.source):
                found.append(
                    "the training data come in the same order for every seed and epoch: "
                    "seeds vary less than they should (shuffle=True in the DataLoader mends it)"
                )
        return found


def check_built(factory: str, built: object, kind: type) -> None:
    """Raise InvalidArgument where a factory did not return what it is to build."""
    if not isinstance(built, kind):
        raise InvalidArgument(
            f"{factory}() must return a torch {kind.__name__}, but got {type(built).__name__}"
        )


@contextmanager
def user_code(doing: str) -> Generator[None]:
    """Turn what the user's code raises into TaskFailed: one line, with the place in the code."""
    try:
        yield
    except LRFinderError:
        raise
    except Exception as error:
        raise TaskFailed(f"{doing}, the task raised {describe(error)}") from error


def describe(error: BaseException) -> str:
    """One line for an exception: type, message, and the innermost line of the user's own code."""
    own = [f for f in extract_tb(error.__traceback__) if _is_users(f.filename)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}{place}" if message else type(error).__name__ + place


def _is_users(filename: str) -> bool:
    libraries = (Path(__file__).parent, Path(get_path("stdlib")), Path(get_path("purelib")))
    parents = Path(filename).parents
    return Path(filename).is_file() and not any(library in parents for library in libraries)


def _check_callables(task: Task) -> None:
    for name in ("metrics", "schedules"):
        if not isinstance(given := getattr(task, name), Mapping):
            raise InvalidArgument(f"{name} must be a dict by name, but got a {_kind(given)}")
    if (task.criterion is None) == (task.loss is None):
        got = "neither" if task.loss is None else "both"
        raise InvalidArgument(f"exactly one of criterion and loss must be given, but got {got}")
    functions = {"model": task.model, "optimizer": task.optimizer, "rows": task.rows}
    functions |= {f"metrics[{name!r}]": f for name, f in task.metrics.items()}
    functions |= {k: f for k in ("criterion", "loss") if (f := getattr(task, k)) is not None}
    for name, function in functions.items():
        if not callable(function):
            raise InvalidArgument(f"{name} must be callable, but got {_short(function)}")
    if isinstance(task.model, nn.Module):
        raise InvalidArgument(
            "model must be a function that builds the model, but got a model; "
            "write model=lambda: Net(...), or use Task.from_objects for live objects"
        )
    for name, family in task.schedules.items():
        if not isinstance(family, Family):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument(f"schedules[{name!r}] must be a Family, but got {family!r}")


def _check_names(task: Task) -> None:
    for name in task.metrics:
        if name in _TAKEN:
            raise InvalidArgument(
                f"metrics: the name {name!r} is taken; give the metric another name"
            )
    for name, family in task.schedules.items():
        if name == "baseline" or name in FAMILIES:
            raise InvalidArgument(
                f"schedules: the name {name!r} is taken; give the family another name"
            )
        if name != family.name:
            raise InvalidArgument(
                f"schedules[{name!r}] must be the Family of that name, but got one whose name is "
                f"{family.name!r}"
            )


def _kind(value: object) -> str:
    return type(value).__name__


def _short(value: object) -> str:
    """The value on one line, by its type where it is long."""
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text else f"a {_kind(value)}"


def _check_numbers(task: Task) -> None:
    for name in ("batch_size", "epochs", "accumulate", "steps_per_epoch"):
        value = getattr(task, name)
        if value is None and name == "steps_per_epoch":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidArgument(f"{name} must be a whole number of at least 1, but got {value!r}")
    norm: Any = task.clip_norm
    if norm is not None and not (isinstance(norm, int | float) and norm > 0):
        raise InvalidArgument(f"clip_norm must be a positive number, but got {norm!r}")
    if task.autocast not in (None, torch.bfloat16):
        raise InvalidArgument(
            f"autocast must be torch.bfloat16 or None, but got {task.autocast}; "
            "float16 would need a gradient scaler"
        )


def _check_data(name: str, data: Any) -> None:  # noqa: ANN401
    if isinstance(data, DataLoader):
        loader = cast(DataLoader[Any], data)
        if loader_length(loader) == 0:
            raise InvalidArgument(f"{name}: {no_batch_message(loader)}")
        return
    if isinstance(data, IterableDataset):
        return
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not indexed or isinstance(data, Tensor | tuple | Mapping | str):
        raise InvalidArgument(
            f"{name} must be a Dataset or a DataLoader, but got a {_kind(data)}; "
            "wrap tensors as TensorDataset(x, y)"
        )
    tensors = tensors_of(data)
    if len(data if tensors is None else tensors[0]) == 0:
        raise InvalidArgument(f"{name} must have at least one row, but got a data set of 0 rows")
