"""What is compared, and the runs of it."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from lrfinder.arrays import Floats
from lrfinder.schedules import Schedule
from lrfinder.schedules.recipe import Recipe

BASELINE = "baseline"
"""Name of the candidate that a task uses today."""
START = "start"
"""Name of the candidate without a search: the suggested lr under the default cosine."""
CONSTANT = "constant"


@dataclass(frozen=True)
class Candidate:
    """One way to train: a name, a peak lr and a schedule."""

    name: str
    lr: float
    schedule: Schedule

    def __post_init__(self) -> None:
        Recipe(self.lr, self.schedule)  # refuses what nothing trains with

    @property
    def recipe(self) -> Recipe:
        """The lr and the schedule alone."""
        return Recipe(self.lr, self.schedule)

    def made(self, run: "ConfirmedRun") -> bool:
        """Whether the run was one of this very candidate."""
        return (run.candidate, run.lr, run.schedule) == (self.name, self.lr, str(self.schedule))


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
    best: float = math.nan
    """What is compared, at the evaluation where it was best; nan where it diverged."""
    lrs: int = 0
    """Stands for the learning rates that were trained by: runs with equal ones trained alike."""


def number_of(lrs: Floats) -> int:
    """A number that is the same for the same learning rates, whatever their shape."""
    return int.from_bytes(hashlib.sha256(lrs.tobytes()).digest()[:6])
