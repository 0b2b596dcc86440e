"""Random states that are swapped in and out, so that nothing leaks between runs or to the caller.

PyTorch, Python and NumPy keep global random states, and user code draws from all of them. A
`Stream` owns one copy of those states: code inside ``with stream.active():`` draws from the stream,
and the caller's states come back afterwards, bit for bit, also when the code raises. Two streams of
the same seed give the same numbers, however their uses are interleaved with anything else.

Laws: ``with Stream(s).active(): ...`` changes no global random state; a copy of a stream continues
like the original and independently of it.
"""

import hashlib
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, *labels: object) -> int:
    """Seed in 0..2**63-1 for one purpose, a pure function of the arguments.

    >>> derive(0, "order", 3) == derive(0, "order", 3) != derive(0, "order", 4)
    True
    """
    text = repr((seed, *labels)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class _States:
    """The global random states of the process, and of one accelerator, as they are set back."""

    of_python: Any
    of_numpy: Any
    of_torch: Tensor
    of_device: Tensor | None

    @classmethod
    def now(cls, device: torch.device | None) -> "_States":
        return cls(
            random.getstate(),
            np.random.get_state(),  # noqa: NPY002 (user code draws from the global state)
            torch.get_rng_state(),
            _device_state(device),
        )

    def equal(self, other: "_States") -> bool:
        own, others = self.of_numpy, other.of_numpy
        return (
            self.of_python == other.of_python
            and all(np.array_equal(a, b) for a, b in zip(own, others, strict=True))
            and torch.equal(self.of_torch, other.of_torch)
            and (self.of_device is None) == (other.of_device is None)
            and (
                self.of_device is None
                or other.of_device is None
                or torch.equal(self.of_device, other.of_device)
            )
        )

    def restore(self, device: torch.device | None) -> None:
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)  # noqa: NPY002
        torch.set_rng_state(self.of_torch)
        if self.of_device is not None and device is not None:
            _set_device_state(self.of_device, device)


def _device_state(device: torch.device | None) -> Tensor | None:
    if device is not None and device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    if device is not None and device.type == "mps":
        return torch.mps.get_rng_state()
    return None


@contextmanager
def kept(device: torch.device | None = None) -> Generator[None]:
    """Give the caller's random states back on leaving, whatever happens inside.

    `device` is an accelerator whose state is kept beside those of the processor.
    """
    outside = _States.now(device)
    try:
        yield
    finally:
        outside.restore(device)


def mark(device: torch.device) -> Callable[[], None]:
    """Remember torch's random states, at next to no cost; call the result to go back to them."""
    of_torch, of_device = torch.get_rng_state(), _device_state(device)

    def back() -> None:
        torch.set_rng_state(of_torch)
        if of_device is not None:
            _set_device_state(of_device, device)

    return back


def _set_device_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.mps.set_rng_state(state)


def _seed_everything(seed: int, device: torch.device | None) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every accelerator
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device is not None and device.type == "mps":
        torch.mps.manual_seed(seed)


class Stream:
    """The random states of one run or of one data source."""

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self._device = device
        with kept(device):
            _seed_everything(seed, device)
            self._states = _States.now(device)

    @classmethod
    def now(cls, device: torch.device | None = None) -> "Stream":
        """Return a stream that continues like the global random states of this moment."""
        stream = object.__new__(cls)
        stream._device, stream._states = device, _States.now(device)
        return stream

    def go_on_globally(self) -> None:
        """Make the global random states those of this stream."""
        self._states.restore(self._device)

    @contextmanager
    def active(self) -> Generator[None]:
        """Draw from this stream inside the block; it continues where the last block ended."""
        with kept(self._device):
            self._states.restore(self._device)
            try:
                yield
            finally:
                self._states = _States.now(self._device)

    def at(self, other: "Stream") -> bool:
        """Whether both streams would give the same numbers."""
        return self._states.equal(other._states)

    def copy(self) -> "Stream":
        """Return a stream that continues like this one, independently of it."""
        twin = object.__new__(Stream)
        twin._device = self._device
        twin._states = self._states  # replaced, never changed in place
        return twin
