"""Optimizers with modes of their own: schedule-free ones train at other weights than they evaluate.

``train()`` and ``eval()`` move the weights there and back. Here they are in their train mode but
while a run is evaluated.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer

from lrfinder.tasks.user_code import user_code


def has_modes(optimizer: Optimizer) -> bool:
    """Whether the optimizer is switched between train() and eval()."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def in_training(optimizer: Any) -> Any:  # noqa: ANN401 (an optimizer that may have modes)
    """The optimizer, in its train mode where it has modes."""
    if has_modes(optimizer):
        optimizer.train()
    return optimizer


@contextmanager
def in_evaluation(optimizers: Iterable[Any]) -> Generator[None]:
    """Those that have modes in their eval mode, and in their train mode afterwards."""
    switched = [one for one in optimizers if has_modes(one)]
    with user_code("switching the optimizer to eval mode"):
        for one in switched:
            one.eval()
    try:
        yield
    finally:
        with user_code("switching the optimizer to train mode"):
            for one in switched:
                one.train()
