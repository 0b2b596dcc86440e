"""One family's study: ask, tell, and what must not be lost in between.

Every trial ends COMPLETE with a finite value: a diverged run counts what it had before training and
is marked ``diverged``. FAIL means that the task raised or that the run was interrupted; such trials
are asked again when the study is resumed. Nothing is pruned: an early-decaying schedule looks best
early and ends worst.

The sampler works on a study in memory, which holds what the storage holds and the trials in
training; a trial goes to the storage when it has ended.
"""

import math
import time
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from lrfinder.schedules.recipe import Recipe
from lrfinder.tasks.fields.measures import evaluated, measure_column
from lrfinder.tasks.state.random_states import derive
from lrfinder.tasks.user_code import user_code
from lrfinder.training.records.history import History
from lrfinder.tuning.interrupts import deferred
from lrfinder.tuning.samplers import FINE, lacking, next_lr, scouted
from lrfinder.tuning.second_looks import SecondLook
from lrfinder.tuning.shares import Scouting, Told, rank
from lrfinder.tuning.space import Space, asked_now
from lrfinder.tuning.storages.facts import (
    asked_params,
    counts,
    is_own,
    reported_epochs,
    rounded,
    trial_facts,
)
from lrfinder.tuning.storages.storage import study_name
from lrfinder.tuning.storages.stored import StoredStudy, retry_of
from lrfinder.tuning.trials import Conditions, FamilyResult, TrialResult


@dataclass
class PendingTrial:
    """A trial in training."""

    study: "FamilyStudy"
    trial: optuna.Trial
    recipe: Recipe
    runs: list[History] = field(default_factory=list[History])
    """One per training seed, as they finish."""
    ended: bool = False
    """Whether it was told or failed."""

    def record_run(self, run: History) -> None:
        """Take the run of one seed; the last one completes the trial."""
        self.runs.append(run)
        if len(self.runs) == self.study.runs_per_trial:
            with deferred():
                self.study.tell(self)


