"""What is compared, and the runs of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lrfinder.schedules import Schedule

BASELINE = "baseline"
"""Name of the candidate that a task uses today."""


@dataclass(frozen=True)
class Candidate:
    """One way to train: a name, a peak lr and a schedule."""

    name: str
    lr: float
    schedule: Schedule

    def made(self, run: "ConfirmedRun") -> bool:
        """Whether the run was one of this very candidate."""
        same_lr = math.isclose(self.lr, run.lr, rel_tol=1e-9)
        return same_lr and (self.name, str(self.schedule)) == (run.candidate, run.schedule)


@dataclass(frozen=True)
class ConfirmedRun:
    """One candidate trained under one seed."""

    candidate: str
    lr: float
    schedule: str
    """As the schedule prints itself."""
    seed: int
    value: float
    """What is compared: the final measure; where the run diverged, the one before training."""
    diverged: bool
    updates: int
    """Updates that were trained."""
    measures: Mapping[str, float]
    """Every final measure by name; nan where the run diverged."""
