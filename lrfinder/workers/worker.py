"""`lrfinder worker`: train for a run that works in a shared storage, until it has ended.

The task comes from this process's own command line, and must be the one of the run; what is read
from the storage are plain values.
"""

import os
import socket
import time
from typing import Any

from optuna.storages import BaseStorage

from lrfinder.errors import InvalidArgument, StorageFailed, TaskFailed
from lrfinder.experiment import device_of, prepared_task
from lrfinder.report.progress import Progress
from lrfinder.tasks.fingerprint import check_same
from lrfinder.tasks.loading import load_task
from lrfinder.training import engine
from lrfinder.training.fit import fit
from lrfinder.training.sent import without_plans
from lrfinder.training.speed import threads
from lrfinder.tuning.storage import close, open_existing
from lrfinder.tuning.storage_urls import is_for_one_machine, without_password
from lrfinder.workers.claims import BEAT, Watch, beating, holder, work_study
from lrfinder.workers.description import Description
from lrfinder.workers.mailbox import Chunk, Mailbox, is_gone

_WAIT = 0.2
"""Seconds between two looks for a chunk."""
_PARENT_GONE = 600.0
"""Seconds after which a worker leaves a run whose parent shows no sign of life."""
_OTHER = (
    "the {what} must be those of the run, but the task has others here; give the worker the same "
    "code and data, and seed what is drawn at random in the task file (torch.manual_seed(0))"
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

    Raises InvalidArgument for a storage or a task that cannot be used, and TaskLoadError.
    """
    if is_for_one_machine(storage):
        raise InvalidArgument(
            f"storage must be one that several processes can use, but got "
            f"{without_password(storage)!r}; start the run with PostgreSQL, MySQL, or the path "
            "of a journal file (--storage run.journal)"
        )
    opened = open_existing(storage)
    try:
        return _Worker(opened, name, task, progress, parent_gone).go_on()
    finally:
        close(opened)


class _Worker:
    """One worker of a run."""

    def __init__(
        self, storage: BaseStorage, name: str, task: str, progress: Progress, parent_gone: float
    ) -> None:
        self._storage, self._name, self._progress = storage, work_study(name), progress
        self._run = name
        self._parent, self._own = Watch(parent_gone), f"{socket.gethostname()} {os.getpid()}"
        try:
            self._study = storage.get_study_id_from_name(self._name)
        except KeyError as error:
            raise InvalidArgument(
                f"no run {name!r} is at work in this storage; start it there first "
                f"(`lrfinder run TASK --storage ... --out {name}`)"
            ) from error
        self._mailbox = Mailbox(storage, self._study)
        about = Description.read(self._about(), task)
        device = device_of(about.settings.device)
        self._task = prepared_task(load_task(task), about.settings)
        check_same(self._task, device, about.fingerprint, _OTHER)
        self._engine = engine.again(device, about.engine)

    def go_on(self) -> int:
        """Train chunks until the run has ended."""
        trained = 0
        self._progress.say("training for the run, until it has ended")

        def sign(count: int) -> bool:
            self._mailbox.sign(self._own, count)
            return True

        self._mailbox.sign(self._own, 0)
        with threads(self._engine.threads), beating(sign):
            while not self._run_has_ended():
                try:
                    chunk = self._mailbox.take(self._task)
                    if chunk is None:
                        time.sleep(_WAIT)
                        continue
                    self._train(chunk)
                    trained += 1
                except StorageFailed:
                    if not is_gone(self._storage, self._name):
                        raise
        self._progress.say(f"the run has ended; trained here: {trained} chunk{'s'[: trained != 1]}")
        return trained

    def _train(self, chunk: Chunk) -> None:
        """Train a chunk and return it; one that is interrupted is another's at once."""

        def beat(count: int) -> bool:
            return self._mailbox.beat(chunk.number, count)

        self._progress.stage("chunk", len(chunk.plans))
        try:
            with beating(beat):
                history = fit(
                    self._task, chunk.plans, watch=chunk.watch, trainer=self._engine.trainer
                )
        except TaskFailed as error:
            self._mailbox.give_error(chunk.number, error)
            return
        except BaseException:
            self._mailbox.give_up(chunk.number)
            raise
        self._progress.advance(len(chunk.plans))
        self._mailbox.give(chunk.number, without_plans(history))

    def _about(self) -> dict[str, Any]:
        """What the parent says of the run, as soon as it does."""
        while not self._run_has_ended():
            about = self._mailbox.about()
            if about is not None:
                return about
            time.sleep(BEAT)
        raise InvalidArgument(f"the run {self._run!r} has ended")

    def _run_has_ended(self) -> bool:
        if is_gone(self._storage, self._name):
            return True
        try:
            claim = holder(self._storage, self._study)
        except StorageFailed:
            return is_gone(self._storage, self._name)
        return not self._parent.alive("parent", claim)
