"""What a copy still holds of the original: found by walking what can be reached from it.

``copy.deepcopy`` keeps functions and weak references as they are. So a hook, or any function among
the attributes, goes on using the model, the optimizer or the averaged weights that it was written
for: through its closure, its defaults, a global variable or the attributes of what it holds.
"""

from collections import deque
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.tasks.state.held_objects import held_by

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
        hooks = tensor_hooks(one) if isinstance(one, Tensor) else ()
        for other in (*held_by(one), *hooks):
            if other is not None and not isinstance(other, _PLAIN) and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return False


def tensor_hooks(tensor: Tensor) -> list[Any]:
    """The functions that are called with a tensor's gradient."""
    kinds = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return [hook for kind in kinds for hook in (getattr(tensor, kind, None) or {}).values()]
