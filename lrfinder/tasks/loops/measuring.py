"""What a loop measures where it waits, by the function that it registered; nothing of it moves."""

from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.fields.task_checks import check_metric_names
from lrfinder.tasks.loops.driving import DrivenTraining
from lrfinder.tasks.loops.training import Measuring, described
from lrfinder.tasks.state.held_objects import held_by
from lrfinder.tasks.state.kept_state import state_kept
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.user_code import user_code

_MOST_OBJECTS = 5000
"""Objects among which modules are looked for."""
_MOST_ELEMENTS = 200
_LEAVES = (str, bytes, int, float, type(None), type, Tensor, np.ndarray, ModuleType)


def measured_by(training: DrivenTraining) -> dict[str, float]:
    """What a loop measures where it waits, by name, the loss among it; nothing of it moves."""
    function = training.measuring
    assert function is not None
    with (
        Stream(0, training.accelerator).active(),
        training.generators_kept(),
        modules_kept(function),
        user_code("evaluating"),
    ):
        return as_measures(function())


def as_measures(found: Any) -> dict[str, float]:  # noqa: ANN401 (whatever the function returned)
    """What a measuring function returned as numbers by name; "valid_loss" is the loss."""
    if not isinstance(found, Mapping):
        number = _number(found)
        if number is None:
            raise InvalidArgument(
                "the function of training.measure must return a dict of numbers by name, "
                f'as in {{"valid_loss": 0.5}}, but returned {described(found)}'
            )
        return {"loss": number}
    given = cast(Mapping[Any, Any], found)
    if "valid_loss" not in given:
        raise InvalidArgument(
            'the function of training.measure must return a "valid_loss", which falls as the '
            f"training learns, but returned {', '.join(map(str, given)) or 'nothing'}"
        )
    others = [name for name in given if name != "valid_loss"]
    check_metric_names(others)
    numbers = {name: _number(given[name]) for name in ("valid_loss", *others)}
    for name, number in numbers.items():
        if number is None:
            raise InvalidArgument(
                f"the function of training.measure must return one number for {name!r}, "
                f"but returned {described(given[name])}"
            )
    return {("loss" if k == "valid_loss" else k): v for k, v in numbers.items() if v is not None}


def _number(value: Any) -> float | None:  # noqa: ANN401
    if isinstance(value, Tensor | np.ndarray):
        one = value.size if isinstance(value, np.ndarray) else value.numel()
        return float(value.item()) if one == 1 else None
    return float(value) if isinstance(value, int | float | np.generic) else None


@contextmanager
def modules_kept(function: Measuring) -> Generator[None]:
    """Put back the train flags, buffers and attributes of the modules that a function leads to."""
    modules = {id(m): m for root in _modules_of(function) for m in root.modules()}
    flags = [(module, module.training) for module in modules.values()]
    with state_kept(modules.values()):
        try:
            yield
        finally:
            for module, training in flags:
                module.training = training


def _modules_of(function: Measuring) -> list[nn.Module]:
    found: list[nn.Module] = []
    waiting, seen, kept = deque([cast(Any, function)]), set[int](), list[Any]()
    while waiting and len(seen) < _MOST_OBJECTS:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, _LEAVES):
            continue
        seen.add(id(one))
        kept.append(one)
        if isinstance(one, nn.Module):
            found.append(one)
        else:
            waiting += held_by(one, _MOST_ELEMENTS)
    return found
