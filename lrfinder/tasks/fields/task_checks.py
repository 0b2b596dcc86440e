"""What the fields of a Task must be."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import FAMILIES, Family
from lrfinder.tasks.data.loaders import loader_length, no_batch_message

_TAKEN = {
    "loss",
    "valid_loss",
    "best_loss",
    "best_valid_loss",
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
_NOT_IN_NAMES = '/\\"'
_LONGEST_NAME = 100


def check_built(factory: str, built: object, kind: type) -> None:
    """Raise InvalidArgument where a factory did not return what it is to build."""
    if not isinstance(built, kind):
        inner = isinstance(getattr(built, factory, None), kind)
        hint = f"; return its .{factory}" if inner else ""
        raise InvalidArgument(
            f"{factory}() must return a torch {kind.__name__}, but got {type(built).__name__}{hint}"
        )


def check_one_loss(criterion: object, loss: object, forward: object) -> None:
    """Exactly one of criterion and loss is given, and the loss where there is a forward."""
    if forward is not None and criterion is not None:
        raise InvalidArgument(
            "forward goes with loss=f(output, batch), but got a criterion; write "
            "loss=lambda output, batch: criterion(output, ...)"
        )
    if (criterion is None) == (loss is None):
        got = "neither" if loss is None else "both"
        raise InvalidArgument(f"exactly one of criterion and loss must be given, but got {got}")


def check_functions(functions: Mapping[str, object]) -> None:
    """Everything here, by the name it is given under, can be called."""
    for name, function in functions.items():
        if not callable(function):
            raise InvalidArgument(f"{name} must be callable, but got {_short(function)}")


def check_measures(measures: Mapping[str, object]) -> None:
    """A measure that is a Module is one that was built, and not its class."""
    check_functions(measures)
    for name, measure in measures.items():
        if isinstance(measure, type) and issubclass(measure, nn.Module):
            kind = measure.__name__
            raise InvalidArgument(
                f"{name} must be a function or a Module, but got the class {kind}; "
                f"write {kind}(...)"
            )


def check_factories(model: object, optimizer: object) -> None:
    """The model and the optimizer are given as functions that build them."""
    if isinstance(model, nn.Module):
        raise InvalidArgument(
            "model must be a function that builds the model, but got a model; "
            "write model=lambda: Net(...), or use Task.from_objects for live objects"
        )
    live = ", or use Task.from_objects for live objects"
    if isinstance(optimizer, Optimizer):
        _refuse_optimizer("an optimizer", type(optimizer), live)
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        return
    if _takes_parameters(optimizer):
        _refuse_optimizer(f"the class {optimizer.__name__}", optimizer, "")


def _refuse_optimizer(got: str, kind: type[Optimizer], live: str) -> None:
    raise InvalidArgument(
        f"optimizer must be a function of model and lr that builds it, but got {got}; "
        f"write optimizer=lambda model, lr: {kind.__name__}(model.parameters(), lr){live}"
    )


def _takes_parameters(optimizer: type[Optimizer]) -> bool:
    """Whether a class is built of parameters, as torch's are, and not of a model."""
    return next(iter(signature(optimizer).parameters), None) == "params"


def check_has_numbers(model: nn.Module) -> None:
    """A model that is trained holds numbers, which those on the meta device are not."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    name = next((name for name, tensor in tensors if tensor.is_meta), None)
    if name is not None:
        raise InvalidArgument(
            f"model() must build a model with weights, but {name!r} is on the meta device, which "
            "holds none; build it on another one, or call .to_empty(device=...) and initialise it"
        )


def check_trainable(optimizer: Optimizer) -> None:
    """Something that the optimizer holds can get a gradient."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(p.requires_grad for p in held):
        raise InvalidArgument(
            "optimizer() must hold a parameter that requires a gradient, but got "
            f"{len(held)} that do not; call .requires_grad_() on what is to be trained"
        )


def check_by_name(name: str, given: object) -> None:
    """A field that holds things by their names is a mapping."""
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{name} must be a dict by name, but got a {_kind(given)}")


def check_name(what: str, name: Any) -> None:  # noqa: ANN401 (whatever was given)
    """A name can be part of a path, of a table and of code: one short line, no slash, no quote."""
    fits = isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()
    if not fits or any(sign in name for sign in _NOT_IN_NAMES) or name.strip(" .") == "":
        raise InvalidArgument(
            f"{what} must be one line of at most {_LONGEST_NAME} characters without slash, "
            f"backslash and quote, but got {_short(name)}"
        )


def fitting_name(text: str) -> str:
    """The text with what no name may have replaced."""
    fits = (c if c.isprintable() and c not in _NOT_IN_NAMES else "_" for c in text)
    return "".join(fits)[:_LONGEST_NAME]


def check_metric_names(names: Iterable[str], of: str = "metrics") -> None:
    """No measure has the name of a column of the records."""
    for name in names:
        check_name(f"{of}: a name", name)
        if name in _TAKEN:
            raise InvalidArgument(
                f"{of}: the name {name!r} is taken; give the measure another name"
            )


def check_schedules(schedules: Mapping[str, Any]) -> None:
    """Further families, each under its own name, which no built-in family has."""
    for name, family in schedules.items():
        check_name("schedules: a name", name)
        if not isinstance(family, Family):
            raise InvalidArgument(f"schedules[{name!r}] must be a Family, but got {family!r}")
    for name, family in schedules.items():
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


def as_row_count(found: Any) -> float:  # noqa: ANN401 (whatever the user's function returned)
    """What `Task.rows` returned as a number, for which one of torch or NumPy may stand."""
    with suppress(TypeError, ValueError, RuntimeError):
        number = found if isinstance(found, int) else float(found)
        if not isinstance(found, str) and 0 <= number < math.inf:
            return number
    raise InvalidArgument(
        "rows must return the number of rows of a batch, finite and at least 0, "
        f"but got {_short(found)}"
    )


def _short(value: object) -> str:
    """The value on one line, by its type where it is long."""
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text else f"a {_kind(value)}"


def check_clip_norm(norm: Any) -> None:  # noqa: ANN401 (whatever was given)
    """A positive number, or None."""
    if norm is not None and not (isinstance(norm, int | float) and norm > 0):
        raise InvalidArgument(f"clip_norm must be a positive number, but got {norm!r}")


def check_autocast(dtype: object) -> None:
    """torch.bfloat16, torch.float16 or None."""
    if dtype not in (None, torch.bfloat16, torch.float16):
        raise InvalidArgument(
            f"autocast must be torch.bfloat16, torch.float16 or None, but got {_short(dtype)}"
        )


def check_data(name: str, data: Any) -> None:  # noqa: ANN401 (whatever was given)
    """Data are a data set or a loader with a row."""
    if isinstance(data, DataLoader):
        loader = cast(DataLoader[Any], data)
        if loader_length(loader) == 0:
            raise InvalidArgument(f"{name}: {no_batch_message(loader)}")
        return
    if isinstance(data, IterableDataset):
        return
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, Iterator):
        raise InvalidArgument(
            f"{name} must be data that can be read again and again, but a {_kind(data)} can be "
            "read once; write an IterableDataset whose __iter__ makes it anew"
        )
    if not indexed or isinstance(data, Tensor | tuple | Mapping | str):
        raise InvalidArgument(
            f"{name} must be a Dataset or a DataLoader, but got a {_kind(data)}; "
            "wrap tensors as TensorDataset(x, y)"
        )
    if len(data) == 0:
        raise InvalidArgument(f"{name} must have at least one row, but got a data set of 0 rows")
