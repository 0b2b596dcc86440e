"""The contract between `fit` and what trains: a population of runs under a table of learning rates.

A trainer sees learning rates and never a reason for them. It knows nothing of schedules, studies
or range tests.

Laws, tested on every implementation: the same plans give the same losses; evaluating between
updates changes nothing; a run's losses and measures do not depend on its neighbours; copies are
independent and go on like the run they were made of; no random state of the caller moves.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.tasks.data.batches import Batch


class State(Protocol):
    """A population in training; opaque but for its size and what schedules start from."""

    @property
    def stand_ins(self) -> Sequence[Optimizer]:
        """A stand-in of every run's optimizer as it was built; see `schedules/live.py`."""
        ...

    @property
    def raised(self) -> Mapping[int, str]:
        """What the task raised in runs that have diverged by it, in one line, by their place."""
        ...

    def __len__(self) -> int:
        """Return the number of runs."""
        ...


S = TypeVar("S", bound=State)
P = TypeVar("P", contravariant=True)
"""What it trains: Tasks, or Loops."""


class Trainer(Protocol[S, P]):
    """Trains populations of runs, each held in a State of its own kind."""

    @property
    def device(self) -> torch.device | None:
        """Where models and data are moved to; None leaves the model where its factory put it."""
        ...

    def capacity(self, task: P) -> int:
        """Most runs that one State should hold."""
        ...

    def start(self, task: P, seeds: Sequence[int], lrs: Sequence[float]) -> S:
        """Build one model and optimizer per run, each under its own seed and for its own lr."""
        ...

    def advance(self, state: S, lrs: Floats) -> Floats:
        """Train on by the lrs float64[runs, updates, groups].

        Returns the loss before each update (the mean of its micro-batches), float64[runs, updates];
        nan from the update on that follows a run's first loss that is not finite, or from the one
        on in which the task raised, where that counts as a divergence (`raised.py`).
        """
        ...

    def evaluate(self, state: S, batches: Iterable[Batch]) -> dict[str, Floats]:
        """Row-weighted means over the batches, in eval mode, by measure: float64[runs].

        nan where the task raised and that counts as a divergence.
        """
        ...

    def select(self, state: S, rows: Sequence[int]) -> S:
        """Keep, drop or duplicate runs, with everything that determines how they go on.

        The state given is used up.
        """
        ...

    def fork(self, state: S, rows: Sequence[int]) -> S:
        """Return independent copies of runs; the state given goes on as if nothing happened.

        Raises TaskFailed where a run cannot be copied (`forks.py` asks before).
        """
        ...


AnyTrainer = Trainer[Any, Any]
"""A trainer whose kind of State, and what it trains, do not matter."""
