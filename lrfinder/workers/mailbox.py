"""How a run and its workers exchange plans and Histories: by trials of a study, as plain values.

    parent   post ─> WAITING            returned <─ COMPLETE (or FAIL: the task raised, or it died)
    worker          take ─> RUNNING, beats ─> give ─┘

The state of a trial changes in one step in every storage, so that no chunk is taken twice, and what
a dead worker gives after its chunk was posted again is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from lrfinder.errors import TaskFailed
from lrfinder.tasks.problem import Problem
from lrfinder.training.records.history import History, Plan
from lrfinder.training.records.sent import packed, packed_plans, unpacked, unpacked_plans

_PLANS, _WATCH, _BEATS, _RAISED, _HISTORY = "plans", "watch", "beats", "raised", "history"
_WORKER, _ABOUT = "worker ", "run"
_LONGEST = 60_000
"""Characters of an attribute that every database takes."""
_PARAMS = {"holds": "plans"}
_ONE_CHOICE: dict[str, BaseDistribution] = {"holds": CategoricalDistribution(["plans"])}
"""A parameter: the dashboard's page of a study without any is an error."""
_LONGEST_WORDS = 80
"""Characters of what a worker says that it does."""


@dataclass(frozen=True)
class Chunk:
    """Plans that a worker has taken."""

    number: int
    plans: Sequence[Plan]
    watch: str


@dataclass(frozen=True)
class Unended:
    """A chunk that waits or is in training."""

    waits: bool
    beats: object
    """What moves as long as its worker lives; None where it has not begun."""


@dataclass(frozen=True)
class Sign:
    """What a worker shows of itself; it differs from the one before as long as the worker lives."""

    beats: object
    does: str
    """What it does now, such as "trains 8 runs"."""
    chunks: int = 0
    """Chunks that it has returned."""
    left: bool = False
    """Whether it has ended, and said so."""

    @classmethod
    def read(cls, values: object) -> "Sign | None":
        """From values of JSON; None for any other, and for text that no terminal should show."""
        if not isinstance(values, dict):
            return None
        given = cast("dict[str, Any]", values)
        does, chunks = given.get("does"), given.get("chunks")
        if not isinstance(does, str) or not does.isprintable() or not isinstance(chunks, int):
            return None
        return cls(given.get("beats"), does[:_LONGEST_WORDS], chunks, given.get("left") is True)


