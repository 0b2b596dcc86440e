"""A schedule gone through before anything is trained, so that its faults are told at once."""

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Schedule
from lrfinder.tasks.fields.baseline import NAME as BASELINE
from lrfinder.tasks.fields.measures import measure_name
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
    watched_by(schedule, "loss", task)
    mode = "min" if direction == "minimize" else "max"
    if schedule.family.watch is None and live.mode not in (None, mode):
        cure = ""
        if schedule.family.name == BASELINE:
            cure = "; name the measure that it is to follow: Baseline(lr, schedule, watch=...)"
        raise InvalidArgument(
            f"the mode of {schedule.family.name} must be {mode!r} for a measure to {direction}, "
            f"but got {live.mode!r}{cure}"
        )
    updates = updates_per_epoch if schedule.stepped_per == "batch" else 1
    with user_code(stepping(schedule)):
        for _ in range(min(epochs, 1 + _MOST_STEPS // updates)):
            live.epoch(min(updates, _MOST_STEPS), 1.0)


def watched_by(schedule: Schedule, watch: str, task: Problem) -> str:
    """The measure by which a schedule is stepped: `watch`, unless its family names another one.

    Raises InvalidArgument where the task has no such measure.
    """
    named = schedule.family.watch
    return watch if named is None else measure_name(named, task.measures, "watch")


def starting(schedule: Schedule) -> str:
    """What is being done where a schedule's own code may raise."""
    return f"starting the schedule {schedule.family.name}"


def stepping(schedule: Schedule) -> str:
    """The same, for a schedule that goes on."""
    return f"stepping the schedule {schedule.family.name}"
