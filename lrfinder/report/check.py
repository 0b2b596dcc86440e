"""What `lrfinder check` looks at: a schedule in a line, a task, a study file or a run folder.

Nothing is trained. A finding is a sentence that says what is wrong and which number would mend it;
a remark need not be wrong.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from lrfinder.comparison.candidates import START
from lrfinder.errors import InvalidArgument, LRFinderError, TaskLoadError
from lrfinder.experiment import prepared_task
from lrfinder.results.opening import open_run
from lrfinder.results.saved_run import Run
from lrfinder.results.summary import FamilyFacts, RunSummary
from lrfinder.schedules import FAMILIES, Schedule, family
from lrfinder.schedules.groups import NAME as GROUPS
from lrfinder.schedules.spec import schedule_of_training
from lrfinder.settings import RunSettings, read_settings_file, settings_from
from lrfinder.tasks.loading import load_task
from lrfinder.tasks.problem import Problem
from lrfinder.types import Per

_AT_BOUND = {"low": 0.1, "high": 10.0}  # how much farther a range is to go


@dataclass
class Checked:
    """What was looked at, and what was found."""

    looked_at: list[str] = field(default_factory=list[str])
    found: list[str] = field(default_factory=list[str])
    """What is probably wrong, a sentence each."""
    remarks: list[str] = field(default_factory=list[str])
    """What need not be wrong."""

    def lines(self) -> list[str]:
        """All of it for a terminal."""
        verdict = [] if self.found else ["nothing wrong was found"]
        return [
            *self.looked_at,
            *(f"wrong? {said}" for said in self.found),
            *(f"remark: {said}" for said in self.remarks),
            *verdict,
        ]

    def schedule(
        self, name: str, schedule: Schedule, epochs: int, per_epoch: int | None, lr: float = 1.0
    ) -> None:
        """Look at a schedule for a training."""
        over = f"{epochs} epochs" + (f" of {per_epoch} updates" if per_epoch else "")
        self.looked_at.append(f"{name}: {schedule}, stepped every {schedule.stepped_per}, {over}")
        wrong = schedule.problems(epochs, per_epoch, lr)
        self.found += [f"{name}: {sentence}" for sentence in wrong]
        if not wrong:
            said = schedule.problems(epochs, per_epoch, lr, remarks=True)
            self.remarks += [f"{name}: {sentence}" for sentence in said]


def check(
    what: str,
    *,
    task: str | None = None,
    epochs: int | None = None,
    updates_per_epoch: int | None = None,
    per: Per = "epoch",
    warmup: float = 0.0,
) -> Checked:
    """Look at a schedule like ``cosine,T_max=20``, a task, a study file or a run folder.

    A schedule needs `epochs` or the task that it is for; the other kinds know theirs, and refuse
    options that only a schedule has. Raises InvalidArgument, TaskLoadError or RunFolderError in one
    line for what cannot be read.
    """
    if per not in get_args(Per):
        raise InvalidArgument(f"per must be 'epoch' or 'batch', but got {per!r}")
    if _looks_like_a_schedule(what) and not Path(what).exists():
        return _specification(what, task, epochs, updates_per_epoch, per, warmup)
    given = {"--task": task, "--updates-per-epoch": updates_per_epoch, "--warmup": warmup or None}
    if per != "epoch":
        given["--per"] = per
    if extra := next((name for name, value in given.items() if value is not None), None):
        raise InvalidArgument(f"{extra} goes with a schedule such as cosine, but got {what!r}")
    if Path(what).is_dir():
        return _folder(open_run(what))
    if what.endswith(".toml"):
        return _study(settings_from(RunSettings, _of_a_run(read_settings_file(Path(what)))))
    try:
        return _task(_of_length(load_task(what), epochs))
    except TaskLoadError as error:
        if what.isidentifier():
            raise InvalidArgument(_no_such(what)) from error
        raise


def _looks_like_a_schedule(what: str) -> bool:
    """Whether it names a schedule, or has parameters as only a schedule has."""
    _, _, params = what.partition(",")
    if "=" in params or re.fullmatch(r"[\w. ]+\(.*\)\s*", what):
        return True
    with suppress(InvalidArgument):
        called, *_ = re.split(r"[,(]", what)
        family(called.strip().rpartition(".")[2])
        return True
    return False


def _no_such(what: str) -> str:
    """What to say of a word that names nothing: a schedule is what is most often meant."""
    try:
        family(what)
    except InvalidArgument as error:
        return f"{error}; and no task (`lrfinder tasks`), no file and no run folder is called so"
    return f"{what!r} cannot be checked"


def _specification(
    text: str,
    task: str | None,
    epochs: int | None,
    updates_per_epoch: int | None,
    per: Per,
    warmup: float,
) -> Checked:
    custom = None
    if task is not None:
        loaded = _of_length(load_task(task), epochs)
        epochs, custom = loaded.epochs, loaded.schedules
        updates_per_epoch = updates_per_epoch or loaded.data().updates_per_epoch
    if epochs is None:
        raise InvalidArgument(
            "a schedule is checked for a training: give --epochs N, or --task my_task.py"
        )
    if per == "batch" and updates_per_epoch is None:
        raise InvalidArgument("--per batch needs --updates-per-epoch N, or --task my_task.py")
    checked = Checked()
    if warmup >= epochs:
        usual = max(1, epochs // 20)
        checked.looked_at.append(f"{text}: {epochs} epochs")
        checked.found.append(
            f"{text}: the warm-up of {warmup:g} epochs is not shorter than the training of "
            f"{epochs}; {usual} would be a twentieth of it"
        )
        return checked
    schedule = schedule_of_training(
        text,
        epochs=epochs,
        updates_per_epoch=updates_per_epoch or 1,
        per=per,
        warmup=warmup,
        custom=custom,
    )
    checked.schedule(schedule.family.name, schedule, epochs, updates_per_epoch)
    return checked


def _of_a_run(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in RunSettings.model_fields}


def _of_length(task: Problem, epochs: int | None) -> Problem:
    return task if epochs is None else task.trained_for(epochs)


def _study(settings: RunSettings) -> Checked:
    task = prepared_task(load_task(settings.task), settings)
    checked = _task(task)
    if settings.groups is not None:
        per_epoch, per = task.data().updates_per_epoch, settings.per or task.per
        length = {"epochs": task.epochs, "updates_per_epoch": per_epoch}
        usual = schedule_of_training(GROUPS, **length, per=per, custom=task.schedules)
        checked.schedule(GROUPS, usual, task.epochs, per_epoch)
    if settings.warmup != "search" and settings.warmup >= task.epochs:
        checked.found.append(
            f"warmup: {settings.warmup:g} epochs are not shorter than the training of "
            f"{task.epochs}; {max(1, task.epochs // 20)} would be a twentieth of it"
        )
    if settings.lr_range is not None and task.baseline is not None:
        low, high = settings.lr_range
        if not low * 1.05 < task.baseline.lr < high / 1.05:
            checked.found.append(
                f"lr_range: the lr in use today, {task.baseline.lr:g}, is at the edge of "
                f"{low:g} to {high:g}, or outside; {min(low, task.baseline.lr / 10):g} to "
                f"{max(high, task.baseline.lr * 10):g} has it inside"
            )
    return checked


def _task(task: Problem) -> Checked:
    checked = Checked()
    if task.baseline is None:
        checked.looked_at.append(f"{task.name}: it has no baseline to look at")
    else:
        recipe = task.baseline.recipe
        per_epoch = task.data().updates_per_epoch
        checked.schedule("baseline", recipe.schedule, task.epochs, per_epoch, recipe.lr)
    return checked


def _folder(run: Run) -> Checked:
    checked = Checked()
    record = run.record
    if not isinstance(record, RunSummary):
        suggestion = record.suggestion
        if suggestion is not None:
            checked.looked_at.append(f"range test: {suggestion.schedule}")
            checked.found += [f"{suggestion.schedule}: {said}" for said in suggestion.problems]
        return checked
    per_epoch = None if record.range_test is None else record.range_test.updates_per_epoch
    for name, facts in record.families.items():
        schedule = _read_back(name, facts, run.settings.per or "epoch")
        if schedule is None or (schedule.stepped_per == "batch" and per_epoch is None):
            checked.looked_at.append(f"{name}: {facts.schedule}, not checked: that needs its task")
        else:
            checked.schedule(name, schedule, record.epochs, per_epoch, facts.lr)
        if facts.at_lr_bound is not None:
            low, high = (record.lr_search.ranges if record.lr_search else {})[name]
            bound = low if facts.at_lr_bound == "low" else high
            farther = bound * _AT_BOUND[facts.at_lr_bound]
            checked.found.append(
                f"{name}: its best lr {facts.lr:.3g} is at the edge of {low:.3g} to {high:.3g}; "
                f"search on to {farther:.2g} (--lr-range)"
            )
    checked.found += [note for note in record.notes if note.startswith("the baseline's schedule")]
    return checked


def _read_back(name: str, facts: FamilyFacts, per: Per) -> Schedule | None:
    """The schedule of a candidate; None where its family is the user's own."""
    kind = FAMILIES.get("cosine" if name == START else name)
    if kind is None:
        return None
    ramp = re.match(r"warmup (\d+) \+ ", facts.schedule)
    try:
        return Schedule(kind, facts.params, per, int(ramp[1]) if ramp else 0)
    except LRFinderError:
        return None
