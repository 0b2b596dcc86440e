"""A range test, alone or of a run: its task, where it is trained, and how long it takes."""

from collections.abc import Sequence

import torch

from lrfinder.comparison.candidates import BASELINE
from lrfinder.errors import InvalidArgument
from lrfinder.experiment.seeds import training_seeds
from lrfinder.range_tests.lengths import Lengths, lengths
from lrfinder.schedules import Schedule
from lrfinder.schedules.spec import schedule_of_training
from lrfinder.settings import FindSettings, RangeTestSettings
from lrfinder.tasks.loading import load_named
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.update_rows import with_update_rows
from lrfinder.training.records.memory import check_memory
from lrfinder.training.rehearsal import rehearse
from lrfinder.training.speed import Work


class RangeTestExperiment:
    """A task, where it is trained, and the seeds of a range test.

    `task` is given where it is an object of the caller's; else the settings name it.
    """

    def __init__(self, settings: RangeTestSettings, task: Problem | None = None) -> None:
        self.reference: TaskReference | None = None
        """What the task was loaded from; None for an object, which no name brings back."""
        if task is None:
            task, self.reference = load_named(settings.task)
        self.task: Problem = task
        self.device = device_of(settings.device)
        """Where it is trained; None leaves the model where its factory puts it."""
        self.find_seeds = training_seeds("find", settings.seed, settings.find_seeds)
        self.find_settings = settings
        self._check_memory(len(self.find_seeds), self.find_work(), self.task.means)

    @property
    def updates_per_epoch(self) -> int:
        """Updates of one epoch."""
        return self.task.data(self.device).updates_per_epoch

    def find_work(self) -> Work:
        """What the range test asks for, at most: a sweep and its probes per seed."""
        runs = len(self.find_seeds) * (1 + self.find_lengths.probes)
        return Work(runs, -(-self.find_updates // runs), self.find_lengths.steps + 1)

    @property
    def find_updates(self) -> int:
        """Updates of the range test, at most."""
        return len(self.find_seeds) * self.find_lengths.updates

    @property
    def find_lengths(self) -> Lengths:
        """Of each seed of the range test."""
        settings, per_epoch = self.find_settings, self.updates_per_epoch
        return lengths(
            settings.steps,
            settings.every,
            settings.probes,
            per_epoch,
            self.updates,
            cost=settings.cost,
            seeds=len(self.find_seeds),
        )

    @property
    def updates(self) -> int:
        """Updates of one training."""
        return self.task.epochs * self.updates_per_epoch

    def _check_memory(self, runs: int, work: Work, measures: Sequence[str]) -> None:
        """Raise InvalidArgument where the records of so many runs at once cannot be held."""
        check_memory(runs, work.updates, work.evaluations, len(measures))


class FindExperiment(RangeTestExperiment):
    """A range test alone: a task at the length that is asked for, and what the lr is for."""

    def __init__(self, settings: FindSettings, task: Problem | None = None) -> None:
        reference = None
        if task is None:
            task, reference = load_named(settings.task)
        if isinstance(settings.epochs, int):
            task = task.trained_for(settings.epochs)
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
            per=settings.per or task.per,
            warmup=settings.warmup,
            custom=task.schedules,
        )


def device_of(name: str) -> torch.device | None:
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
