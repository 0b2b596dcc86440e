"""A study in Optuna's storage: trials that have ended, and what is in training.

A trial is written once, when it has ended, in one transaction: asking and reporting step by step
costs twice as much on SQLite. What is in training stands in an attribute of the study, written once
per round, so that a process that is killed loses nothing that was asked.
"""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from lrfinder.errors import InvalidArgument
from lrfinder.tuning.storages.facts import asked_params
from lrfinder.types import Direction

_IN_TRAINING = "in training"
_RETRY_OF = "retry_of"
_ENQUEUED = "enqueued"
_AGAIN = "on another seed"


class StoredStudy:
    """One family's study in the storage; one process at a time may have it."""

    def __init__(
        self, storage: optuna.storages.BaseStorage, name: str, direction: Direction, metric: str
    ) -> None:
        self._study = optuna.create_study(
            study_name=name, storage=storage, direction=direction, load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([metric])
        self.name = name
        self.trials: list[FrozenTrial] = []
        """Trials that ended; `settle` reads what was there before."""

    def refuse_other_conditions(self, wanted: dict[str, Any]) -> None:
        """Raise InvalidArgument where the study was made under other conditions."""
        made = self._study.user_attrs.get("conditions")
        if made is None:
            self._study.set_user_attr("conditions", wanted)
            return
        for name, value in wanted.items():
            if made.get(name, value) != value:  # an older study has fewer
                raise InvalidArgument(
                    f"study {self.name!r} exists and was made with {name} {made[name]}, "
                    f"but got {value}; make the task what it was, or give another name or storage"
                )

    def settle(self) -> None:
        """Read the trials; those that a dead process was training have failed.

        One that somebody enqueued ends as FAIL too, since only a new trial can be written as a
        whole, and is asked again; it does not count as failed.
        """
        for _ in self._study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            self._study.ask().set_user_attr(_ENQUEUED, True)
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self._study.tell(trial.number, state=TrialState.FAIL)
        self.trials = self._study.get_trials(deepcopy=False)
        left: dict[str, Any] | None = self._study.user_attrs.get(_IN_TRAINING)
        if left is None:
            return
        ended = [asked_params(trial) for trial in self.trials[left["after"] :]]
        for asked in left["trials"]:
            if asked["params"] in ended:
                ended.remove(asked["params"])
            else:
                attrs = {key: value for key, value in asked.items() if key == _RETRY_OF}
                fixed = {"fixed_params": asked["params"]}
                failed = TrialState.FAIL
                self.add(create_trial(state=failed, user_attrs=attrs, system_attrs=fixed))
        self.trains([])

    def trains(self, trials: Sequence[FrozenTrial]) -> None:
        """Write down what is in training from now on, instead of what was before."""
        asked: list[dict[str, Any]] = []
        for trial in trials:
            retried = {k: v for k, v in trial.user_attrs.items() if k == _RETRY_OF}
            asked.append({"params": asked_params(trial), **retried})
        state = {"after": len(self.trials), "trials": asked} if asked else None
        if self._study.user_attrs.get(_IN_TRAINING) != state:
            self._study.set_user_attr(_IN_TRAINING, state)

    def add(self, ended: FrozenTrial) -> FrozenTrial:
        """Write a trial that ended, as the next of the study, and return it with its number."""
        self._study.add_trial(ended)
        numbered = copy(ended)
        numbered.number = len(self.trials)
        self.trials.append(numbered)
        return numbered

    def look_again(self, number: int, facts: Mapping[str, Any]) -> None:
        """Write what a trial came to on other seeds; a trial that ended takes no attribute."""
        self._study.set_user_attr(_AGAIN, {**self.again, str(number): dict(facts)})

    @property
    def again(self) -> dict[str, dict[str, Any]]:
        """What trials came to on other seeds, by their number."""
        return dict(self._study.user_attrs.get(_AGAIN, {}))

    @property
    def next_number(self) -> int:
        """Number of the trial that is added next."""
        return len(self.trials)

    @property
    def failed(self) -> int:
        """Trials that were interrupted or whose task raised."""
        return sum(
            trial.state == TrialState.FAIL and _ENQUEUED not in trial.user_attrs
            for trial in self.trials
        )

    def owed(self) -> list[FrozenTrial]:
        """Failed trials that were not asked again."""
        retried = {trial.user_attrs.get(_RETRY_OF) for trial in self.trials}
        failed = [trial for trial in self.trials if trial.state == TrialState.FAIL]
        return [trial for trial in failed if trial.number not in retried]


def retry_of(trial: FrozenTrial) -> dict[str, Any]:
    """User attributes of the trial that takes the place of this one, which failed."""
    return {_RETRY_OF: trial.number}
