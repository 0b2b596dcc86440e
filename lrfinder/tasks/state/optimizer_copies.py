"""Copies of models and optimizers that keep everything.

``copy.deepcopy`` of a ``torch.optim.Optimizer`` keeps its defaults, state and parameter groups
only: the hooks on its steps and the attributes that a class of the user's own has are lost; that of
a parameter loses its attributes and its gradient hooks. Here they are copied too, with the same
memo, so that what refers to the model or to the optimizer itself refers to their copies. A function
that was put in the place of a method would step the original. So those of torch's schedulers, which
count steps, and of torch.compile are left out, and any other is refused beforehand. What a copied
function still holds of the original is found by `reach.py`.
"""

import copy
from types import FunctionType, MethodType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.live import step_kept

COPIED_BY_TORCH = ("defaults", "state", "param_groups")
"""Attributes of an optimizer that copy.deepcopy keeps."""
_MARKS = ("_wrapped_by_lr_sched", "_with_counter", "_torchdynamo_orig_callable")
"""Attributes of the functions that torch's schedulers and torch.compile make of a method."""


def copied(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Return copies of both, of which the optimizer's holds the parameters of the model's."""
    memo: dict[int, Any] = {}
    return copied_model(model, memo), copied_optimizer(optimizer, memo)


def copied_model(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a copy of the model, with what its parameters carry; see copy.deepcopy for memo."""
    twin = copy.deepcopy(model, memo)
    for old, new in zip(model.parameters(), twin.parameters(), strict=True):
        if new is not old:
            vars(new).update(copy.deepcopy(vars(old), memo))
            for hook in (getattr(old, "_backward_hooks", None) or {}).values():
                new.register_hook(copy.deepcopy(hook, memo))
            for hook in (getattr(old, "_post_accumulate_grad_hooks", None) or {}).values():
                new.register_post_accumulate_grad_hook(copy.deepcopy(hook, memo))
    return twin


def copied_optimizer(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """Return a copy of the optimizer, with its hooks and attributes; see copy.deepcopy for memo."""
    with step_kept(type(optimizer)):
        twin = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():
        if name not in COPIED_BY_TORCH and not _replaces_method(optimizer, name, value):
            vars(twin)[name] = copy.deepcopy(value, memo)
    return twin


def unwrapped(optimizer: Any) -> Any:  # noqa: ANN401 (whatever a factory returned)
    """The optimizer inside of a wrapper that only passes on what is asked of it, as Accelerate's.

    Such a wrapper has the inner optimizer's groups as a property of its class; one that has groups
    of its own, or shares them, does more than that and is left as it is.
    """
    inner = getattr(optimizer, "optimizer", None)
    passes_on = isinstance(getattr(type(optimizer), "param_groups", None), property)
    return unwrapped(inner) if isinstance(inner, Optimizer) and passes_on else optimizer


def check_copyable(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer whose copy for a copy of the model would not do the same."""
    known = {id(p) for p in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    strangers = sum(id(p) not in known for p in held)
    if strangers:
        raise InvalidArgument(
            f"the optimizer must hold the model's parameters only, but got {strangers} others; "
            "put what is trained into one nn.Module"
        )
    name = type(optimizer).__name__
    for method, value in vars(optimizer).items():
        replaced = _replaces_method(optimizer, method, value)
        if replaced and not counts_steps(optimizer, method, value):
            raise InvalidArgument(
                f"the optimizer's {method} must be that of its class, but got another function, "
                f"which runs cannot copy; write a subclass of {name} instead"
            )


def counts_steps(optimizer: Optimizer, name: str, value: object) -> bool:
    """Whether the attribute is a method as a torch scheduler has wrapped it, to count its calls."""
    return _replaces_method(optimizer, name, value) and _by_torch(optimizer, name, value)


def _replaces_method(optimizer: Optimizer, name: str, value: object) -> bool:
    return isinstance(value, FunctionType) and hasattr(type(optimizer), name)


def _by_torch(optimizer: Optimizer, name: str, value: Any) -> bool:  # noqa: ANN401
    """Whether torch put the function there, around the method of the class."""
    while any(hasattr(value, mark) for mark in _MARKS):
        inner = _wrapped(value)
        if inner is None:
            return False
        value = inner
    return getattr(value, "__func__", value) is getattr(type(optimizer), name)


def _wrapped(function: Any) -> Any | None:  # noqa: ANN401
    """The function inside a wrapper: as functools names it, or else the one in its closure."""
    if hasattr(function, "__wrapped__"):
        return function.__wrapped__
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    functions = [one for one in held if isinstance(one, FunctionType | MethodType)]
    return functions[0] if len(functions) == 1 else None