class Mailbox:
    """The study by which a run and its workers meet."""

    def __init__(self, storage: BaseStorage, study: int) -> None:
        self._storage, self._study = storage, study

    # The parent's side

    def describe(self, about: Mapping[str, Any]) -> None:
        """Say of which run this is, for workers that join; plain values."""
        for key, part in _parts(_ABOUT, about).items():
            self._storage.set_study_user_attr(self._study, key, part)

    def clear(self) -> None:
        """Drop what an earlier parent has posted."""
        for trial in self._trials(TrialState.WAITING, TrialState.RUNNING):
            self._end(self._number(trial))

    def post(self, plans: Sequence[Plan], watch: str) -> int:
        """Let a worker train these plans; returns the number of the chunk."""
        attrs = {**_parts(_PLANS, packed_plans(plans)), _WATCH: watch}
        trial = create_trial(
            state=TrialState.WAITING, user_attrs=attrs, params=_PARAMS, distributions=_ONE_CHOICE
        )
        return self._storage.create_new_trial(self._study, trial)

    def take_back(self, chunk: int) -> bool:
        """Whether nobody had begun a chunk, which is nobody's from now on."""
        return self._set(chunk, TrialState.RUNNING) and self._end(chunk)

    def give_up(self, chunk: int) -> bool:
        """Whether a chunk had not ended, and counts no more from now on."""
        return self._end(chunk)

    def unended(self) -> dict[int, Unended]:
        """Chunks that have not ended, by their numbers."""
        return {
            self._number(trial): Unended(
                trial.state == TrialState.WAITING, trial.user_attrs.get(_BEATS)
            )
            for trial in self._trials(TrialState.WAITING, TrialState.RUNNING)
        }

    def returned(self, chunk: int, plans: Sequence[Plan]) -> History | None:
        """The History of a chunk that has ended; None where it was not trained to its end.

        Raises TaskFailed where the task raised, and ValueError where what was returned is no
        History of these plans.
        """
        trial = self._storage.get_trial(chunk)
        attrs = trial.user_attrs
        if _RAISED in attrs:
            raise TaskFailed(str(attrs[_RAISED]))
        if trial.state != TrialState.COMPLETE:
            return None
        values = _joined(_HISTORY, attrs)
        return None if values is None else unpacked(values, plans)

    def workers(self) -> dict[str, Sign]:
        """Workers that have joined, with their signs of life."""
        attrs = self._storage.get_study_user_attrs(self._study)
        signs = {
            key.removeprefix(_WORKER): Sign.read(attrs[key])
            for key in attrs
            if key.startswith(_WORKER) and key.isprintable()
        }
        return {worker: sign for worker, sign in signs.items() if sign is not None}

    # A worker's side

    def about(self) -> object:
        """What the parent has said of the run; None where it has not yet.

        Raises ValueError where that cannot be read.
        """
        return _joined(_ABOUT, self._storage.get_study_user_attrs(self._study))

    def sign(self, worker: str, sign: Sign) -> None:
        """Show that a worker lives."""
        self._storage.set_study_user_attr(self._study, _WORKER + worker, asdict(sign))

    def take(self, task: Problem) -> Chunk | None:
        """A chunk that waits, for this worker alone; None where none does.

        Raises ValueError where one holds no plans for the task; it is the parent's again.
        """
        for trial in self._trials(TrialState.WAITING):
            chunk = self._number(trial)
            if self._set(chunk, TrialState.RUNNING):
                try:
                    return _chunk(chunk, trial.user_attrs, task)
                except ValueError:
                    self._end(chunk)
                    raise
        return None

    def beat(self, chunk: int, beats: int) -> bool:
        """Show that a chunk is in training; False where it is not any more."""
        try:
            self._storage.set_trial_user_attr(chunk, _BEATS, beats)
        except UpdateFinishedTrialError:
            return False
        return True

    def give(self, chunk: int, history: History) -> bool:
        """Return what came out of a chunk; False where it was given to another worker meanwhile."""
        try:
            for key, part in _parts(_HISTORY, packed(history)).items():
                self._storage.set_trial_user_attr(chunk, key, part)
        except UpdateFinishedTrialError:
            return False
        return self._set(chunk, TrialState.COMPLETE, [0.0])

    def give_error(self, chunk: int, error: TaskFailed) -> None:
        """Return that the task raised."""
        try:
            self._storage.set_trial_user_attr(chunk, _RAISED, str(error)[:_LONGEST])
        except UpdateFinishedTrialError:
            return
        self._end(chunk)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study, deepcopy=False, states=states)

    def _number(self, trial: FrozenTrial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study, trial.number)

    def _end(self, chunk: int) -> bool:
        return self._set(chunk, TrialState.FAIL)

    def _set(self, chunk: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Whether a chunk could be brought to a state: once ended, it never is."""
        try:
            return self._storage.set_trial_state_values(chunk, state, values)
        except UpdateFinishedTrialError:
            return False


def is_gone(storage: BaseStorage, name: str) -> bool:
    """Whether a study is in the storage no more; StorageFailed where that cannot be told."""
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return True
    return False


def _parts(key: str, values: object) -> dict[str, str | int]:
    """Values as attributes, none of which is too long; how many there are comes last."""
    text = json.dumps(values)
    parts = [text[at : at + _LONGEST] for at in range(0, len(text), _LONGEST)]
    return {**{f"{key} {place}": part for place, part in enumerate(parts)}, key: len(parts)}


def _joined(key: str, attrs: Mapping[str, Any]) -> Any:  # noqa: ANN401 (as they were)
    """The values of such attributes; None where there are none. ValueError for damaged ones."""
    if key not in attrs:
        return None
    try:
        return json.loads("".join(attrs[f"{key} {place}"] for place in range(attrs[key])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a part of the {key} is missing") from error


def _chunk(number: int, attrs: Mapping[str, Any], task: Problem) -> Chunk:
    plans, watch = unpacked_plans(_joined(_PLANS, attrs), task), attrs.get(_WATCH)
    if not plans or not isinstance(watch, str):
        raise ValueError("plans, and what is watched, are missing")
    return Chunk(number, plans, watch)
