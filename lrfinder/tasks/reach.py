"""What a copy still holds of the original: found by walking what can be reached from it.

``copy.deepcopy`` keeps functions and weak references as they are. So a hook, or any function among
the attributes, goes on using the model, the optimizer or the averaged weights that it was written
for: through its closure, its defaults, a global variable or the attributes of what it holds.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast
from weakref import ReferenceType

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.tasks.user_code import of_library

_PLAIN = (str, bytes, int, float, complex, bool, type, ModuleType, np.ndarray, torch.dtype)
_MOST = 200_000
"""Objects that are looked at."""


def held_of(
    model: nn.Module, optimizer: Optimizer, copied_model: nn.Module, copied_optimizer: Optimizer
) -> str | None:
    """What of the copies still holds a part of the originals, in words; None where nothing does."""
    originals = {id(part) for part in (optimizer, *_parts(model))}
    for attribute, value in vars(copied_optimizer).items():
        if _reaches(value, originals):
            return _in_words(attribute, "the optimizer")
    for name, module in copied_model.named_modules():
        for attribute, value in vars(module).items():
            if attribute != "_modules" and _reaches(value, originals):
                return _in_words(attribute, name or "the model")
    return None


def _parts(model: nn.Module) -> Iterator[object]:
    yield from model.modules()
    yield from model.parameters()
    yield from model.buffers()


def _in_words(attribute: str, owner: str) -> str:
    if "hook" in attribute:
        kind = attribute.strip("_").removesuffix("s").replace("_", " ")
        return f"a {kind.removeprefix('optimizer ')} of {owner}"
    return f"the attribute {attribute} of {owner}"


def _reaches(start: object, targets: set[int]) -> bool:
    waiting, seen = deque([start]), {id(start)}
    while waiting and len(seen) < _MOST:
        one = waiting.popleft()
        if id(one) in targets:
            return True
        for other in _held(one):
            if other is not None and not isinstance(other, _PLAIN) and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return False


def _held(one: Any) -> Iterable[Any]:  # noqa: ANN401 (whatever a program holds)
    """What an object holds, as far as a hook could use it."""
    if isinstance(one, FunctionType):
        return _held_by_function(one)
    if isinstance(one, MethodType):
        return (one.__func__, one.__self__)
    if isinstance(one, partial):
        held = cast("partial[Any]", one)
        return (held.func, *held.args, *held.keywords.values())
    if isinstance(one, ReferenceType):
        return (cast("ReferenceType[Any]", one)(),)
    if isinstance(one, Mapping):
        return (part for pair in cast(Mapping[Any, Any], one).items() for part in pair)
    if isinstance(one, list | tuple | set | frozenset | deque):
        return cast("Iterable[Any]", one)
    own = list(getattr(one, "__dict__", {}).values())
    if isinstance(one, Tensor):
        return own + tensor_hooks(one)
    return own + [getattr(one, name, None) for name in getattr(type(one), "__slots__", ())]


def tensor_hooks(tensor: Tensor) -> list[Any]:
    """The functions that are called with a tensor's gradient."""
    kinds = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return [hook for kind in kinds for hook in (getattr(tensor, kind, None) or {}).values()]


def _held_by_function(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()
    if not of_library(function.__code__.co_filename):
        names = set(_names(function.__code__))
        yield from (value for name, value in function.__globals__.items() if name in names)


def _names(code: CodeType) -> Iterator[str]:
    """Global names that a piece of code uses, inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
