"""Who works on a run in a storage that several processes use: its parent, and its workers.

A run claims its name before anything is trained, by a study `<name>-work` that holds nothing else
but what its workers need (`mailbox.py`). The holder counts up an attribute of the study every few
seconds; whoever sees it move knows that the holder is alive. No clocks are compared, so that those
of several machines need not agree.
"""

import math
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from lrfinder.errors import InvalidArgument, StorageFailed

BEAT = 2.0
"""Seconds between two signs of life."""
DEAD_AFTER = 12.0
"""Seconds without one after which a process counts as dead."""
_CLAIM = "claim"


def work_study(name: str) -> str:
    """Name of the study by which a run and its workers meet."""
    return f"{name}-work"


@contextmanager
def beating(beat: Callable[[int], bool], every: float = BEAT) -> Generator[Event]:
    """Call `beat` with 1, 2, ... every so many seconds, until it returns False.

    Yields an event that is set from then on. A storage that fails is tried again: whether it has
    gone for good is the caller's to find.
    """
    ended, stop = Event(), Event()

    def go_on() -> None:
        number = 0
        while not stop.wait(every):
            number += 1
            with suppress(StorageFailed):
                if not beat(number):
                    ended.set()
                    return

    thread = Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Clock:
    """How time passes; studies/scale.py has one that is simulated."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


class Watch:
    """Which of several counters have moved lately, by the clock of this process."""

    def __init__(self, patience: float = DEAD_AFTER, clock: Clock | None = None) -> None:
        self._patience, self._now = patience, (clock or Clock()).now
        self._seen: dict[str, tuple[Any, float]] = {}

    def expect(self, who: str, count: object) -> None:
        """Count as dead what stays at this, until it moves."""
        self._seen[who] = (count, -math.inf)

    def alive(self, who: str, count: object) -> bool:
        """Whether a counter, which is this now, has moved within the patience; a new one has."""
        now = self._now()
        before, since = self._seen.get(who, (None, now))
        if who not in self._seen or before != count:
            self._seen[who] = (count, now)
            return True
        return now - since < self._patience

    def seconds_still(self, who: str) -> float:
        """Seconds since a counter, which has been seen, was seen to move."""
        return self._now() - self._seen[who][1]


@dataclass(frozen=True)
class Claim:
    """A run's name, held in a storage."""

    study: int
    """Number of the study `<name>-work`."""
    lost: Event
    """Set when another process has taken the claim over."""

    def check(self) -> None:
        """Raise StorageFailed where this process does not hold the claim any more."""
        if self.lost.is_set():
            raise StorageFailed(
                "another process has taken this run over; "
                "what was trained here until then is in the storage"
            )


@contextmanager
def claimed(
    storage: BaseStorage,
    name: str,
    say: Callable[[str], None] = lambda _: None,
    *,
    every: float = BEAT,
    patience: float = DEAD_AFTER,
) -> Generator[Claim]:
    """Hold a run's name in a storage.

    Raises InvalidArgument where another process holds it. One that does not move for the patience
    is dead, and its claim is taken over, which it finds out when it is not. The study is removed
    where the block ends without an exception; else it waits, with the workers, for the run to go
    on.
    """
    study = _made(storage, name)
    held = storage.get_study_user_attrs(study).get(_CLAIM)
    if held is not None:
        say("looking whether another process works on this run")
        _refuse_living(storage, study, name, patience)
    own = uuid.uuid4().hex
    storage.set_study_user_attr(study, _CLAIM, {"by": own, "beats": 0})

    def is_own() -> bool:
        now = storage.get_study_user_attrs(study).get(_CLAIM) or {}
        return now.get("by") == own

    def beat(count: int) -> bool:
        if not is_own():
            return False
        storage.set_study_user_attr(study, _CLAIM, {"by": own, "beats": count})
        return True

    with beating(beat, every) as ended:
        yield Claim(study, ended)
    with suppress(StorageFailed):  # it is gone
        if is_own():
            storage.delete_study(study)


def holder(storage: BaseStorage, study: int) -> object:
    """What moves as long as the run has a living parent; None where it has none."""
    return storage.get_study_user_attrs(study).get(_CLAIM)


def _made(storage: BaseStorage, name: str) -> int:
    try:
        return storage.create_new_study([StudyDirection.MINIMIZE], work_study(name))
    except DuplicatedStudyError:
        return storage.get_study_id_from_name(work_study(name))


def _refuse_living(storage: BaseStorage, study: int, name: str, patience: float) -> None:
    first, until = holder(storage, study), time.monotonic() + patience
    while first is not None and time.monotonic() < until:
        if holder(storage, study) != first:
            raise InvalidArgument(
                f"another process works on the run {name!r} in this storage; wait until it has "
                f"ended, help it (`lrfinder worker TASK STORAGE {name}`), or give another --out"
            )
        time.sleep(min(BEAT, patience) / 8)
