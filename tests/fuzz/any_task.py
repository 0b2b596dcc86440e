"""Tasks over many dimensions at once: each value of `DIMENSIONS` is a way that people write one.

All are one regression: rows of [TIMES, FEATURES] numbers, of which a model sees the mean over time.
The first value of a dimension is the plain one.
"""

import random
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.task import Baseline, Task

TIMES, FEATURES = 3, 4
DIMENSIONS: dict[str, tuple[Any, ...]] = {
    "rows": (40, 37, 33, 8, 1),
    "batch_size": (8, 16, 64, 1),
    "layout": ("rows first", "time first"),
    "batch": ("pair", "list", "dict", "named tuple", "dataclass", "graph", "packed"),
    "loss": ("criterion", "module", "loss", "per row", "sum", "weighted"),
    "data": (
        "loader", "in order", "tensors", "subset", "dataset", "batch sampler", "drop last",
        "stream", "endless", "generator", "numpy", "python", "none", "augmented",
    ),
    "valid": ("loader", "tensors", "dataset", "none", "one row"),
    "model": (
        "linear", "network", "batch norm", "dropout", "lazy", "lock", "counts", "frozen", "tied",
        "seeds", "recurrent", "spectral",
    ),
    "dtype": ("float64", "float32", "bfloat16", "default float64"),
    "device": ("as it is", "to cpu", "default cpu"),
    "optimizer": (
        "sgd", "momentum", "adam", "adamw foreach", "rmsprop", "adagrad", "tensor lr", "own",
        "rprop", "asgd", "nadam",
    ),
    "groups": ("one", "ratio", "fixed", "capped", "squared", "shared ratio and decay"),
    "hooks": ("none", "ema", "forward", "gradient", "before step"),
    "metrics": ("none", "one", "module", "nan", "int", "two"),
    "accumulate": (1, 3),
    "clip_norm": (None, 1.0),
    "autocast": (None, torch.bfloat16),
    "epochs": (2, 1),
    "steps_per_epoch": (None, 2, 9),
    "baseline": (None, 0.01, "step", "cosine", "plateau"),
    "entry": ("factories", "objects"),
}  # fmt: skip
"""Ways to write a task that works."""
FAULTS: tuple[str, ...] = (
    "nan at once", "nan later", "inf later", "nan at a high lr", "raises at once", "raises later",
    "raises at a high lr", "exits", "loss is None", "loss is a number", "loss is a tuple",
    "loss is a dict", "loss has a shape", "loss is detached", "loss is an integer",
    "loss is complex", "loss is constant", "model is None", "model raises", "same model",
    "optimizer is None", "optimizer raises", "optimizer is empty", "lbfgs", "no data",
    "no validation rows", "data raise", "data raise later", "data exit", "data are words",
    "nan data", "metric raises", "metric is None", "metric is a word", "metric is called loss",
    "rows is zero", "rows raises", "warns", "prints", "grad mode off",
    "deletes its gradients", "anomaly", "recursion", "long message", "message of two lines",
    "message without UTF-8", "changes the lr", "no gradient later", "ends by StopIteration",
    "generator exit", "model is a list", "train is a list", "unpicklable",
)  # fmt: skip
"""What a task may do wrong, or what looks as if it were wrong."""


class Named(NamedTuple):
    x: Any
    y: Tensor


@dataclass
class Record:
    x: Any
    y: Tensor


class Graph:
    """A batch that has its own way to a device, and no length."""

    def __init__(self, x: Any, y: Tensor) -> None:
        self.x, self.y = x, y

    def to(self, device):
        return Graph(self.x.to(device), self.y.to(device))


MAKE: dict[str, Callable[[Any, Tensor], Any]] = {
    "pair": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "dict": lambda x, y: {"x": x, "y": y, "words": ["a"]},
    "named tuple": Named,
    "dataclass": Record,
    "graph": Graph,
    "packed": lambda x, y: (pack_sequence(list(x)), y),
}
PAIRS = ("pair", "list", "named tuple", "packed")


