"""`lrfinder.run`: what `lrfinder run` and `sweep` do, asked for in Python."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from lrfinder.commands.new_run import start
from lrfinder.commands.resume import go_on
from lrfinder.errors import InvalidArgument
from lrfinder.report.progress import shown, standard_error
from lrfinder.results.saved_run import Run
from lrfinder.settings import RunSettings, settings_from
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem, check_problem
from lrfinder.tasks.reference import live_reference
from lrfinder.tasks.task import Task
from lrfinder.training.executors.choice import AnyExecutor
from lrfinder.types import Device, Direction, EngineName, Every, Growth, Per


class RunOptions(TypedDict, total=False):
    """Options of `run`: those of `lrfinder run` and `sweep`, described in their help."""

    epochs: int
    families: Sequence[str]
    trials: int
    even: bool
    find_seeds: int
    trial_seeds: int
    confirm_runs: int
    confirm_seeds: int
    seed: int
    lr: float
    lr_range: tuple[float, float]
    min_lr: float
    max_lr: float
    steps: int
    probes: int
    cost: float | str
    every: Every
    growth: Growth
    per: Per
    warmup: float | Literal["search"]
    objective: str
    groups: Mapping[str, Mapping[str, Any]]
    direction: Direction
    baseline: str
    timeout: float
    device: Device
    engine: EngineName
    workers: int
    ray: str
    storage: str


def run(
    task: Problem | str | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    progress: bool = True,
    executor: AnyExecutor | None = None,
    **options: Unpack[RunOptions],
) -> Run:
    """Range test, decay studies and comparison: which lr, and which decay?

    Args:
        task: a Task, whether made from factories or by `Task.from_objects`, a Loop, or what the
            command takes: a file, a module or a built-in name. It may be left out with `resume`
            where the run was started by a name.
        out: the folder to write, which must not exist; by default one under runs/.
        resume: the folder of an interrupted run to go on with; a Task or Loop is given again.
        progress: show how it goes on: on the terminal, or under the cell of a notebook.
        executor: where studies and comparison are trained: InProcess(), Processes(4), Ray("auto"),
            or any `concurrent.futures.Executor`, such as Dask's `client.get_executor()`; the range
            test is made here. What comes out is the same.
        options: those of the command, under the same names: epochs=..., families=[...], trials=...

    With `lr` or `lr_range` there is no range test, as in `lrfinder sweep`. Workers load a task that
    was given by name, and are sent any other, which must allow it. Raises InvalidArgument, in one
    line, for what cannot be used, TaskFailed where the task's code raises, and Interrupted on
    Ctrl-C; after the last two the run can be resumed.
    """
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    if task is None and resume is None:
        raise InvalidArgument("a run needs a task or a folder to resume, but got neither")
    if out is not None and resume is not None:
        raise InvalidArgument("out and resume exclude each other, but got both")
    if task is not None:
        if not isinstance(task, str):
            check_problem(task)
        given["task"] = live_reference(task.name) if isinstance(task, Task | Loop) else task
    live = task if isinstance(task, Task | Loop) else None
    with shown(standard_error(), quiet=not progress) as shows:
        if resume is not None:
            return go_on(Path(resume), given, shows, live, executor)
        settings = settings_from(RunSettings, given)
        return start(settings, None if out is None else Path(out), shows, live, executor)


def _signature() -> inspect.Signature:
    """Signature of `run` with every option by name, as help and notebooks show it."""
    *own, _ = inspect.signature(run).parameters.values()
    keyword, fields = inspect.Parameter.KEYWORD_ONLY, RunSettings.model_fields
    options = [
        inspect.Parameter(name, keyword, default=fields[name].default)
        for name in RunOptions.__annotations__
    ]
    return inspect.Signature([*own, *options], return_annotation=Run)


vars(run)["__signature__"] = _signature()
