"""What a run works on: the task with its options resolved and checked, before it is trained."""

import math
from dataclasses import replace

import optuna
import torch

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import STEPS
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.schedules import DEFAULT_FAMILIES, Family, Schedule, Value, family
from lrfinder.settings import RangeTestSettings, RunSettings
from lrfinder.tasks.loading import load_task
from lrfinder.tasks.measures import measure_name
from lrfinder.tasks.task import Baseline, Task
from lrfinder.training.speed import Work
from lrfinder.tuning.lr_ranges import ABOVE, BELOW, usual_lr
from lrfinder.tuning.space import Space
from lrfinder.tuning.storage import open_storage
from lrfinder.tuning.study import study_name
from lrfinder.types import Direction

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


class RangeTestProblem:
    """A task, where it is trained, and the seeds of a range test."""

    def __init__(self, settings: RangeTestSettings) -> None:
        self.task: Task = load_task(settings.task)
        self.device = _device(settings.device)
        """Where it is trained; None leaves the model where its factory puts it."""
        self.find_seeds = training_seeds("find", settings.seed, settings.find_seeds)
        self.find_settings = settings

    @property
    def updates_per_epoch(self) -> int:
        """Updates of one epoch."""
        return self.task.data(self.device).updates_per_epoch

    def find_work(self) -> Work:
        """What the range test asks for, at most: a sweep and its probes per seed."""
        settings = self.find_settings
        steps = settings.steps or STEPS[settings.every]
        per_step = self.updates_per_epoch if settings.every == "epoch" else 1
        runs = len(self.find_seeds) * (1 + settings.probes)
        return Work(runs, steps * per_step, steps + 1)