class FamilyStudy:
    """One family's study."""

    def __init__(
        self,
        conditions: Conditions,
        space: Space,
        storage: optuna.storages.BaseStorage,
        prefix: str,
    ) -> None:
        self._conditions, self._space = conditions, space
        name, metric = study_name(prefix, space.family.name), measure_column(conditions.measure)
        self._stored = StoredStudy(storage, name, space.direction, metric)
        self._stored.refuse_other_conditions(conditions.recorded(space))
        self._stored.settle()
        self._points = space.all_trials(conditions.trials)
        self._first = space.first_trials()
        self._startup = len(self._first) if len(self._first) > 2 else max(4, conditions.trials // 4)
        self.goal = 0
        """Trials that are to be complete."""
        self.scouts_with = 0
        """Trials that look for the lr of all families at most; 0 where it is not the scout."""
        self._begun = False
        existing = self._stored.next_number
        seed = derive(conditions.seed, space.family.name, existing)
        sampler = conditions.sampler(space, self._startup, seed)
        self._study = optuna.create_study(
            study_name=name, direction=space.direction, sampler=sampler
        )
        self._study.add_trials([t for t in self._stored.trials if counts(t)])
        self._enqueue_failed()

    @property
    def family(self) -> str:
        """Name of the family."""
        return self._space.family.name

    @property
    def runs_per_trial(self) -> int:
        """Runs of each trial: one per training seed."""
        return len(self._conditions.seeds)

    @property
    def missing(self) -> int:
        """Trials that are still to be completed; points, where the space is enumerated."""
        complete = self.complete
        if self._points is None:
            return max(0, self.goal - len(complete))
        done = [asked_params(trial) for trial in complete]
        return sum(point not in done for point in self._points)

    @property
    def told(self) -> Told:
        """What its trials have told so far."""
        space, results = self._space, self._results
        return Told(
            values=tuple(value for value, _ in results),
            points=None if self._points is None else len(self._points),
            lacks=lacking(results, space.lr_low, space.lr_high, FINE)
            if space.family.name == "constant" and space.only_lr
            else None,
            rank=rank(space.family.name),
        )

    @property
    def _results(self) -> list[tuple[float, float]]:
        """(value, lr) of the trials that are complete, lower being better."""
        sign = 1 if self._space.direction == "minimize" else -1
        return [
            (math.inf if t.user_attrs["diverged"] else sign * float(t.values[0]), t.params["lr"])
            for t in self.complete
        ]

    @property
    def can_scout(self) -> bool:
        """Whether it can look for the lr: it has defaults and a range, and is not the constant."""
        space = self._space
        decays = self._points is None and space.family.name != "constant"
        return decays and space.lr_low < space.lr_high and space.default_schedule is not None

    def scouting(self, *, over: bool) -> Scouting:
        """How it stands with looking for the lr; `over` where what it has must do."""
        made, at_first = len(self.complete), min(len(self._first), self.scouts_with)
        took = self._took()
        if took is None and not over:
            return Scouting(max(at_first, made + 1), ended=False)
        return Scouting(took or max(1, min(made, at_first)), ended=True)

    def _took(self) -> int | None:
        low, high = self._space.lr_low, self._space.lr_high
        return scouted(self._results, len(self._first), self.scouts_with, low, high)

    def found_lr(self, trials: int) -> float:
        """The best lr of the first so many trials, over the one that was suggested for it."""
        results = self._results[:trials]
        return min(results)[1] / self._space.lr_default if results else 1.0

    def begin(self, factor: float = 1.0) -> None:
        """Queue what is tried first, at so many times the suggested lr."""
        if not self._begun:
            self._begun = True
            self._first = self._space.moved(factor).first_trials()
            self._enqueue_first()

    def goes_on(self, deadline: float) -> bool:
        """Whether another trial is to be asked; every family gets one, whatever the deadline."""
        in_time = time.monotonic() < deadline
        with deferred():
            return self.missing > 0 and (in_time or not self.complete)

    def wanted(self, share: float) -> int:
        """Trials to ask for now: this share, or all that are drawn before any result is used."""
        with deferred():
            enumerated = self.missing if self._points is not None else 0
            unguided = max(enumerated, self._startup - len(self.complete))
            asked = round(share * max(self.goal, self._conditions.trials))
            return min(self.missing, max(1, asked, unguided))

    def ask(self, count: int) -> list[PendingTrial]:
        """Ask for trials, which are in training until each is told or failed."""
        asked: list[PendingTrial] = []
        try:
            self._enqueue_scout()
            for _ in range(count):
                with deferred():
                    asked.append(self._asked(self._study.ask()))
            with deferred():
                running = [TrialState.RUNNING]
                self._stored.trains(self._study.get_trials(deepcopy=False, states=running))
        except BaseException:
            with deferred():
                for one in asked:
                    self.fail(one)
            raise
        return asked

    def _asked(self, trial: optuna.Trial) -> PendingTrial:
        try:
            with user_code("asking for a schedule's parameters"):
                return PendingTrial(self, trial, Recipe(*self._space.ask(trial)))
        except BaseException:
            self._stored.add(self._study.tell(trial, state=TrialState.FAIL))
            raise

    def fail(self, asked: PendingTrial) -> None:
        """End a trial that was not trained to its end, if it has not been told."""
        if not asked.ended:
            failed = TrialState.FAIL
            self._stored.add(self._study.tell(asked.trial, state=failed, skip_if_finished=True))
            asked.ended = True

    def tell(self, asked: PendingTrial) -> None:
        """Store what a trial's runs came to."""
        shared, trial = self._conditions, asked.trial
        history = History.joined(asked.runs)
        watched = evaluated(shared.measure, history.measures)
        values = history.measures[watched].mean(axis=0)
        for epoch in reported_epochs(len(values)):
            if np.isfinite(values[epoch]):
                trial.report(rounded(values[epoch]), epoch)
        outcomes = history.outcomes(shared.measure, self._space.direction)
        trial.set_user_attr("tried", str(asked.recipe))
        for name, value in trial_facts(history, outcomes, measure_column(shared.measure)).items():
            trial.set_user_attr(name, value)
        if shared.trial_done is not None:
            shared.trial_done(self._space.family.name, self._stored.next_number, history)
        value = rounded(np.mean([outcome.value for outcome in outcomes]))
        self._stored.add(self._study.tell(trial, value))
        asked.ended = True

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials that ended with a value; those that somebody put into the study are left out."""
        ended = [trial for trial in self._stored.trials if trial.state == TrialState.COMPLETE]
        return [trial for trial in ended if is_own(trial)]

    def _enqueue_scout(self) -> None:
        """Queue the defaults at the next lr, where those that are tried first did not do."""
        made = self._results
        if not len(self._first) <= len(made) < self.scouts_with or self._took() is not None:
            return
        lr = next_lr(made, [], self._space.lr_low, self._space.lr_high)
        if lr is not None:
            self._study.enqueue_trial({**self._first[0], "lr": lr}, skip_if_exists=True)

    def _enqueue_failed(self) -> None:
        """Queue failed trials."""
        for failed in self._stored.owed():
            self._study.enqueue_trial(asked_params(failed), user_attrs=retry_of(failed))

    def _enqueue_first(self) -> None:
        """Queue what is tried first or every point of a small space."""
        if self._points is None:
            for params in self._first:
                self._study.enqueue_trial(params, skip_if_exists=True)
            return
        asked = [asked_params(trial) for trial in self._study.get_trials(deepcopy=False)]
        for point in sorted(self._points, key=lambda point: point not in self._first):
            if point not in asked:
                self._study.enqueue_trial(point)

    def result(self) -> FamilyResult:
        """Everything the study holds, when nothing is in training."""
        self._stored.trains([])
        complete = self.complete
        states = [trial.state for trial in self._stored.trials]
        return FamilyResult(
            space=self._space,
            study_name=self._stored.name,
            trials=tuple(self._trial_result(trial) for trial in complete),
            failed=self._stored.failed,
            by_hand=states.count(TrialState.COMPLETE) - len(complete),
            exhausted=self._points is not None and not self.missing,
        )

    def look_again(self, number: int, history: History) -> None:
        """Store what a trial came to on other seeds."""
        shared = self._conditions
        outcomes = history.outcomes(shared.measure, self._space.direction)
        before = self._stored.again.get(str(number))
        seeds = [] if before is None else list(before["seeds"])
        made = SecondLook((), (), 0) if before is None else SecondLook.read(before)
        look = made.extended(outcomes, history.updates_trained)
        with deferred():
            if shared.trial_done is not None:
                shared.trial_done(self._space.family.name, number, history)
            own = [plan.seed for plan in history.plans]
            self._stored.look_again(number, look.facts([*seeds, *own]))

    @property
    def second_looks(self) -> int:
        """Runs of trials on other seeds."""
        return sum(len(look["seeds"]) for look in self._stored.again.values())

    def _trial_result(self, trial: FrozenTrial) -> TrialResult:
        again = self._stored.again.get(str(trial.number))
        searched = {k: v for k, v in trial.params.items() if k not in ("lr", "schedule")}
        return TrialResult(
            number=trial.number,
            recipe=Recipe(*self._space.ask(FixedTrial(asked_now(trial.params)))),
            params=searched,
            value=float(trial.values[0]),
            diverged=bool(trial.user_attrs["diverged"]),
            updates=int(trial.user_attrs["updates"]),
            again=None if again is None else SecondLook.read(again),
        )
