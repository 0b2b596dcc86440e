"""What summary.json holds of a range test, beside its table."""

import math
from dataclasses import asdict
from typing import Any, Self

from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.probes import Probe
from lrfinder.results.facts import Count, Facts, Number, Rate
from lrfinder.types import Every, Growth


class ProbeFacts(Facts):
    """A run at a constant lr."""

    seed: int
    lr: Rate
    updates: Count
    loss: Number
    """nan where it diverged."""
    permuted: Number
    permuted_deviation: Number
    """Mean and deviation of the loss with exchanged targets; nan where they are not known."""
    halfway: Number = math.nan
    scatter: Number = math.nan
    lowest: Number = math.nan
    lowest_at: Count | None = None
    train_loss: Number = math.nan
    """What its losses were on the way; not recorded by the first releases."""

    def probe(self) -> Probe:
        """Return it as the range test had it."""
        return Probe(**{name: getattr(self, name) for name in type(self).model_fields})


class RangeTestFacts(Facts):
    """What range_test.csv does not hold."""

    seeds: tuple[int, ...]
    every: Every
    growth: Growth
    optimizer: str
    batch_size: int | None
    updates: Count
    wall_seconds: float
    probes: tuple[ProbeFacts, ...]
    updates_per_step: Count
    budget: Count | None
    """Updates of a whole training."""
    asked: tuple[Rate, Rate] | None
    """The range of lrs that was asked for, where it was widened."""
    cut: bool = False
    """Whether a timeout ended the sweep."""
    notes: tuple[str, ...] = ()
    """What happened on the way."""
    unchecked: str | None = None
    """Why no run was checked against noise; older folders do not say."""
    of_training: bool = False
    """Whether the loss is that of training batches."""
    lr_scale: Rate = 1.0
    """The optimizer's own lr over the one it is built for; older folders do not say."""
    repeats: bool = True
    """Whether the training data are a set of rows; older folders do not say."""
    against: bool = False
    """Whether optimizers of a loop work against each other in it."""
    updates_per_epoch: Count | None = None
    weights: Count | None = None
    """Of the task; older folders do not say."""

    @classmethod
    def of(cls, curve: Curve) -> Self:
        """Facts of a curve."""
        known: dict[str, Any] = {name: getattr(curve, name) for name in cls.model_fields}
        known["probes"] = tuple(ProbeFacts(**asdict(probe)) for probe in curve.probes)
        known["wall_seconds"] = round(curve.wall_seconds, 3)
        return cls(**known)
