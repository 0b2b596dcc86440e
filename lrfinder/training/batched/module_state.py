"""What a model is, taken apart: tensors that are stacked over runs, and what all runs must share.

A `Template` names a model's parameters and buffers, so that `torch.func.functional_call` can call
it with the tensors of any run in their places. What a model keeps outside of them is the template's
for every run, so it must be the same in all of them (`difference`) and must not change
(`Attributes`).
"""

import random
import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.tasks.data.batches import Batch, map_leaves

_TENSORS = ("_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs")
"""Attributes of modules that hold parameters and buffers, or follow them."""


class Template:
    """A model with its distinct parameters and buffers, numbered; tied ones count once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameter_names, self.parameters = _distinct(
            model.named_parameters(remove_duplicate=False)
        )
        """All names of each parameter, and the parameter."""
        self.buffer_names, self.buffers = _distinct(model.named_buffers(remove_duplicate=False))
        """All names of each buffer, and the buffer."""

    def current_buffers(self) -> list[Tensor]:
        """Buffers as they are now: a model may have put others in their places."""
        return [self.model.get_buffer(names[0]) for names in self.buffer_names]


@contextmanager
def ignore_vmap_fallback_warning() -> Generator[None]:
    """Silence torch's warning that vmap computes an operation run by run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield


class Attributes:
    """What the modules of a model hold beside their modules, with or without their tensors."""

    def __init__(self, model: nn.Module, *, tensors: bool = False) -> None:
        self._tensors = tensors
        self._found: dict[str, tuple[Any, Any]] = {
            f"{name}.{key}".lstrip("."): (value, _summary(value))
            for name, module in model.named_modules()
            for key, value in (("__class__", type(module)), *_held(module, tensors=tensors).items())
        }

    def changed(self, model: nn.Module) -> str | None:
        """Name of an attribute of the same model that is not what it was, or None."""
        now = Attributes(model, tensors=self._tensors)._found
        if now.keys() != self._found.keys():
            return next(iter(now.keys() ^ self._found.keys()))
        for name, (value, summary) in now.items():
            was, was_summary = self._found[name]
            if not _same(summary, was_summary) or (summary is None and value is not was):
                return name
        return None

    def difference(self, model: nn.Module) -> str | None:
        """Name of an attribute that is not the same in another model of the kind, or None."""
        others = Attributes(model, tensors=self._tensors)._found
        if others.keys() != self._found.keys():
            return next(iter(others.keys() ^ self._found.keys()))
        pairs = ((name, self._found[name][1], other[1]) for name, other in others.items())
        return next((name for name, a, b in pairs if not _same(a, b)), None)


def stack_batches(batches: Sequence[Batch], place: Tensor | None) -> Batch | None:
    """One batch with a row of every batch, or with the rows `place` of them; None if unlike."""

    def stacked(*leaves: Any) -> Any:  # noqa: ANN401
        first = leaves[0]
        if not isinstance(first, Tensor):
            summary = _summary(first)
            others = (leaf for leaf in leaves if leaf is not first)
            if any(summary is None or not _same(_summary(leaf), summary) for leaf in others):
                raise ValueError("batches must hold the same beside their tensors")
            return first
        if any(not isinstance(leaf, Tensor) or leaf.shape != first.shape for leaf in leaves):
            raise ValueError("batches must hold tensors of the same shapes")
        together = torch.stack(cast("list[Tensor]", leaves))
        return together if place is None else together[place]

    try:
        return map_leaves(stacked, *batches)
    except ValueError:
        return None


def dims_of(batch: Batch) -> Any:  # noqa: ANN401 (any nesting)
    """The batch with 0 for every tensor and None for anything else: `in_dims` of vmap."""

    def dim(leaf: Any) -> int | None:  # noqa: ANN401
        return 0 if isinstance(leaf, Tensor) else None

    return map_leaves(dim, batch)


def _distinct(named: Iterable[tuple[str, Tensor]]) -> tuple[list[list[str]], list[Tensor]]:
    """The names of each tensor, and the tensors."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in named:
        found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return [names for _, names in found.values()], [tensor for tensor, _ in found.values()]


def _held(module: nn.Module, *, tensors: bool) -> dict[str, Any]:
    """What a module holds by name, with or without its parameters and buffers."""
    every = vars(module)
    own = {k: v for k, v in every.items() if k not in _TENSORS and "_hooks" not in k}
    return own | every["_parameters"] | every["_buffers"] if tensors else own


def _summary(value: Any) -> Any:  # noqa: ANN401
    """What can be compared of a value: a copy of numbers, strings and tensors; None of others."""
    if isinstance(value, bool | int | float | complex | str | torch.dtype | torch.device):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random):
        return _summary(value.getstate())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, list | tuple | set | dict):
        members = list(value.items()) if isinstance(value, dict) else list(value)
        return [_summary(member) for member in members]
    return _summary_of_code(value)


def _summary_of_code(value: Any) -> Any:  # noqa: ANN401
    """What can be compared of a function or a class; None of others.

    A function is its code and what that holds, a class its name and its forward: those that are
    made anew for every model are the same in all of them.
    """
    if isinstance(value, BuiltinFunctionType):
        return value
    if isinstance(value, type):
        return [value.__module__, value.__qualname__, _summary(getattr(value, "forward", None))]
    if isinstance(value, FunctionType):
        held = [*(value.__defaults__ or ()), *_closed_over(value)]
        return [value.__code__, *(None if callable(own) else _summary(own) for own in held)]
    if isinstance(value, partial):
        return [_summary(own) for own in (value.func, value.args, value.keywords)]
    return None


def _closed_over(function: FunctionType) -> list[Any]:
    with suppress(ValueError):  # a cell that is still empty
        return [cell.cell_contents for cell in function.__closure__ or ()]
    return []


def _same(a: Any, b: Any) -> bool:  # noqa: ANN401
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b or a != a)
