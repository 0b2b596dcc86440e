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
from collections.abc import Generator
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
    """The global random states of the process, as they are set back."""

    of_python: Any
    of_numpy: Any
    of_torch: Tensor
    of_cuda: list[Tensor]
    of_mps: Tensor | None

    @classmethod
    def now(cls) -> "_States":
        return cls(
            random.getstate(),
            np.random.get_state(),  # noqa: NPY002 (user code draws from the global state)
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        )

    def restore(self) -> None:
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)  # noqa: NPY002
        torch.set_rng_state(self.of_torch)
        if self.of_cuda:
            torch.cuda.set_rng_state_all(self.of_cuda)
        if self.of_mps is not None:
            torch.mps.set_rng_state(self.of_mps)


@contextmanager
def kept() -> Generator[None]:
    """Give the caller's random states back on leaving, whatever happens inside."""
    outside = _States.now()
    try:
        yield
    finally:
        outside.restore()


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


class Stream:
    """The random states of one run or of one data source."""

    def __init__(self, seed: int) -> None:
        with kept():
            _seed_everything(seed)
            self._states = _States.now()

    @contextmanager
    def active(self) -> Generator[None]:
        """Draw from this stream inside the block; it continues where the last block ended."""
        with kept():
            self._states.restore()
            try:
                yield
            finally:
                self._states = _States.now()

    def copy(self) -> "Stream":
        """Return a stream that continues like this one, independently of it."""
        twin = object.__new__(Stream)
        twin._states = self._states  # replaced, never changed in place
        return twin
