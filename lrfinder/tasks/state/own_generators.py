"""Generators of random numbers that the user's objects keep, of whatever package.

They are looked for in whatever the objects hold (`held_objects.py`), and in the user's classes.
"""

import random
import sys
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfinder.tasks.state.held_objects import held_by
from lrfinder.tasks.user_code import of_library

_MOST_OBJECTS = 5000
"""Objects among which generators are looked for."""
_MOST_ELEMENTS = 200
"""Elements of a list, or keys and values of a dict, that are
looked into: others may be the rows themselves."""
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
            waiting += held_by(part, _MOST_ELEMENTS)
            waiting += [held for kind in type(part).__mro__ for held in _of_class(kind)]
    return found


def _of_class(kind: type) -> list[Any]:
    """Generators that a class of the user's holds, and its methods, which may use global ones."""
    if not _is_users(kind.__module__):
        return []
    values = [getattr(v, "__func__", v) for v in vars(kind).values()]
    return [v for v in values if isinstance(v, FunctionType) or _is_generator(v)]


@cache
def _is_users(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == "__main__" if file is None else not of_library(file)


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
