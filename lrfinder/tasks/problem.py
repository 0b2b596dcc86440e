"""What can be trained: a Task, which lrfinder takes apart, or a Loop, which it drives."""

from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.task import Task

Problem = Task | Loop
