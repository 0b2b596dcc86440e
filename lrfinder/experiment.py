"""What a run works on: the task with its options resolved and checked, before it is trained."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lrfinder.comparison.candidates import BASELINE, CONSTANT, START, Candidate
from lrfinder.comparison.policy import RUNS_PER_CANDIDATE, Halving
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.lengths import Lengths, lengths
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.schedules import DEFAULT_FAMILIES, Family, Schedule, family
from lrfinder.schedules.groups import NAME as GROUPS
from lrfinder.schedules.spec import schedule_of_training
from lrfinder.settings import FindSettings, RangeTestSettings, RunSettings
from lrfinder.tasks.baseline import read_baseline
from lrfinder.tasks.group_rules import family_of_rules
from lrfinder.tasks.loading import load_named
from lrfinder.tasks.measures import evaluated, measure_name
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.task import Task
from lrfinder.tasks.update_rows import with_update_rows
from lrfinder.training.memory import check_memory
from lrfinder.training.rehearsal import rehearse
from lrfinder.training.speed import Work
from lrfinder.tuning import lr_ranges
from lrfinder.tuning.shares import total
from lrfinder.tuning.space import Space
from lrfinder.tuning.trials import count_of_second_seeds, overhead, second_looks
from lrfinder.types import Direction

SEEDS_PER_ACT = 1000
_SEEDS_PER_SEED = 3 * SEEDS_PER_ACT
"""A run's seed owns this many training seeds, a third of them for each act."""


def training_seeds(act: str, seed: int, count: int) -> list[int]:
    """Training seeds of one act; those of different acts and run seeds never meet.

    >>> training_seeds("find", 0, 2), training_seeds("confirm", 0, 2), training_seeds("find", 1, 1)
    ([0, 1], [2000, 2001], [3000])
    """
    if count > SEEDS_PER_ACT:
        raise InvalidArgument(f"at most {SEEDS_PER_ACT} seeds can be asked for, but got {count}")
    first = seed * _SEEDS_PER_SEED + ("find", "search", "confirm").index(act) * SEEDS_PER_ACT
    return list(range(first, first + count))


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


