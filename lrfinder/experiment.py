"""What a run works on: the task with its options resolved and checked, before it is trained."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lrfinder.comparison.candidates import BASELINE
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.defaults import STEPS
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.range_tests.trainings import lengths
from lrfinder.schedules import DEFAULT_FAMILIES, Family, Schedule, family
from lrfinder.schedules.spec import FORM, read_parts, schedule_of_training
from lrfinder.settings import FindSettings, RangeTestSettings, RunSettings
from lrfinder.tasks.loading import load_named
from lrfinder.tasks.measures import measure_name
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.task import Baseline, Task
from lrfinder.tasks.update_rows import with_update_rows
from lrfinder.training.memory import check_memory
from lrfinder.training.rehearsal import rehearse
from lrfinder.training.speed import Work
from lrfinder.tuning import lr_ranges
from lrfinder.tuning.space import Space
from lrfinder.tuning.trials import overhead
from lrfinder.types import Direction, Per

_SEEDS_PER_SEED = 3000
"""A run's seed owns this many training seeds, a third of them for each act."""


def training_seeds(act: str, seed: int, count: int) -> list[int]:
    """Training seeds of one act; those of different acts and run seeds never meet.

    >>> training_seeds("find", 0, 2), training_seeds("confirm", 0, 2), training_seeds("find", 1, 1)
    ([0, 1], [2000, 2001], [3000])
    """
    third = _SEEDS_PER_SEED // 3
    if count > third:
        raise InvalidArgument(f"at most {third} seeds can be asked for, but got {count}")
    first = seed * _SEEDS_PER_SEED + ("find", "search", "confirm").index(act) * third
    return list(range(first, first + count))