def parts(batch: Any) -> tuple[Any, Tensor]:
    """x and y of a batch of any kind."""
    if isinstance(batch, tuple | list):
        return batch[0], batch[1]
    if isinstance(batch, dict):
        return batch["x"], batch["y"]
    return batch.x, batch.y


def rows_of(batch: Any) -> int:
    return len(parts(batch)[1])


class Rows(Dataset):
    """Rows that are not tensors of a TensorDataset, with whatever changes or breaks them."""

    def __init__(self, x: Tensor, y: Tensor, kind: str = "", fault: str = "") -> None:
        self.x, self.y, self.kind, self.fault = x, y, kind, fault
        self.numpy, self.python = np.random.default_rng(0), random.Random(0)
        self.read = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read += 1
        if self.fault == "data raise" or (self.fault == "data raise later" and self.read > 150):
            raise OSError("cannot read the row")
        if self.fault == "data exit":
            sys.exit(0)
        if self.fault == "data are words":
            return "word", "word"  # type: ignore
        scale = 1.0
        if self.kind == "numpy":
            scale += 0.01 * self.numpy.standard_normal()
        elif self.kind == "python":
            scale += 0.01 * self.python.random()
        elif self.kind == "augmented":
            scale += 0.01 * float(torch.randn(()))
        return self.x[index] * scale, self.y[index]


class Stream(IterableDataset):
    """The rows in an order of their own."""

    def __init__(self, data: Dataset, *, endless: bool) -> None:
        self.data, self.endless = data, endless

    def __iter__(self):
        while True:
            order = torch.randperm(len(self.data)).tolist()  # type: ignore
            yield from (self.data[index] for index in order)
            if not self.endless:
                return


class Net(nn.Module):
    """The mean over time, and a network on it."""

    def __init__(self, kind: str, time: int, fault: str) -> None:  # noqa: C901 (a table)
        super().__init__()
        self.kind, self.time, self.fault = kind, time, fault
        self.layers: nn.Module = nn.Linear(FEATURES, 1)
        if kind == "lock":
            self.lock = threading.Lock()
        elif kind == "recurrent":
            self.memory = nn.GRU(FEATURES, 5, batch_first=time == 1)
            self.layers = nn.Linear(5, 1)
        elif kind in ("network", "frozen", "tied"):
            self.layers = nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, 1))
            if kind == "frozen":
                self.layers[0].requires_grad_(False)
            if kind == "tied":
                self.again = self.layers[2]
        elif kind == "batch norm":
            self.layers = nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
        elif kind == "dropout":
            self.layers = nn.Sequential(nn.Dropout(0.2), nn.Linear(FEATURES, 1))
        elif kind == "lazy":
            self.layers = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(1))
        elif kind == "spectral":
            layer = nn.utils.parametrizations.spectral_norm(nn.Linear(FEATURES, 5))
            self.layers = nn.Sequential(layer, nn.Linear(5, 1))
        if kind == "counts":
            self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Any) -> Tensor:
        if self.kind == "counts" and self.training:
            self.seen += 1  # type: ignore
        if isinstance(x, PackedSequence):
            x = pad_packed_sequence(x, batch_first=self.time == 1)[0]
        if self.kind == "recurrent":
            out = self.memory(x)[0]
            return self.layers(out[:, -1] if self.time == 1 else out[-1])
        return self.layers(x.mean(self.time))


