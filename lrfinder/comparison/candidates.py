"""What is compared, and the runs of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from lrfinder.schedules import Schedule
from lrfinder.schedules.recipe import Recipe

BASELINE = "baseline"
"""Name of the candidate that a task uses today."""


@dataclass(frozen=True)
class Candidate:
    """One way to train: a name, a peak lr and a schedule."""

    name: str
    lr: float
    schedule: Schedule

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