class Experiment(RangeTestExperiment):
    """A task with everything that a whole run needs, checked as far as can be without training."""

    def __init__(self, settings: RunSettings, task: Problem | None = None) -> None:
        super().__init__(settings, task)
        self.task = prepared_task(self.task, settings)
        self.measure = measure_name(settings.objective, self.task.measures)
        of_loss = evaluated(self.measure, self.task.measures) == "loss"
        direction = settings.direction or ("minimize" if of_loss else "maximize")
        self.direction: Direction = direction
        self.settings = settings
        self.notes: list[str] = []
        names = list(settings.families or self._default_families())
        if settings.groups is not None and GROUPS not in names:
            names.append(GROUPS)
        usual = {name for name in DEFAULT_FAMILIES if self._why_not(family(name)) is None}
        self.families_named = set(names) - {*self.task.schedules} != usual - {*self.task.schedules}
        """Whether the families are others than the usual ones, so that each is to be tried."""
        compared = dict.fromkeys([CONSTANT, *names])  # shows whether a decay helps at all
        self.families = [family(name, self.task.schedules) for name in compared]
        for name in (START, BASELINE):
            if name in compared:
                raise InvalidArgument(
                    f"no family may be called {name!r}, the name of another candidate; rename it"
                )
        device = self.device or self.task.prototype.device
        resolved = {
            "epochs": self.task.epochs,
            "families": names,
            "direction": direction,
            "per": settings.per or self.task.per,
            "device": device.type,
        }
        self.settings = settings.model_copy(update=resolved)
        self.search_seeds = training_seeds("search", settings.seed, settings.trial_seeds)
        besides = count_of_second_seeds(settings.trials) if settings.trial_seeds == 1 else 0
        self.second_seeds = training_seeds("search", settings.seed, 1 + besides)[1:]
        """Training seeds of the best few trials besides, where each trial has but one."""
        self.confirm_seeds = training_seeds("confirm", settings.seed, SEEDS_PER_ACT)
        """Training seeds of the comparison, which takes as many of them as it needs."""
        self.confirm_runs = self._confirm_runs()
        self.settings = self.settings.model_copy(
            update={"confirm_runs": self.confirm_runs, "confirm_seeds": None}
        )
        self._check_families_fit_budget(self.families)
        self._rehearse_schedules()
        self.notes += self._problems()

    @property
    def training(self) -> Work:
        """The work of one training."""
        return Work(1, self.updates, self.task.epochs + 1)

    @property
    def candidate_names(self) -> list[str]:
        """Names of what the comparison may compare."""
        start = [] if self._start_family is None else [START]
        baseline = [] if self.task.baseline is None else [BASELINE]
        return [*(member.name for member in self.families), *start, *baseline]

    @property
    def halving(self) -> Halving:
        """How many runs the comparison may take, and who is kept in it."""
        return Halving(self.confirm_runs, (CONSTANT, BASELINE))

    def spaces(self, suggestion: Suggestion | None) -> lr_ranges.Ranged:
        """Return each family's search space, and where its lr range comes from."""
        return self._ranged([self._space(member) for member in self.families], suggestion)

    def _ranged(self, spaces: Sequence[Space], suggestion: Suggestion | None) -> lr_ranges.Ranged:
        settings = self.settings
        if settings.lr is not None:
            return lr_ranges.fixed_lr(spaces, settings.lr)
        if settings.lr_range is not None:
            return lr_ranges.given_range(spaces, *settings.lr_range)
        return lr_ranges.from_range_test(spaces, self.task, suggestion)

    def start(self, suggestion: Suggestion | None) -> Candidate | None:
        """The suggested lr under the default cosine, without any search; None without an lr."""
        member, known = self._start_family, suggestion is not None and suggestion.lr is not None
        if member is None or not (known or self.settings.lr is not None):
            return None
        [space], _ = self._ranged([self._space(member)], suggestion)
        schedule = space.default_schedule
        if schedule is None:
            return None
        return Candidate(START, float(f"{space.lr_default:.12g}"), schedule)

    def search_work(self) -> Work:
        """What the studies ask for."""
        trials, searched = self.settings.trials, 1.0 if self.settings.lr is not None else 2.0
        spaces = [replace(self._space(member), lr_high=searched) for member in self.families]
        enumerated = [space.all_trials(trials) for space in spaces]
        points = [None if own is None else len(own) for own in enumerated]
        count = total(points, trials, even=self.settings.even)
        names = [member.name for member in self.families]
        looks = sum(
            second_looks(name, trials if own is None else own, len(self.second_seeds))
            for name, own in zip(names, points, strict=True)
        )
        besides = len(spaces) * overhead(count / len(spaces), self.training.evaluations)
        runs = count * len(self.search_seeds) + looks
        return replace(self.training, runs=runs, overhead=besides)

    def compare_work(self) -> Work:
        """What the comparison asks for."""
        return replace(self.training, runs=self.confirm_runs)

    def _confirm_runs(self) -> int:
        """Runs of the comparison, in all; InvalidArgument where they cannot be made."""
        settings, count = self.settings, len(self.candidate_names)
        runs = settings.confirm_runs or (settings.confirm_seeds or RUNS_PER_CANDIDATE) * count
        if not count <= runs <= SEEDS_PER_ACT * count:
            raise InvalidArgument(
                f"confirm_runs must be from {count}, one for each candidate, to "
                f"{SEEDS_PER_ACT * count}, but got {runs}"
            )
        self._check_memory(runs // count, self.training, self.task.measures)
        return runs

    @property
    def _start_family(self) -> Family | None:
        """The family of the candidate that is not searched; None where there is no such one."""
        if self.settings.lr_range is not None:
            return None
        cosine = family("cosine")
        try:
            self._check_families_fit_budget([cosine])
        except InvalidArgument:
            return None
        return cosine

    def _default_families(self) -> list[str]:
        """Names of the usual families and the task's own; a note for one that cannot decay here."""
        names: list[str] = []
        for name in dict.fromkeys([*DEFAULT_FAMILIES, *self.task.schedules]):
            why_not = self._why_not(family(name, self.task.schedules))
            if why_not is None:
                names.append(name)
            else:
                self.notes.append(f"{name} is left out: {why_not}")
        return names

    def _why_not(self, member: Family) -> InvalidArgument | None:
        """Why a family cannot decay in this budget; None where it can."""
        try:
            self._check_families_fit_budget([member])
        except InvalidArgument as error:
            return error
        return None

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
        """What is probably wrong with the schedules that were given, a note each."""
        length, baseline = (self.task.epochs, self.updates_per_epoch), self.task.baseline
        given = [self._space(member).example for member in self.families if member.by_group]
        found = [f"{own.family.name}: {said}" for own in given for said in own.problems(*length)]
        if baseline is None or baseline.schedule is None:
            return found
        wrong = baseline.schedule.problems(*length, baseline.lr)
        return found + [f"the baseline's schedule {baseline.schedule}: {said}" for said in wrong]

    def _space(self, member: Family) -> Space:
        """The family's space for this budget, at an lr of 1 until its range is known."""
        warmup = self.settings.warmup
        return Space(
            family=member,
            lr_low=1.0,
            lr_high=1.0,
            lr_default=1.0,
            epochs=self.task.epochs,
            updates_per_epoch=self.updates_per_epoch,
            per=self.settings.per or self.task.per,
            warmup_epochs=0.0 if warmup == "search" else warmup,
            warmup_searched=warmup == "search" and member.warmup,
            lowest_lr=self.task.prototype.groups.lowest,
            direction=self.direction,
        )


def prepared_task(task: Problem, settings: RunSettings) -> Problem:
    """Return the task with the run's epochs, rules of groups and baseline."""
    compared = task.valid if isinstance(task, Task) else task.data().valid
    if compared is None:
        what, cure = (
            ("a validation set, but it has none", "give Task(valid=...)")
            if isinstance(task, Task)
            else ("what the loop measures, but it measures nothing", "call training.measure(...)")
        )
        raise InvalidArgument(
            f"{settings.task}: studies compare runs on {what}; {cure}, or use `lrfinder find`"
        )
    if settings.epochs is not None:
        task = task.trained_for(settings.epochs)
    if settings.groups is not None:
        rules = {name: (one.schedule, one.lr_ratio) for name, one in settings.groups.items()}
        own = family_of_rules(rules, task.prototype.groups, task.schedules)
        task = replace(task, schedules={**task.schedules, GROUPS: own})
    if settings.baseline is not None:
        per, length = settings.per or task.per, (task.epochs, task.data().updates_per_epoch)
        today = read_baseline(settings.baseline, per, task.schedules, length)
        task = replace(task, baseline=today)
    return task


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
