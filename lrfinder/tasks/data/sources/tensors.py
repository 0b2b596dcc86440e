"""Data that are tensors: a TensorDataset, or rows of one that a Subset picks."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from lrfinder.tasks.data.loaders import Data


def tensors_of(data: Data) -> tuple[Tensor, ...] | None:
    """Tensors of a TensorDataset, or of a Subset of one; None for any other data.

    A subclass is other data: it may change its rows as they are read.
    """
    found = tensors_and_rows(data)
    if found is None:
        return None
    tensors, rows = found
    return tensors if rows is None else picked(tensors, rows)


def are_tensors(data: Data) -> bool:
    """Whether the data have `tensors_of`."""
    return tensors_and_rows(data) is not None


def tensors_and_rows(data: Data) -> tuple[tuple[Tensor, ...], Tensor | None] | None:
    """Tensors of a TensorDataset, and which of their rows a Subset has; None for all of them."""
    if type(data) is TensorDataset:
        return data.tensors, None
    inner = tensors_and_rows(cast(Data, data.dataset)) if type(data) is Subset else None
    if inner is None:
        return None
    tensors, rows = inner
    index = torch.as_tensor(list(cast(Any, data).indices), dtype=torch.long)
    return tensors, index if rows is None else rows[index]


def picked(tensors: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, ...]:
    """These rows of each tensor, where the tensor lies."""
    return tuple(tensor[rows.to(tensor.device)] for tensor in tensors)