class Own(torch.optim.SGD):
    """A user's own step."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p -= group["lr"] * p.grad


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw foreach": lambda params, lr: torch.optim.AdamW(params, lr, foreach=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "tensor lr": lambda params, lr: torch.optim.Adam(params, torch.tensor(lr), capturable=False),
    "own": Own,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
    "nadam": torch.optim.NAdam,
    "lbfgs": torch.optim.LBFGS,
}
GROUP_LR: dict[str, Callable[[float], float]] = {
    "ratio": lambda lr: lr / 10,
    "fixed": lambda lr: 1e-3,
    "capped": lambda lr: min(lr, 0.1),
    "squared": lambda lr: lr**2,
    "shared ratio and decay": lambda lr: 2 * lr,
}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class ShownError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        return "broken \udc80 text"


class Losses:
    """The loss of a batch, by criterion or as a whole, and what goes wrong in it."""

    def __init__(self, shape: Mapping[str, Any]) -> None:
        self.kind, self.fault, self.calls = shape["loss"], shape["fault"], 0

    def of(self, output: Tensor, y: Tensor) -> Tensor:
        if self.fault == "data are words":
            return output
        if self.kind == "per row":
            return ((output - y) ** 2).mean(1).mean()
        if self.kind == "sum":
            return ((output - y) ** 2).sum()
        if self.kind == "weighted":
            weight = torch.ones_like(y)
            return (weight * (output - y) ** 2).sum() / weight.sum()
        return nn.functional.mse_loss(output, y)

    def criterion(self, output: Tensor, y: Tensor) -> Any:
        return self.broken(self.of(output, y))

    def loss(self, model: nn.Module, batch: Any) -> Any:
        x, y = parts(batch)
        return self.broken(self.of(model(x), y))

    def broken(self, loss: Tensor) -> Any:  # noqa: C901 (a table of what goes wrong)
        fault = self.fault
        if fault == "none":
            return loss
        self.calls += 1
        later = self.calls > 12
        high = fault.endswith("high lr") and not bool(loss.detach() < 1e3)
        if fault == "nan at once" or (fault == "nan later" and later):
            return loss * float("nan")
        if fault == "inf later" and later:
            return loss + float("inf")
        if fault == "nan at a high lr" and high:
            return loss * float("nan")
        if fault == "raises at once" or (fault == "raises later" and later):
            raise ValueError("broken")
        if fault == "raises at a high lr" and high:
            raise ArithmeticError("underflow in the step of the solver")
        if fault == "exits":
            sys.exit(0)
        if fault == "generator exit":
            raise GeneratorExit
        if fault == "ends by StopIteration":
            raise StopIteration
        if fault == "recursion":
            return self.broken(loss)
        if fault == "long message":
            raise RuntimeError("very long " * 5000)
        if fault == "message of two lines":
            raise RuntimeError("one\ntwo\r\n[bold]three[/] \x1b[31m")
        if fault == "message without UTF-8":
            raise ShownError
        if fault == "no gradient later" and later:
            return loss.detach()
        if fault == "grad mode off":
            with torch.no_grad():
                return loss * 1
        if fault == "warns":
            import warnings

            warnings.warn("careful", UserWarning, stacklevel=1)
        if fault == "prints":
            print("a line of the task")  # noqa: T201
        shaped: dict[str, Callable[[], Any]] = {
            "loss is None": lambda: None,
            "loss is a number": lambda: loss.item(),
            "loss is a tuple": lambda: (loss, 1),
            "loss is a dict": lambda: {"loss": loss},
            "loss has a shape": lambda: loss.expand(3),
            "loss is detached": lambda: loss.detach(),
            "loss is an integer": lambda: loss.detach().long(),
            "loss is complex": lambda: loss * (1 + 0j),
            "loss is constant": lambda: loss * 0 + 1,
        }
        return shaped[fault]() if fault in shaped else loss


class ModuleLoss(nn.Module):
    """The criterion as a module."""

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        self.losses = losses

    def forward(self, output: Tensor, y: Tensor) -> Any:
        return self.losses.criterion(output, y)


class ModuleMetric(nn.Module):
    def forward(self, output: Any, y: Any) -> Any:
        return parts(y)[1].double().abs().mean() if not isinstance(y, Tensor) else y.abs().mean()


def made_rows(count: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [rows, TIMES, FEATURES] and y [rows, 1], linear in the mean over time."""
    numbers = np.random.default_rng(seed)
    x = torch.tensor(numbers.standard_normal((count, TIMES, FEATURES)) + 0.5)
    y = x.mean(1) @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]], dtype=torch.float64)
    y += 0.05 * torch.tensor(numbers.standard_normal((count, 1)))
    return x.to(dtype), y.to(dtype)