class RangeTestExperiment:
    """A task, where it is trained, and the seeds of a range test.

    `task` is given where it is an object of the caller's; else the settings name it.
    """

    def __init__(self, settings: RangeTestSettings, task: Task | None = None) -> None:
        self.reference: TaskReference | None = None
        """What the task was loaded from; None for an object, which no name brings back."""
        if task is None:
            task, self.reference = load_named(settings.task)
        self.task: Task = task
        self.device = _device(settings.device)
        """Where it is trained; None leaves the model where its factory puts it."""
        self.find_seeds = training_seeds("find", settings.seed, settings.find_seeds)
        self.find_settings = settings
        self._check_memory(len(self.find_seeds), self.find_work())

    @property
    def updates_per_epoch(self) -> int:
        """Updates of one epoch."""
        return self.task.data(self.device).updates_per_epoch

    def find_work(self) -> Work:
        """What the range test asks for, at most: a sweep and its probes per seed."""
        settings = self.find_settings
        runs = len(self.find_seeds) * (1 + settings.probes)
        steps = settings.steps or STEPS[settings.every]
        return Work(runs, -(-self.find_updates // runs), steps + 1)

    @property
    def find_updates(self) -> int:
        """Updates of the range test, at most."""
        settings, per_epoch = self.find_settings, self.updates_per_epoch
        budget = self.task.epochs * per_epoch
        sweep, probe = lengths(settings.steps, settings.every, per_epoch, budget)
        return len(self.find_seeds) * (sweep + settings.probes * probe)

    def _check_memory(self, runs: int, work: Work) -> None:
        """Raise InvalidArgument where the records of so many runs at once cannot be held."""
        check_memory(runs, work.updates, work.evaluations, len(self.task.measures))


class FindExperiment(RangeTestExperiment):
    """A range test alone: a task at the length that is asked for, and what the lr is for."""

    def __init__(self, settings: FindSettings, task: Task | None = None) -> None:
        reference = None
        if task is None:
            task, reference = load_named(settings.task)
        if isinstance(settings.epochs, int):
            task = replace(task, epochs=settings.epochs)
        if settings.batch_sizes is not None:
            task = with_update_rows(task, settings.batch_sizes[0])
        super().__init__(settings, task)
        self.reference = reference
        self.settings = settings
        self.schedule = self._schedule()
        """What the lr is for; None for a constant one."""
        if self.schedule is not None:
            rehearse(task, self.schedule, task.epochs, self.updates_per_epoch, "minimize")

    def _schedule(self) -> Schedule | None:
        """The schedule that was asked for, over the task's epochs."""
        settings, task = self.settings, self.task
        if settings.schedule is None and not settings.warmup:
            return None
        if settings.schedule == BASELINE:
            if task.baseline is None:
                raise InvalidArgument(
                    f"schedule {BASELINE} is the one of Task(baseline=...), but the task has none"
                )
            return task.baseline.recipe.schedule
        return schedule_of_training(
            settings.schedule or "constant",
            epochs=task.epochs,
            updates_per_epoch=self.updates_per_epoch,
            per=settings.per,
            warmup=settings.warmup,
            custom=task.schedules,
        )


class Experiment(RangeTestExperiment):
    """A task with everything that a whole run needs, checked as far as can be without training."""

    def __init__(self, settings: RunSettings, task: Task | None = None) -> None:
        super().__init__(settings, task)
        self.task = prepared_task(self.task, settings)
        self._check_memory(settings.confirm_seeds, self.training)
        self.measure = measure_name(settings.objective, self.task.measures)
        direction = settings.direction or ("minimize" if self.measure == "loss" else "maximize")
        self.direction: Direction = direction
        self.settings = settings
        self.notes: list[str] = []
        names = settings.families or self._default_families()
        compared = dict.fromkeys(["constant", *names])  # shows whether a decay helps at all
        self.families = [family(name, self.task.schedules) for name in compared]
        device = self.device or self.task.prototype.device
        resolved = {
            "epochs": self.task.epochs,
            "families": names,
            "direction": direction,
            "device": device.type,
        }
        self.settings = settings.model_copy(update=resolved)
        self.search_seeds = training_seeds("search", settings.seed, settings.trial_seeds)
        self.confirm_seeds = training_seeds("confirm", settings.seed, settings.confirm_seeds)
        self._check_families_fit_budget(self.families)
        self._rehearse_schedules()
        self.notes += self._problems()

    @property
    def updates(self) -> int:
        """Updates of one training."""
        return self.task.epochs * self.updates_per_epoch

    @property
    def training(self) -> Work:
        """The work of one training."""
        return Work(1, self.updates, self.task.epochs + 1)

    @property
    def candidate_names(self) -> list[str]:
        """Names of what the comparison may compare."""
        baseline = [] if self.task.baseline is None else [BASELINE]
        return [*(member.name for member in self.families), *baseline]

    def spaces(self, suggestion: Suggestion | None) -> lr_ranges.Ranged:
        """Return each family's search space, and where its lr range comes from."""
        settings, spaces = self.settings, [self._space(member) for member in self.families]
        if settings.lr is not None:
            return lr_ranges.fixed_lr(spaces, settings.lr)
        if settings.lr_range is not None:
            return lr_ranges.given_range(spaces, *settings.lr_range)
        return lr_ranges.from_range_test(spaces, self.task, suggestion)

    def search_work(self) -> Work:
        """What the studies ask for."""
        trials, searched = self.settings.trials, 1.0 if self.settings.lr is not None else 2.0
        count, besides = 0, 0.0
        for member in self.families:
            points = replace(self._space(member), lr_high=searched).all_trials(trials)
            own = trials if points is None else len(points)
            count, besides = count + own, besides + overhead(own, self.training.evaluations)
        return replace(self.training, runs=count * len(self.search_seeds), overhead=besides)

    def compare_work(self) -> Work:
        """What the comparison asks for."""
        return replace(self.training, runs=len(self.candidate_names) * len(self.confirm_seeds))

    def _default_families(self) -> list[str]:
        """Names of the usual families and the task's own; a note for one that cannot decay here."""
        names: list[str] = []
        for name in dict.fromkeys([*DEFAULT_FAMILIES, *self.task.schedules]):
            try:
                self._check_families_fit_budget([family(name, self.task.schedules)])
                names.append(name)
            except InvalidArgument as error:
                self.notes.append(f"{name} is left out: {error}")
        return names

    def _check_families_fit_budget(self, families: Sequence[Family]) -> None:
        """Raise InvalidArgument for a family that cannot decay in this budget."""
        for member in families:
            self._space(member).check_budget()

    def _rehearse_schedules(self) -> None:
        """Go through one schedule of every family, and the baseline's, before anything trains."""
        schedules = [self._space(member).example for member in self.families]
        if self.task.baseline is not None:
            schedules.append(self.task.baseline.recipe.schedule)
        for schedule in schedules:
            rehearse(self.task, schedule, self.task.epochs, self.updates_per_epoch, self.direction)

    def _problems(self) -> list[str]:
        """What is probably wrong with the schedule in use today, a note each."""
        baseline = self.task.baseline
        if baseline is None or baseline.schedule is None:
            return []
        found = baseline.schedule.problems(self.task.epochs, self.updates_per_epoch, baseline.lr)
        return [f"the baseline's schedule {baseline.schedule}: {said}" for said in found]

    def _space(self, member: Family) -> Space:
        """The family's space for this budget, at an lr of 1 until its range is known."""
        return Space(
            family=member,
            lr_low=1.0,
            lr_high=1.0,
            lr_default=1.0,
            epochs=self.task.epochs,
            updates_per_epoch=self.updates_per_epoch,
            per=self.settings.per,
            warmup_epochs=self.settings.warmup,
            lowest_lr=self.task.prototype.groups.lowest,
            direction=self.direction,
        )


def prepared_task(task: Task, settings: RunSettings) -> Task:
    """Return the task with the run's epochs and baseline."""
    if task.valid is None:
        raise InvalidArgument(
            f"{settings.task}: studies compare runs on a validation set, but it has none; "
            "give Task(valid=...), or use `lrfinder find`"
        )
    if settings.epochs is not None:
        task = replace(task, epochs=settings.epochs)
    if settings.baseline is not None:
        task = replace(task, baseline=_read_baseline(settings.baseline, settings.per, task))
    return task


def _read_baseline(text: str, per: Per, task: Task) -> Baseline:
    """Read "0.1" or "0.1,step,step_size=30,gamma=0.1"."""
    lr, _, schedule = text.partition(",")
    try:
        number = float(lr)
    except ValueError as error:
        raise InvalidArgument(
            f"baseline must look like 0.1 or 0.1,{FORM}, but got {text!r}"
        ) from error
    if not schedule:
        return Baseline(number)
    return Baseline(number, Schedule(*read_parts(schedule, task.schedules), per))


def _device(name: str) -> torch.device | None:
    """Return the device asked for; "auto" takes an accelerator where there is one."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise InvalidArgument(f"device {name!r} is not available; use --device cpu")
    return torch.device(name)
