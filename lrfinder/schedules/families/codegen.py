"""Schedulers as functions of keyword arguments, and as the Python text that calls them.

`builder` and `writer` turn a function of named arguments into one of `Params`, so that a family
reads like the torch call it stands for.
"""

import json
from collections.abc import Callable
from keyword import iskeyword

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from lrfinder.schedules.families.family import Params
from lrfinder.types import Value

Factor = Callable[[int], float]
"""The learning rate at scheduler step t as a share of the initial one."""


def builder(scheduler: Callable[..., LRScheduler]) -> Callable[[Optimizer, Params], LRScheduler]:
    """Build with ``scheduler(optimizer, **params)``."""
    return lambda optimizer, params: scheduler(optimizer, **params)


def lambda_builder(factor: Callable[..., Factor]) -> Callable[[Optimizer, Params], LRScheduler]:
    """Build a LambdaLR of the function that ``factor(**params)`` returns."""
    return lambda optimizer, params: LambdaLR(optimizer, factor(**params))


def writer(write: Callable[..., str]) -> Callable[[Params], str]:
    """Write ``write(**params)``."""
    return lambda params: write(**params)


def torch_writer(scheduler: str, fixed: Params | None = None) -> Callable[[Params], str]:
    """Write a call of the torch class with the parameters, then the `fixed` arguments."""
    return lambda params: call(scheduler, *keywords({**params, **(fixed or {})}))


def lambda_writer(factor: Callable[..., str]) -> Callable[[Params], str]:
    """Write a LambdaLR of the expression in ``t`` that ``factor(**params)`` returns."""
    return lambda params: call("LambdaLR", f"lambda t: {factor(**params)}")


def keywords(params: Params) -> list[str]:
    """Keyword arguments as text, floats in full.

    >>> keywords({"step_size": 7, "gamma": 0.1})
    ['step_size=7', 'gamma=0.1']
    """
    return [f"{name}={written(value)}" for name, value in params.items()]


def written(value: Value) -> str:
    """The value as Python code, words in double quotes."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def call(scheduler: str, *arguments: str) -> str:
    """A call of a torch scheduler on ``optimizer``; one argument a line where it gets too long.

    >>> call("ExponentialLR", "gamma=0.9")
    'torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)'
    """
    parts = ["optimizer", *arguments]
    one_line = f"torch.optim.lr_scheduler.{scheduler}({', '.join(parts)})"
    if len(one_line) <= 88:
        return one_line
    lines = "".join(f"    {part},\n" for part in parts)
    return f"torch.optim.lr_scheduler.{scheduler}(\n{lines})"


def variable_name(measure: str) -> str:
    """Name of the variable that holds a measure: its own name where Python allows it."""
    return measure if measure.isidentifier() and not iskeyword(measure) else "measure"
