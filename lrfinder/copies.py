"""Copies of optimizers that keep everything.

``copy.deepcopy`` of a ``torch.optim.Optimizer`` keeps its defaults, state and parameter groups
only: the hooks on its steps and the attributes that a class of the user's own has are lost. Here
they are copied too, with the same memo, so that what refers to the model or to the optimizer itself
refers to their copies. A function that was put in the place of a method, as torch's schedulers do
to count steps, is left out: it would step the original.
"""

import copy
from types import FunctionType
from typing import Any

from torch import nn
from torch.optim import Optimizer

COPIED_BY_TORCH = ("defaults", "state", "param_groups")
"""Attributes of an optimizer that copy.deepcopy keeps."""


def copied(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Return copies of both, of which the optimizer's holds the parameters of the model's."""
    memo: dict[int, Any] = {}
    twin = copy.deepcopy(model, memo)
    return twin, copied_optimizer(optimizer, memo)


def copied_optimizer(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """Return a copy of the optimizer, with its hooks and attributes; see copy.deepcopy for memo."""
    twin = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():
        if name not in COPIED_BY_TORCH and not _replaces_method(optimizer, name, value):
            vars(twin)[name] = copy.deepcopy(value, memo)
    return twin


def _replaces_method(optimizer: Optimizer, name: str, value: object) -> bool:
    return isinstance(value, FunctionType) and hasattr(type(optimizer), name)
