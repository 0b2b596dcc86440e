"""What both trainers measure with: eval mode, random states of its own, numbers read together."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.state.kept_state import state_kept
from lrfinder.tasks.state.random_states import Stream


@contextmanager
def evaluating(models: Iterable[nn.Module]) -> Generator[None]:
    """Eval mode and no gradients; every train flag, attribute and buffer left as found."""
    models = list(models)
    modules = [module for model in models for module in model.modules()]
    with eval_mode(models), state_kept(modules):
        yield


@contextmanager
def eval_mode(models: Iterable[nn.Module]) -> Generator[None]:
    """Eval mode and no gradients; every train flag left as found."""
    models = list(models)
    flags = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training


def evaluation_stream(device: torch.device) -> Stream:
    """Random states that every run's evaluation starts from."""
    return _stream(device).copy()


def as_number(name: str, value: Any, device: torch.device) -> Tensor | float:  # noqa: ANN401
    """The number that a measure gave; of a tensor as one float64 on the device, not waited for."""
    if isinstance(value, Tensor) and value.numel() == 1:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return value.detach().reshape(()).to(device, dtype)
    if isinstance(value, int | float | np.generic):
        return float(value)
    got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    what = "valid_loss" if name == "loss" else f"metric {name!r}"
    raise InvalidArgument(f"{what} must give one number, but got {got}")


def read_numbers(values: Sequence[Tensor | float]) -> NDArray[np.float64]:
    """The values as float64[values]; the tensors among them, on one device, are read together."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    read = iter(torch.stack(tensors).tolist() if tensors else [])
    return np.array([next(read) if isinstance(value, Tensor) else value for value in values])


@cache
def _stream(device: torch.device) -> Stream:
    return Stream(0, device)