class _Builder:
    """Makes the parts of a task of the shape."""

    def __init__(self, shape: Mapping[str, Any]) -> None:
        self.shape = shape
        self.fault: str = shape["fault"]
        self.dtype = DTYPES[shape["dtype"].removeprefix("default ")]
        of_tensors = shape["data"] in ("tensors", "subset", "dataset")
        self.batch = "pair" if of_tensors else shape["batch"]
        self.time_first = shape["layout"] == "time first" and not of_tensors
        if self.batch == "packed":
            self.time_first = False
        self.one_model: nn.Module | None = None
        self.losses = Losses(shape)

    def model(self) -> Any:  # noqa: C901 (a table)
        if self.fault == "model is None":
            return None
        if self.fault == "model is a list":
            return [nn.Linear(1, 1)]
        if self.fault == "model raises":
            raise RuntimeError("no weights")
        if self.shape["model"] == "seeds":
            torch.manual_seed(5)
        net = Net(self.shape["model"], 0 if self.time_first else 1, self.fault).to(self.dtype)
        if self.shape["device"] == "to cpu":
            net = net.to("cpu")
        if self.shape["hooks"] == "forward":
            net.register_forward_hook(lambda module, args, output: output * 1.0)
        if self.shape["hooks"] == "gradient":
            for p in net.parameters():
                if p.requires_grad and not nn.parameter.is_lazy(p):
                    p.register_hook(lambda grad: grad * 0.5)
        if self.fault == "unpicklable":
            net.file = open(__file__)  # noqa: SIM115, PTH123
        if self.fault == "same model":
            self.one_model = self.one_model or net
            return self.one_model
        return net

    def optimizer(self, model: nn.Module, lr: float) -> Any:
        if self.fault == "optimizer is None":
            return None
        if self.fault == "optimizer raises":
            raise RuntimeError("no optimizer")
        held = [p for p in model.parameters() if p.requires_grad]
        params: Any = [] if self.fault == "optimizer is empty" else held
        if self.shape["groups"] != "one" and self.fault != "lbfgs":
            second = {"params": held[1:], "lr": GROUP_LR[self.shape["groups"]](lr)}
            params = [{"params": held[:1]}, second]
        name = "lbfgs" if self.fault == "lbfgs" else self.shape["optimizer"]
        made = OPTIMIZERS[name](params, lr)
        if self.shape["hooks"] == "ema":
            mean = [p.detach().clone() for p in held if not nn.parameter.is_lazy(p)]

            def follow(*_: Any) -> None:
                for old, p in zip(mean, held, strict=False):
                    old.lerp_(p.detach(), 0.1)

            made.register_step_post_hook(follow)
        if self.shape["hooks"] == "before step":
            made.register_step_pre_hook(lambda *_: None)
        if self.fault == "changes the lr":
            made.register_step_pre_hook(lambda o, *_: o.param_groups[0].update(lr=1e-3))
        if self.fault == "deletes its gradients":
            made.register_step_pre_hook(lambda o, *_: o.zero_grad())
        return made

    def collate(self, rows: list[Any]) -> Any:
        x, y = default_collate(rows)
        if self.shape["data"] == "none" and bool(y[0] > 2):
            return None
        if self.time_first:
            x = x.transpose(0, 1)
        return MAKE[self.batch](x, y)

    def train(self) -> Any:
        shape, kind = self.shape, self.shape["data"]
        if self.fault == "train is a list":
            return [1, 2, 3]
        x, y = made_rows(0 if self.fault == "no data" else shape["rows"], 0, self.dtype)
        if self.fault == "nan data":
            x = x * float("nan")
        if kind == "tensors" and not self.fault.startswith("data"):
            return TensorDataset(x, y)
        if kind == "subset" and not self.fault.startswith("data"):
            return Subset(TensorDataset(x, y), range(len(x)))
        data = Rows(x, y, kind, self.fault)
        if kind == "dataset":
            return data
        size, how = shape["batch_size"], {"collate_fn": self.collate}
        if kind == "in order":
            return DataLoader(data, size, **how)
        if kind == "batch sampler":
            return DataLoader(
                data, batch_sampler=BatchSampler(RandomSampler(data), size, False), **how
            )
        if kind == "drop last":
            return DataLoader(data, size, shuffle=True, drop_last=True, **how)
        if kind in ("stream", "endless"):
            return DataLoader(Stream(data, endless=kind == "endless"), size, **how)
        generator = torch.Generator().manual_seed(3) if kind == "generator" else None
        return DataLoader(data, size, shuffle=True, generator=generator, **how)

    def valid(self) -> Any:
        kind = self.shape["valid"]
        if kind == "none":
            return None
        count = 0 if self.fault == "no validation rows" else 1 if kind == "one row" else 21
        x, y = made_rows(count, 1, self.dtype)
        if self.batch == "pair" and not self.time_first and kind == "tensors":
            return TensorDataset(x, y)
        if self.batch == "pair" and not self.time_first and kind == "dataset":
            return Rows(x, y)
        return DataLoader(Rows(x, y), self.shape["batch_size"], collate_fn=self.collate)

    def metrics(self) -> dict[str, Any]:
        def error(output: Any, y: Any) -> Any:
            return ModuleMetric()(output, y)

        made: dict[str, dict[str, Any]] = {
            "none": {},
            "one": {"error": error},
            "module": {"error": ModuleMetric()},
            "nan": {"error": lambda *_: float("nan")},
            "int": {"error": lambda *_: 3},
            "two": {"a b": error, "c": lambda *_: torch.tensor([1.5])},
        }
        broken: dict[str, dict[str, Any]] = {
            "metric raises": {"error": lambda *_: 1 / 0},
            "metric is None": {"error": lambda *_: None},
            "metric is a word": {"error": lambda *_: "good"},
            "metric is called loss": {"loss": error},
        }
        return broken.get(self.fault, made[self.shape["metrics"]])

    def rows(self, batch: Any) -> int:
        if self.fault == "rows raises":
            raise KeyError("rows")
        return 0 if self.fault == "rows is zero" else rows_of(batch)

    def baseline(self) -> Any:
        kind = self.shape["baseline"]
        if not isinstance(kind, str):
            return kind
        params: dict[str, dict[str, Any]] = {
            "step": {"step_size": 1, "gamma": 0.5},
            "cosine": {"T_max": 2, "eta_min": 0.0},
            "plateau": {"mode": "min", "factor": 0.5, "patience": 0},
        }
        return Baseline(0.01, Schedule(FAMILIES[kind], params[kind]))


