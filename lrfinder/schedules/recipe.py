"""An initial learning rate and a schedule: what a trial tries and a candidate is."""

from dataclasses import dataclass

from lrfinder.checks import check_is, check_lr
from lrfinder.schedules.schedule import Schedule


@dataclass(frozen=True)
class Recipe:
    """A peak learning rate and the schedule that it goes by; equal recipes train alike.

    Raises InvalidArgument for an lr that is not positive and finite.
    """

    lr: float
    schedule: Schedule

    def __post_init__(self) -> None:
        check_lr("lr", self.lr)
        check_is("schedule", self.schedule, Schedule, 'Schedule(lrfinder.FAMILIES["constant"])')

    def __str__(self) -> str:
        return f"{self.schedule} at lr {self.lr:.3g}"
