"""What modules hold beside their parameters, put back after an evaluation.

A forward may count its calls, move a running mean or draw from a generator of its own, in eval mode
too. An evaluation must not change how a run goes on: afterwards every attribute and buffer is what
it was, also where it was changed in place.
"""

import copy
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, MutableMapping
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_NOT_KEPT = frozenset({*vars(nn.Module()), "_flat_weights", "_flat_weight_refs"})
"""Attributes of modules that are looked after elsewhere, or that no forward changes."""
_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None)})
_NOTHING_INSIDE = (
    *(str, bytes, int, float, complex, type, ModuleType, FunctionType, MethodType),
    *(nn.Parameter, Optimizer, torch.dtype, torch.device),
)
_MOST = 20_000
"""Objects that are looked into."""

_Undo = Callable[[], None]


@contextmanager
def state_kept(modules: Iterable[nn.Module]) -> Generator[None]:
    """Put back what the modules hold beside their parameters on leaving; submodules not included.

    An object is looked into as far as its attributes; one that keeps its state elsewhere, such as a
    file, is not put back.
    """
    kept = _Kept()
    for module in modules:
        kept.module(module)
    try:
        yield
    finally:
        kept.put_back()


class _Kept:
    """Contents of objects, and how to put them back."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}
        """Objects looked into, by id; kept alive, so that no id is used twice."""
        self._undo: list[_Undo] = []

    def put_back(self) -> None:
        with torch.no_grad():
            for undo in self._undo:
                undo()

    def module(self, module: nn.Module) -> None:
        self._seen[id(module)] = module
        own = vars(module)
        buffers = own["_buffers"]
        before = {key: value for key, value in own.items() if key not in _NOT_KEPT}

        def undo() -> None:
            for key in [k for k in own if k not in before and k not in _NOT_KEPT]:
                del own[key]
            own.update(before)

        self._undo.append(undo)
        self._look_into(before.values())
        if buffers:
            self._mapping(cast(MutableMapping[Any, Any], buffers))

    def _look_into(self, values: Iterable[Any]) -> None:
        for value in values:
            if type(value) in _PLAIN or id(value) in self._seen or len(self._seen) >= _MOST:
                continue
            if not isinstance(value, _NOTHING_INSIDE):
                self._seen[id(value)] = value
                self._one(value)

    def _one(self, value: Any) -> None:  # noqa: ANN401 (whatever a module holds)
        if isinstance(value, nn.Module):
            self.module(value)
        elif isinstance(value, Tensor | np.ndarray | torch.Generator):
            self._undo.append(_undo_of_numbers(value))
        elif isinstance(value, random.Random):
            state = value.getstate()
            self._undo.append(lambda: value.setstate(state))
        elif isinstance(value, np.random.Generator):
            bits, numbers = value.bit_generator, copy.deepcopy(value.bit_generator.state)
            self._undo.append(lambda: setattr(bits, "state", numbers))
        elif isinstance(value, MutableMapping):
            self._mapping(cast(MutableMapping[Any, Any], value))
        elif isinstance(value, list | deque | set):
            self._container(cast("list[Any] | deque[Any] | set[Any]", value))
        elif isinstance(value, tuple | frozenset):
            self._look_into(cast("tuple[Any, ...]", value))
        elif hasattr(value, "__dict__"):
            self._mapping(vars(value))

    def _mapping(self, value: MutableMapping[Any, Any]) -> None:
        before = dict(value)

        def undo() -> None:
            if value.keys() != before.keys() or any(value[k] is not v for k, v in before.items()):
                value.clear()
                value.update(before)

        self._undo.append(undo)
        self._look_into(before.values())

    def _container(self, value: list[Any] | deque[Any] | set[Any]) -> None:
        before = list(value)

        def undo() -> None:
            if len(value) != len(before) or any(
                a is not b for a, b in zip(value, before, strict=True)
            ):
                value.clear()
                value.update(before) if isinstance(value, set) else value.extend(before)

        self._undo.append(undo)
        self._look_into(before)


def _undo_of_numbers(value: Tensor | np.ndarray | torch.Generator) -> _Undo:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: cast(None, value.set_state(state))
    if isinstance(value, np.ndarray):
        numbers = value.copy()
        return lambda: np.copyto(value, numbers) if value.flags.writeable else None
    before = value.detach().clone()
    version = _version(value)

    def undo() -> None:
        if version is None or _version(value) != version or _moved(value, before):
            value.detach().copy_(before)

    return undo


def _moved(value: Tensor, before: Tensor) -> bool:
    """Whether the numbers are others: batch normalisation moves its means and is not counted."""
    return value.layout is torch.strided and not torch.equal(value.detach(), before)


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; None where torch does not count it."""
    return None if tensor.is_inference() else tensor._version