def build(shape: Mapping[str, Any]) -> Task:
    """The task of a shape: a value for every dimension, and a fault or "none"."""
    if shape["dtype"] == "default float64":
        torch.set_default_dtype(torch.float64)
    if shape["device"] == "default cpu":
        torch.set_default_device("cpu")
    if shape["fault"] == "anomaly":
        torch.autograd.set_detect_anomaly(True)
    parts_of = _Builder(shape)
    by_output = shape["loss"] in ("criterion", "module") and parts_of.batch in PAIRS
    criterion: Any = parts_of.losses.criterion if by_output else None
    if by_output and shape["loss"] == "module":
        criterion = ModuleLoss(parts_of.losses)
    fields: dict[str, Any] = {
        "criterion": criterion,
        "loss": None if by_output else parts_of.losses.loss,
        "metrics": parts_of.metrics(),
        "batch_size": shape["batch_size"],
        "epochs": shape["epochs"],
        "clip_norm": shape["clip_norm"],
        "accumulate": shape["accumulate"],
        "autocast": shape["autocast"],
        "steps_per_epoch": shape["steps_per_epoch"],
        "rows": parts_of.rows,
    }
    streams = ("stream", "endless")
    if shape["data"] in streams and shape["steps_per_epoch"] is None:
        fields["steps_per_epoch"] = 3
    if shape["entry"] == "objects":
        model = parts_of.model()
        optimizer = parts_of.optimizer(model, 0.01)
        given = fields.pop("criterion")
        train, valid = parts_of.train(), parts_of.valid()
        return Task.from_objects(model, optimizer, given, train, valid, **fields)
    return Task(
        model=parts_of.model,
        optimizer=parts_of.optimizer,
        train=parts_of.train(),
        valid=parts_of.valid(),
        baseline=parts_of.baseline(),
        **fields,
    )
