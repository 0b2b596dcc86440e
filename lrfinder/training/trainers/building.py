"""Models and optimizers of runs, built under the random states of their seeds."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.fields.lr_groups import group_lrs
from lrfinder.tasks.fields.task_checks import check_built
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.state.optimizer_copies import check_copyable, unwrapped
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import user_code
from lrfinder.training.trainers.evaluation import eval_mode
from lrfinder.training.trainers.optimizer_modes import in_training

NEEDS_CLOSURE = "{name} needs a closure, which only a loop of your own can give: use lrfinder.Loop"


def build_model(task: Task, seed: int, device: torch.device | None) -> tuple[nn.Module, Stream]:
    """Return the model that the seed gives, on the device, and the seed's random states after it.

    None leaves the model where its factory put it.
    """
    random = Stream(seed, device or task.prototype.device)
    with random.active(), user_code("building the model"):
        model = task.model()
        check_built("model", model, nn.Module)
        if device is not None:
            model.to(device)
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        _make_shapes(task, model, random)
    return model, random


def _make_shapes(task: Task, model: nn.Module, random: Stream) -> None:
    """Give lazy modules their shapes by a forward pass, which draws their first weights."""
    device = device_of(model)
    (batch, *_) = task.data(device).fixed_subset
    with random.active(), user_code("building the lazy modules"), eval_mode([model]):
        task.measures_on(device).measure(model, batch, only=["loss"])


def build_optimizer(task: Task, model: nn.Module, lr: float, random: Stream) -> Optimizer:
    """Return the task's optimizer for a model that was built under these random states.

    Raises InvalidArgument where it cannot be stepped by a table of learning rates.
    """
    with random.active(), user_code("building the model"):
        optimizer = unwrapped(task.optimizer(model, lr))
        _check_optimizer(optimizer, model, task)
        return in_training(optimizer)


def lrs_of_groups(task: Problem, lrs: Sequence[float]) -> Floats:
    """Learning rate of each parameter group where these lrs are asked for: float64[lrs, groups]."""
    if isinstance(task, Loop):
        return task.group_lrs(lrs)
    model, random = build_model(task, 0, None)
    with random.active(), user_code("building the optimizer"):
        return group_lrs(task.optimizer, model, lrs)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are; the processor where it has none."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _check_optimizer(optimizer: Any, model: nn.Module, task: Task) -> None:  # noqa: ANN401
    check_built("optimizer", optimizer, Optimizer)
    name = type(optimizer).__name__
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InvalidArgument(NEEDS_CLOSURE.format(name=name))
    check_copyable(optimizer, model)
    if not task.prototype.groups.follow:
        raise InvalidArgument(
            f"optimizer(model, lr) must use its lr, but {name} was built with "
            f"{[float(group['lr']) for group in optimizer.param_groups]} whatever lr is"
        )