class RunProblem(RangeTestProblem):
    """A task with everything that a whole run needs, checked as far as can be without training."""

    def __init__(self, settings: RunSettings) -> None:
        super().__init__(settings)
        self.task = prepared_task(settings)
        self.measure = measure_name(settings.objective, self.task.measures)
        direction = settings.direction or ("minimize" if self.measure == "loss" else "maximize")
        self.direction: Direction = direction
        self.settings = settings
        self.notes: list[str] = []
        names = settings.families or self._default_families()
        compared = dict.fromkeys(["constant", *names])  # tells whether a decay helps at all
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
        self.storage = None if settings.storage is None else open_storage(settings.storage)
        for member in self.families:  # one that cannot decay in this budget is told now
            self._space(member, 1.0, 1.0, 1.0).first_trials()

    def _default_families(self) -> list[str]:
        """Names of the usual families and the task's own; a note for one that cannot decay here."""
        names: list[str] = []
        for name in dict.fromkeys([*DEFAULT_FAMILIES, *self.task.schedules]):
            try:
                self._space(family(name, self.task.schedules), 1.0, 1.0, 1.0).first_trials()
                names.append(name)
            except InvalidArgument as error:
                self.notes.append(f"{name} is left out: {error}")
        return names

    @property
    def updates(self) -> int:
        """Updates of one training run."""
        return self.task.epochs * self.updates_per_epoch

    def spaces(self, suggestion: Suggestion | None) -> tuple[list[Space], str]:
        """Return each family's search space, and where its lr range comes from."""
        settings = self.settings
        if settings.lr is not None:
            return self._same_range(settings.lr, settings.lr), f"lr fixed at {settings.lr:g}"
        if settings.lr_range is not None:
            low, high = settings.lr_range
            return self._same_range(low, high), f"lr searched in {low:g} to {high:g}, as asked"
        if suggestion is None or suggestion.lr is None:
            return self._without_suggestion(suggestion)
        spaces = [self._around(member, suggestion) for member in self.families]
        low, high = min(s.lr_low for s in spaces), max(s.lr_high for s in spaces)
        return spaces, f"lr searched around the suggestion, in {low:.2g} to {high:.2g} by family"

    def refuse_existing_studies(self, name: str) -> None:
        """Raise InvalidArgument where the storage has studies of another run of this name."""
        if self.storage is None:
            return
        existing = optuna.get_all_study_names(self.storage)
        taken = {study_name(name, member.name) for member in self.families} & set(existing)
        if taken:
            raise InvalidArgument(
                f"the storage has a study {min(taken)!r} already; give another --out"
            )

    def search_work(self) -> Work:
        """What the studies ask for."""
        trials = self.settings.trials
        count = 0
        for member in self.families:
            lr = self.settings.lr
            space = self._space(member, 1.0, 1.0, 2.0 if lr is None else 1.0)
            points = space.all_trials(trials)
            count += trials if points is None else len(points)
        runs = count * len(self.search_seeds)
        return Work(runs, self.updates, self.task.epochs + 1, count)

    def compare_work(self) -> Work:
        """What the comparison asks for."""
        candidates = len(self.families) + (self.task.baseline is not None)
        return Work(candidates * len(self.confirm_seeds), self.updates, self.task.epochs + 1)

    def _space(self, member: Family, low: float, default: float, high: float) -> Space:
        return Space(
            family=member,
            lr_low=low,
            lr_high=high,
            lr_default=default,
            epochs=self.task.epochs,
            updates_per_epoch=self.updates_per_epoch,
            per=self.settings.per,
            warmup_epochs=self.settings.warmup,
            lr_ratio=min((r for r in self.task.prototype.lr_ratios if r > 0), default=1.0),
            direction=self.direction,
        )

    def _same_range(self, low: float, high: float) -> list[Space]:
        middle = min(max(math.sqrt(low * high), low), high)
        return [self._space(member, low, middle, high) for member in self.families]

    def _around(self, member: Family, suggestion: Suggestion) -> Space:
        """Range around the suggestion, moved to the peak of the family's default schedule."""
        space = self._space(member, 1.0, 1.0, 1.0)
        default, moved = space.default_schedule, suggestion
        if default is not None:
            moved = suggestion.for_schedule(
                default, self.updates, self.updates_per_epoch, self.task.prototype.lr_ratios
            )
        lr = moved.lr or math.nan
        low, high = (moved.low or lr) / BELOW, (moved.high or lr) * ABOVE
        return self._space(member, low, lr, max(lr, min(high, suggestion.diverged_at or math.inf)))

    def _without_suggestion(self, suggestion: Suggestion | None) -> tuple[list[Space], str]:
        edge = None if suggestion is None else suggestion.diverged_at
        if edge is not None:
            why = f"no suggestion: lr searched in two decades below {edge:.2g}, where it diverged"
            return self._same_range(edge / 100, edge), why
        if self.task.baseline is not None:
            lr, whose = self.task.baseline.lr, "the baseline's lr"
        else:
            lr, whose = usual_lr(self.task.prototype.optimizer), "the optimizer's usual lr"
        why = f"no suggestion: lr searched a decade either way of {whose}, {lr:g}"
        return self._same_range(lr / 10, lr * 10), why


def prepared_task(settings: RunSettings) -> Task:
    """Return the task of a run, with the run's epochs and baseline."""
    task = load_task(settings.task)
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


def _read_baseline(text: str, per: str, task: Task) -> Baseline:
    """Read "0.1" or "0.1,step,step_size=30,gamma=0.1"."""
    lr, *rest = (part.strip() for part in text.split(","))
    try:
        number = float(lr)
        params = {k.strip(): _value(v.strip()) for k, v in (part.split("=") for part in rest[1:])}
    except ValueError as error:
        raise InvalidArgument(
            f"baseline must look like 0.1 or 0.1,step,step_size=30,gamma=0.1, but got {text!r}"
        ) from error
    if not rest:
        return Baseline(number)
    stepped = "batch" if per == "batch" else "epoch"
    return Baseline(number, Schedule(family(rest[0], task.schedules), params, stepped))


def _value(text: str) -> Value:
    """Read a parameter as the Python value it looks like."""
    words: dict[str, Value] = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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
        raise InvalidArgument(f"device must be there, but {name!r} is not; use --device cpu")
    return torch.device(name)
