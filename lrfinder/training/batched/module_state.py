"""Models stacked into one: tensors of a whole population in the places of one model's.

A `Template` is a model whose distinct parameters and buffers can be replaced. `torch.vmap` calls it
with the tensors of every run in their places, so that one forward computes all runs. What a model
keeps outside its parameters and buffers is the template's for every run, so it must be the same in
all of them (`difference`) and must not change (`Attributes`).
"""

import random
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.tasks.batches import Batch

_TENSORS = ("_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs")
"""Attributes of modules that hold what a Template replaces, or follow it."""
Places = list[tuple[dict[str, Tensor | None], str]]


class Template:
    """A model whose parameters and buffers are replaced by others of the same shapes."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters, self._parameter_places = _distinct(model, "_parameters")
        """Distinct parameters; tied ones count once."""
        self.buffers, self._buffer_places = _distinct(model, "_buffers")

    def put(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        """Use these tensors in place of the model's own."""
        for places, tensor in zip(self._parameter_places, parameters, strict=True):
            for holder, key in places:
                holder[key] = tensor
        for places, tensor in zip(self._buffer_places, buffers, strict=True):
            for holder, key in places:
                holder[key] = tensor

    def replaced(self, buffers: Sequence[Tensor]) -> dict[int, Tensor]:
        """Buffers that the model put in place of the ones it was given, by index."""
        pairs = enumerate(zip(self._buffer_places, buffers, strict=True))
        now = ((k, places[0][0][places[0][1]], old) for k, (places, old) in pairs)
        return {k: new for k, new, old in now if new is not None and new is not old}

    def reset(self) -> None:
        """Put the model's own tensors back."""
        self.put(self.parameters, self.buffers)


def with_plain_dropout(model: nn.Module) -> nn.Module:
    """The model, whose dropout layers draw masks in the memory order that a single run draws in.

    Outside vmap a mask lies in memory like its input, which may be transposed, and is drawn in that
    order; under vmap it would be drawn row by row. The model itself is changed.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            vars(module)["forward"] = partial(_dropped, module)
    return model


@contextmanager
def run_by_run_unsaid() -> Generator[None]:
    """Silence torch where it tells that vmap computes an operation run by run."""
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
            for key, value in _held(module, tensors=tensors).items()
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
        others = Attributes(model)._found
        if others.keys() != self._found.keys():
            return next(iter(others.keys() ^ self._found.keys()))
        pairs = ((name, self._found[name][1], other[1]) for name, other in others.items())
        return next((name for name, a, b in pairs if not _same(a, b)), None)


def stack_batches(batches: Sequence[Batch], place: Tensor | None) -> Batch | None:
    """One batch with a row of every batch, or with the rows `place` of them; None if unlike."""
    try:
        return _stacked(batches, place)
    except _UnlikeError:
        return None


def dims_of(batch: Any) -> Any:  # noqa: ANN401 (any nesting)
    """The batch with 0 for every tensor and None for anything else: `in_dims` of vmap."""
    if isinstance(batch, Tensor):
        return 0
    if isinstance(batch, Mapping):
        return {key: dims_of(value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return _like(batch, [dims_of(part) for part in batch])
    return None


class _UnlikeError(Exception):
    """Batches that do not fit into one."""


def _stacked(parts: Sequence[Any], place: Tensor | None) -> Any:  # noqa: ANN401
    first = parts[0]
    if isinstance(first, Tensor):
        if any(not isinstance(p, Tensor) or p.shape != first.shape for p in parts):
            raise _UnlikeError
        stacked = torch.stack(cast("list[Tensor]", parts))
        return stacked if place is None else stacked[place]
    if any(type(part) is not type(first) for part in parts):
        raise _UnlikeError
    if isinstance(first, dict):
        if any(part.keys() != first.keys() for part in parts):
            raise _UnlikeError
        return {key: _stacked([part[key] for part in parts], place) for key in first}
    if isinstance(first, tuple):
        if any(len(part) != len(first) for part in parts):
            raise _UnlikeError
        return _like(first, [_stacked(column, place) for column in zip(*parts, strict=True)])
    if any(part is not first and not _same(_summary(part), _summary(first)) for part in parts):
        raise _UnlikeError
    return first


def _like(given: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    return type(given)(*values) if hasattr(given, "_fields") else tuple(values)


def _dropped(module: nn.Dropout, x: Tensor) -> Tensor:
    if not module.training or module.p in (0.0, 1.0) or x.device.type != "cpu":
        return nn.functional.dropout(x, module.p, module.training)
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    back = sorted(range(x.ndim), key=order.__getitem__)
    noise = torch.empty([x.shape[k] for k in order], dtype=x.dtype, device=x.device)
    return x * noise.bernoulli_(1 - module.p).div_(1 - module.p).permute(back)


def _held(module: nn.Module, *, tensors: bool) -> dict[str, Any]:
    """What a module holds by name, with or without its parameters and buffers."""
    every = vars(module)
    own = {k: v for k, v in every.items() if k not in _TENSORS and "_hooks" not in k}
    return own | every["_parameters"] | every["_buffers"] if tensors else own


def _distinct(model: nn.Module, kind: str) -> tuple[list[Tensor], list[Places]]:
    """Distinct tensors of a kind in a model, and every place that each is kept in."""
    found: dict[int, tuple[Tensor, Places]] = {}
    for module in model.modules():
        holder: dict[str, Tensor | None] = vars(module)[kind]
        for key, tensor in holder.items():
            if tensor is not None:
                found.setdefault(id(tensor), (tensor, []))[1].append((holder, key))
    return [tensor for tensor, _ in found.values()], [places for _, places in found.values()]


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
    return None


def _same(a: Any, b: Any) -> bool:  # noqa: ANN401
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b or a != a)
