"""A schedule gone through before anything is trained, so that its faults are told at once."""

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Schedule
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.user_code import user_code
from lrfinder.types import Direction

_MOST_STEPS = 2000


def rehearse(
    task: Problem, schedule: Schedule, epochs: int, updates_per_epoch: int, direction: Direction
) -> None:
    """Start a schedule on the task's optimizer and step it, without training.

    Raises what training by it would raise, but for what shows after thousands of steps or depends
    on the measures: TaskFailed where its own code raises, InvalidArgument where it breaks a rule.
    """
    with user_code(starting(schedule)):
        live = schedule.start(task.prototype.stand_in)
    mode = "min" if direction == "minimize" else "max"
    if live.mode not in (None, mode):
        raise InvalidArgument(
            f"the mode of {schedule.family.name} must be {mode!r} for a measure to {direction}, "
            f"but got {live.mode!r}"
        )
    updates = updates_per_epoch if schedule.stepped_per == "batch" else 1
    with user_code(stepping(schedule)):
        for _ in range(min(epochs, 1 + _MOST_STEPS // updates)):
            live.epoch(min(updates, _MOST_STEPS), 1.0)


def starting(schedule: Schedule) -> str:
    """What is being done where a schedule's own code may raise."""
    return f"starting the schedule {schedule.family.name}"


def stepping(schedule: Schedule) -> str:
    """The same, for a schedule that goes on."""
    return f"stepping the schedule {schedule.family.name}"
