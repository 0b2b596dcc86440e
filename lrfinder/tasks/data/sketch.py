"""What tells two batches, or two sets of weights, apart: a few numbers, and a hash of the rest.

Projections of the numbers, scaled tensor by tensor, and their sizes and means. Other draws give
other projections; another device or number of threads, which round otherwise, does not.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrfinder.tasks.data.batches import Batch, leaves_of
from lrfinder.tasks.data.devices import tensors_in

_TOLERANCE = 1e-3
_MOST_NUMBERS = 2**14
"""Numbers of one tensor that are looked at, evenly spread."""
_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True)
class Sketch:
    """What tells two sets of tensors apart."""

    kinds: str
    """Hash of shapes, types and words."""
    numbers: tuple[float, ...]
    """Two projections, logarithmic size and mean over size, each summed over the tensors."""

    def alike(self, other: "Sketch") -> bool:
        """Whether both are of the same values, up to rounding."""
        close = np.allclose(self.numbers, other.numbers, rtol=0, atol=_TOLERANCE)
        return self.kinds == other.kinds and bool(close)


def sketch(batch: Batch) -> Sketch:
    """Sketch of the tensors, numbers and words in a batch."""
    kinds, total = hashlib.blake2b(digest_size=8), np.zeros(4)
    for place, value in enumerate(_values(batch)):
        if isinstance(value, str | bytes):
            kinds.update(repr(value).encode())
            continue
        kinds.update(f"{value.dtype} {tuple(value.shape)}".encode())
        total += _projected(*_numbers(value), place)
    return Sketch(kinds.hexdigest(), tuple(total.tolist()))


def sketch_of_weights(model: nn.Module) -> Sketch:
    """Sketch of the parameters and buffers of a model; lazy ones have no values yet."""
    return sketch([t for t in (*model.parameters(), *model.buffers()) if not is_lazy(t)])


def _values(batch: Batch) -> Iterable[Tensor | NDArray[Any] | str | bytes]:
    """Whatever of a batch can be compared, depth first."""
    for leaf in leaves_of(batch):
        if isinstance(leaf, str | bytes):
            yield leaf
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "biufc":
            yield repr(leaf.tolist())
        elif isinstance(leaf, np.ndarray | bool | int | float):
            yield np.asarray(leaf)
        else:
            yield from tensors_in(leaf)


def _numbers(values: Tensor | NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """Some of the numbers, evenly spread, and the relative size of their rounding."""
    if isinstance(values, np.ndarray):
        exact = values.dtype.kind not in "fc"
        flat: Any = values.reshape(-1)
        rounding = 0.0 if exact else float(np.finfo(values.dtype).eps)
    else:
        strided = values.layout is torch.strided and not values.is_nested
        exact = not (values.dtype.is_floating_point or values.dtype.is_complex)
        flat = values.detach().reshape(-1) if strided else torch.empty(0)
        rounding = 0.0 if exact else torch.finfo(values.dtype).eps
    some = flat[:: max(1, -(-len(flat) // _MOST_NUMBERS))]
    if isinstance(some, Tensor):
        some = some.cpu()
        some = (some.to(torch.complex64) if some.is_complex() else some.double()).numpy()
    if some.dtype.kind == "c":
        some = np.concatenate([np.real(some), np.imag(some)])
    return np.nan_to_num(some.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0), rounding


def _projected(numbers: NDArray[np.float64], rounding: float, place: int) -> NDArray[np.float64]:
    """The numbers of one tensor, the one at this place, as its share of a sketch."""
    largest = float(np.abs(numbers).max(initial=0.0))
    if largest == 0:
        return np.zeros(4)
    scaled = numbers / largest
    mean, spread = float(scaled.mean()), float(scaled.std())
    size = math.hypot(mean, spread)
    constant = spread <= 16 * rounding * abs(mean) or spread == 0
    angles = _ANGLE * np.arange(len(scaled)) + place
    centred = np.zeros_like(scaled) if constant else (scaled - mean) / spread
    waves = np.array([np.cos(angles), np.sin(angles)]) / math.sqrt(len(scaled))
    return np.array([*(waves @ centred), math.log(largest * size), math.cos(place) * mean / size])
