"""A whole run: what its studies search, its comparison compares, and how much both train."""

from collections.abc import Sequence
from dataclasses import replace

from lrfinder.comparison.candidates import BASELINE, CONSTANT, START, Candidate
from lrfinder.comparison.policy import RUNS_PER_CANDIDATE, Halving
from lrfinder.errors import InvalidArgument
from lrfinder.experiment.range_tests import RangeTestExperiment
from lrfinder.experiment.seeds import SEEDS_PER_ACT, training_seeds
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.schedules import DEFAULT_FAMILIES, Family, family
from lrfinder.schedules.groups import NAME as GROUPS
from lrfinder.settings import RunSettings
from lrfinder.tasks.fields.baseline import read_baseline
from lrfinder.tasks.fields.group_rules import family_of_rules
from lrfinder.tasks.fields.measures import evaluated, measure_name
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.task import Task
from lrfinder.training.rehearsal import rehearse
from lrfinder.training.speed import Work
from lrfinder.tuning import lr_ranges
from lrfinder.tuning.second_looks import count_of_second_seeds, second_looks
from lrfinder.tuning.shares import total
from lrfinder.tuning.space import Space
from lrfinder.tuning.storages.facts import overhead
from lrfinder.types import Direction


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
