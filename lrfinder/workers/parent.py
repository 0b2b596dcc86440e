"""A run's own side: it claims its name in the storage, and tells those who join what to train."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from optuna.storages import BaseStorage

from lrfinder.experiment import Experiment
from lrfinder.report.dashboard_attributes import save_note
from lrfinder.report.progress import Progress
from lrfinder.tasks.fingerprint import Fingerprint
from lrfinder.training.engine import Engine
from lrfinder.training.executors.job import Crew
from lrfinder.tuning.storages.storage import close, open_storage
from lrfinder.tuning.storages.storage_urls import is_for_one_machine
from lrfinder.workers.claims import Claim, claimed
from lrfinder.workers.description import Description, Extent
from lrfinder.workers.executor import WithWorkers
from lrfinder.workers.mailbox import Mailbox


@dataclass(frozen=True)
class SharedStorage:
    """A storage that others may use, with the claim on this run's name in it."""

    storage: BaseStorage
    claim: Claim
    for_workers: bool


@contextmanager
def claimed_storage(
    experiment: Experiment, name: str, progress: Progress
) -> Generator[SharedStorage | None]:
    """The storage that was asked for, with the run's name claimed; None where none was."""
    asked = experiment.settings.storage
    if asked is None:
        yield None
        return
    storage = open_storage(asked)
    try:
        with claimed(storage, name, progress.say) as claim:
            yield SharedStorage(storage, claim, not is_for_one_machine(asked))
    finally:
        close(storage)


def beside_workers(
    here: Crew,
    shared: SharedStorage,
    experiment: Experiment,
    chosen: Engine,
    made: Fingerprint,
    progress: Progress,
) -> Crew:
    """Train here and by workers that join; here alone where the storage is for one machine."""
    if not shared.for_workers:
        return here
    mailbox = Mailbox(shared.storage, shared.claim.study)
    mailbox.clear()
    extent = Extent.of(experiment.task, experiment.device)
    source = "" if experiment.reference is None else experiment.reference.source_hash()
    about = Description(experiment.settings, made, chosen.record(), extent, source)
    mailbox.describe(about.values())
    capacity = chosen.trainer.capacity(experiment.task)
    if here.workers > 1:
        capacity *= 2 * here.workers  # what is trained here at a time keeps them all busy
    write = partial(save_note, shared.storage, shared.claim.study)
    return WithWorkers(here, mailbox, shared.claim, capacity, extent, progress.say, write)
