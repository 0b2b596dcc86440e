"""What can be trained: a Task, which lrfinder takes apart, or a Loop, which it drives."""

from lrfinder.checks import shown_value
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.task import Task

Problem = Task | Loop


def check_problem(task: object) -> None:
    """Raise InvalidArgument where the value is neither a Task nor a Loop."""
    if isinstance(task, Problem):
        return
    cure = ""
    if isinstance(task, str):
        cure = f"; lrfinder.load_task({task!r}) makes one of a file or a name"
    elif callable(task):
        cure = "; call what makes it"
    raise InvalidArgument(f"task must be a Task or a Loop, but got {shown_value(task)}{cure}")
