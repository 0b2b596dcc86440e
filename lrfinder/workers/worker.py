"""`lrfinder worker`: train for a run that works in a shared storage, until it has ended.

The task comes from this process's own command line, and must be the one of the run; what is read
from the storage are plain values.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from optuna.storages import BaseStorage

from lrfinder.errors import InvalidArgument, StorageFailed, TaskFailed
from lrfinder.experiment import device_of, prepared_task
from lrfinder.report.progress import Progress
from lrfinder.tasks.fingerprint import check_same
from lrfinder.tasks.loading import load_named
from lrfinder.training import engine
from lrfinder.training.fit import fit
from lrfinder.training.records.sent import without_plans
from lrfinder.training.speed import threads
from lrfinder.tuning.interrupts import deferred
from lrfinder.tuning.storages.storage import close, holds_studies, open_existing, study_name
from lrfinder.tuning.storages.storage_urls import is_for_one_machine, without_password
from lrfinder.workers.claims import Watch, beating, holder, work_study
from lrfinder.workers.description import Description, Extent
from lrfinder.workers.mailbox import Chunk, Mailbox, Sign, is_gone

_WAIT, _LONG_WAIT = 0.2, 2.0
"""Seconds between two looks for a chunk, and for a run that has not begun."""
_PARENT_GONE = 600.0
"""Seconds after which a worker leaves a run whose parent shows no sign of life."""
_OTHER = (
    "the {what} must be those of the run, but the task has others here; give the worker the same "
    "code and data, and seed what is drawn at random in the task file (torch.manual_seed(0))"
)
_OTHER_FILE = (
    "note: the task's file is another here than where the run was started; its data, initial "
    "weights, measures and length are the same, anything else is not compared"
)


def work(
    task: str,
    storage: str,
    name: str,
    progress: Progress,
    *,
    parent_gone: float = _PARENT_GONE,
) -> int:
    """Train chunks of the run of this name until it has ended; returns how many.

    A run that has not begun is waited for. Raises InvalidArgument for a storage or a task that
    cannot be used, or where no run begins, and TaskLoadError.
    """
    if is_for_one_machine(storage):
        raise InvalidArgument(
            f"storage must be one that several processes can use, but got "
            f"{without_password(storage)!r}; start the run with PostgreSQL, MySQL, or the path "
            "of a journal file (--storage run.journal)"
        )
    until = time.monotonic() + parent_gone
    waited_for = f"the run {name!r} in {without_password(storage)!r}"
    _wait_for(lambda: holds_studies(storage), waited_for, progress, until)
    opened = open_existing(storage, whole=False)  # no other worker's results
    try:
        _wait_for(lambda: _has_begun(opened, name), waited_for, progress, until)
        try:
            study = opened.get_study_id_from_name(work_study(name))
        except KeyError:
            progress.say(f"the run {name!r} has ended already")
            return 0
        return _Worker(opened, study, name, task, progress, parent_gone).go_on()
    finally:
        close(opened)


def _has_begun(storage: BaseStorage, name: str) -> bool:
    """Whether a run is at work, or has been: every run has a study of the constant lr."""
    studies = (work_study(name), study_name(name, "constant"))
    return not all(is_gone(storage, study) for study in studies)


def _wait_for(begun: Callable[[], bool], what: str, progress: Progress, until: float) -> None:
    """Wait for a run that has not begun; InvalidArgument where it does not."""
    if begun():
        return
    progress.say(f"waiting for {what} to begin (lrfinder run TASK --storage ... --out NAME)")
    while not begun():
        if time.monotonic() > until:
            raise InvalidArgument(
                f"{what} has not begun; start it first, or check the name of its folder"
            )
        time.sleep(min(_LONG_WAIT, max(0.05, until - time.monotonic())))


class _Worker:
    """One worker of a run."""

    def __init__(
        self,
        storage: BaseStorage,
        study: int,
        name: str,
        task: str,
        progress: Progress,
        parent_gone: float,
    ) -> None:
        self._storage, self._name, self._progress = storage, work_study(name), progress
        self._run, self._study = name, study
        self._parent, self._own = Watch(parent_gone), f"{socket.gethostname()} {os.getpid()}"
        self._mailbox = Mailbox(storage, self._study)
        self._beats, self._chunks, self._does = 0, 0, "waits"
        about = Description.read(self._about(), task)
        device = device_of(about.settings.device)
        loaded, reference = load_named(task)
        self._task = prepared_task(loaded, about.settings)
        check_same(self._task, device, about.fingerprint, _OTHER)
        other = Extent.of(self._task, device).other_than(about.extent)
        if other is not None:
            raise InvalidArgument(f"the task must be that of the run, but its {other}")
        if about.source and reference.source_hash() != about.source:
            progress.say(_OTHER_FILE)
        self._engine = engine.again(device, about.engine)

    def go_on(self) -> int:
        """Train chunks until the run has ended."""
        trainer = self._engine.chosen.trainer
        self._progress.say(
            f"training for the run {self._run!r} with the {trainer} trainer, until it has ended"
        )

        def sign(count: int) -> bool:
            self._beats = count
            self._sign()
            return True

        self._sign()
        try:
            with threads(self._engine.threads), beating(sign):
                while not self._run_has_ended():
                    try:
                        if not self._train_one():
                            time.sleep(_WAIT)
                    except StorageFailed:
                        if not is_gone(self._storage, self._name):
                            raise
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"interrupted; {self._trained()}") from error
        finally:
            with deferred(), suppress(StorageFailed):  # it is gone, and the run with it
                self._sign(left=True)
        self._progress.say(self._how_it_ended())
        return self._chunks

    def _train_one(self) -> bool:
        """Train a chunk and return it, if there is one; one that is interrupted is given back."""
        chunk = None
        try:
            with deferred():  # else an interrupt may come when it is taken and not yet known
                chunk = self._taken()
            if chunk is not None:
                self._train(chunk)
        except BaseException:
            if chunk is not None:
                with deferred():
                    self._mailbox.give_up(chunk.number)
            raise
        return chunk is not None

    def _taken(self) -> Chunk | None:
        try:
            return self._mailbox.take(self._task)
        except ValueError as error:
            self._progress.say(f"a chunk cannot be read, and is left to the run: {error}")
            return None

    def _train(self, chunk: Chunk) -> None:
        def beat(count: int) -> bool:
            return self._mailbox.beat(chunk.number, count)

        began, runs = time.monotonic(), len(chunk.plans)
        what = f"{runs} run{'s'[: runs != 1]}"
        self._does = f"trains {what}"
        try:
            with beating(beat):
                history = fit(
                    self._task, chunk.plans, watch=chunk.watch, trainer=self._engine.trainer
                )
        except TaskFailed as error:
            self._mailbox.give_error(chunk.number, error)
            self._progress.say(f"the task failed in a chunk of {what}: {error}")
            return
        finally:
            self._does = "waits"
        with deferred():
            counts = self._mailbox.give(chunk.number, without_plans(history))
        self._chunks += counts
        families = ", ".join(sorted({plan.schedule.family.name for plan in chunk.plans}))
        late = "" if counts else "; too late, another has it"
        self._progress.say(f"{what} of {families} in {time.monotonic() - began:.1f} s{late}")

    def _sign(self, *, left: bool = False) -> None:
        self._mailbox.sign(self._own, Sign(self._beats, self._does, self._chunks, left))

    def _trained(self) -> str:
        return f"trained here: {self._chunks} chunk{'s'[: self._chunks != 1]}"

    def _how_it_ended(self) -> str:
        """What is said last: the run has ended, or nobody works on it any more."""
        if is_gone(self._storage, self._name):
            return f"the run has ended; {self._trained()}"
        return f"nobody works on the run any more, and it can be resumed; {self._trained()}"

    def _about(self) -> object:
        """What the parent says of the run, as soon as it does."""
        while not self._run_has_ended():
            try:
                about = self._mailbox.about()
            except ValueError as error:
                raise InvalidArgument(
                    f"what the storage says of the run {self._run!r} cannot be read ({error}); "
                    "resume the run, which says it again"
                ) from error
            if about is not None:
                return about
            time.sleep(_LONG_WAIT)
        raise InvalidArgument(f"the run {self._run!r} has ended")

    def _run_has_ended(self) -> bool:
        if is_gone(self._storage, self._name):
            return True
        try:
            claim = holder(self._storage, self._study)
        except StorageFailed:
            return is_gone(self._storage, self._name)
        return not self._parent.alive("parent", claim)
