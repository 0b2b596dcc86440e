"""Generators of random numbers that the user's objects keep, of whatever package.

They are looked for in attributes, elements of lists and dicts, closures, default arguments,
partials, bound methods, and among the global names that a function uses.
"""

import functools
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from sysconfig import get_path
from types import FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

_MOST_OBJECTS = 5000
"""Objects among which generators are looked for."""
_MOST_ELEMENTS = 100
"""Elements of a list or dict that are looked into: others may be the rows themselves."""
_LEAVES = (str, bytes, int, float, complex, type(None), Tensor, np.ndarray, ModuleType, Path)


class GeneratorState:
    """The state of a generator."""

    def __init__(self, generator: Any) -> None:  # noqa: ANN401 (one of `_GENERATORS`)
        self.generator = generator

    def get(self) -> Any:  # noqa: ANN401 (a state of any kind)
        """Return where it stands."""
        generator = self.generator
        if isinstance(generator, random.Random):
            return generator.getstate()
        if isinstance(generator, np.random.RandomState):
            return generator.get_state(legacy=False)
        if isinstance(generator, np.random.Generator):
            return generator.bit_generator.state
        return generator.get_state()

    def set(self, state: Any) -> None:  # noqa: ANN401
        """Put it there."""
        generator = self.generator
        if isinstance(generator, random.Random):
            generator.setstate(state)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        else:
            generator.set_state(state)

    def seed(self, seed: int) -> None:
        """Put it where the seed says."""
        generator = self.generator
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, random.Random):
            generator.setstate(random.Random(seed).getstate())
        elif isinstance(generator, np.random.RandomState):
            bits: Any = getattr(np.random, generator.get_state(legacy=False)["bit_generator"])
            generator.set_state({**bits(seed).state, "has_gauss": 0, "gauss": 0.0})
        else:
            bits = type(generator.bit_generator)
            generator.bit_generator.state = bits(seed).state


def find_generators(*roots: Any) -> list[Any]:  # noqa: ANN401
    """Return the generators that these objects lead to, each once; the global ones are none."""
    known = {id(g) for g in _global_generators()}
    found: list[Any] = []
    seen: set[int] = set()
    kept: list[Any] = []  # alive, so that no two of them have one id
    waiting = list(roots)
    while waiting and len(seen) < _MOST_OBJECTS:
        part = waiting.pop(0)
        if isinstance(part, _LEAVES) or id(part) in seen:
            continue
        seen.add(id(part))
        kept.append(part)
        if _is_generator(part):
            found += [part] if id(part) not in known else []
        else:
            waiting += _held(part)
    return found


def _held(part: Any) -> list[Any]:  # noqa: ANN401
    """What an object leads to."""
    if isinstance(part, FunctionType):
        return _held_by_function(part)
    if isinstance(part, MethodType):
        return [part.__self__, part.__func__]
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, type):
        return []
    held: list[Any] = []
    if isinstance(part, Mapping):
        held += list(cast(Mapping[Any, Any], part).values())[:_MOST_ELEMENTS]
    elif isinstance(part, list | tuple | set | frozenset):
        held += list(cast("list[Any]", part))[:_MOST_ELEMENTS]
    held += list(getattr(part, "__dict__", {}).values())
    for kind in type(part).__mro__:
        held += [attribute(part, name) for name in _slots(kind)]
        held += _of_class(kind)
    return held


def _of_class(kind: type) -> list[Any]:
    """Generators that a class of the user's holds, and its methods, which may use global ones."""
    if not _is_users(kind.__module__):
        return []
    values = [getattr(v, "__func__", v) for v in vars(kind).values()]
    return [v for v in values if isinstance(v, FunctionType) or _is_generator(v)]


def _held_by_function(function: FunctionType) -> list[Any]:
    held: list[Any] = []
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not set yet
            continue
    held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    held += vars(function).values()
    if _is_users(function.__module__):
        names = {*function.__code__.co_names}
        values = [v for k, v in function.__globals__.items() if k in names]
        held += [v for v in values if _is_generator(v) or isinstance(v, FunctionType)]
    return held


@functools.cache
def _is_users(module: str | None) -> bool:
    """Whether a module is neither of a library nor of Python itself."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return module == "__main__"
    libraries = (Path(get_path("stdlib")), Path(get_path("purelib")))
    return not any(library in Path(file).parents for library in libraries)


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def attribute(part: Any, name: str) -> Any:  # noqa: ANN401
    """An attribute, or None where it is missing or cannot be read."""
    try:
        return getattr(part, name, None)
    except Exception:  # a property of the user's
        return None


_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def _is_generator(value: object) -> bool:
    is_generator = isinstance(value, _GENERATORS) and not isinstance(value, random.SystemRandom)
    return is_generator and not _is_on_accelerator(value)


def _is_on_accelerator(value: object) -> bool:
    return isinstance(value, torch.Generator) and value.device.type not in ("cpu", "cuda", "mps")


def _global_generators() -> list[Any]:
    """Those that a Stream holds."""
    own = getattr(random.random, "__self__", None)
    numpys = getattr(np.random.get_state, "__self__", None)
    return [torch.default_generator, *torch.cuda.default_generators, own, numpys]
