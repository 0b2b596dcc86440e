"""What a worker refuses, waits for, gives back and says."""

import json
from pathlib import Path

import optuna
import pytest

from lrfinder.errors import InvalidArgument, StorageFailed
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.settings import RunSettings
from lrfinder.tasks.fingerprint import fingerprint
from lrfinder.tasks.loading import load_named
from lrfinder.training.engine import EngineRecord, Timing
from lrfinder.training.records.history import Plan
from lrfinder.training.speed import Speed
from lrfinder.tuning.storages.storage import open_storage
from lrfinder.workers.claims import beating, work_study
from lrfinder.workers.description import Description, Extent
from lrfinder.workers.mailbox import Mailbox
from lrfinder.workers.worker import work

TASK = """
import torch
from torch.utils.data import TensorDataset
from lrfinder import Task

x = torch.arange(32.0).reshape(16, 2) / 32


def loss(prediction, target):
    INTERRUPT
    return ((prediction - target) ** 2).mean()


def make_task():
    return Task(
        model=lambda: torch.nn.Linear(2, 1),
        train=TensorDataset(x, x[:, :1]),
        valid=TensorDataset(x, x[:, :1]),
        criterion=loss,
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        metrics={"METRIC": loss},
        batch_size=4,
        epochs=2,
    )
"""
TIMING = Timing("sequential", 1, 1, Speed(1e-3, 1e-3))
ENGINE = EngineRecord(1, "sequential", 1, 1, "asked for", (TIMING,))
PLANS = [Plan(0.1, Schedule(FAMILIES["constant"]), 3)]


class Lines(list):
    """A Progress that keeps what is said."""

    say = list.append


@pytest.fixture
def task(tmp_path):
    return written(tmp_path / "task.py")


@pytest.fixture
def storage(tmp_path):
    return str(tmp_path / "run.journal")


@pytest.fixture
def mailbox(storage):
    opened = open_storage(storage)
    study = opened.create_new_study([optuna.study.StudyDirection.MINIMIZE], work_study("run"))
    return Mailbox(opened, study)


def written(path, metric="error", interrupt="pass"):
    path.write_text(TASK.replace("METRIC", metric).replace("INTERRUPT", interrupt))
    return str(path)


def description(task):
    loaded, reference = load_named(task)
    sketches, extent = fingerprint(loaded, None), Extent.of(loaded, None)
    settings = RunSettings(task=task)
    return Description(settings, sketches, ENGINE, extent, reference.source_hash()).values()


def worked(task, storage, name="run"):
    """What a worker says whose parent is dead after a second."""
    said = Lines()
    chunks = work(task, storage, name, said, parent_gone=1.0)
    return chunks, said


def test_a_worker_trains_what_waits_and_says_so(task, storage, mailbox):
    mailbox.describe(description(task))
    chunk = mailbox.post(PLANS, "loss")
    chunks, said = worked(task, storage)
    assert chunks == 1
    assert mailbox.returned(chunk, PLANS).measures["loss"].shape == (1, 3)
    assert said[0].startswith("training for the run 'run' with the sequential trainer")
    assert said[1].startswith("1 run of constant in ")
    assert said[2:] == [
        "nobody works on the run any more, and it can be resumed; trained here: 1 chunk"
    ]
    (sign,) = mailbox.workers().values()
    assert (sign.does, sign.chunks, sign.left) == ("waits", 1, True)


def test_a_run_of_another_version_is_refused(task, storage, mailbox):
    mailbox.describe({**description(task), "lrfinder": "0.0.1"})
    with pytest.raises(InvalidArgument, match=r"the run is one of lrfinder 0\.0\.1, but this work"):
        worked(task, storage)


@pytest.mark.parametrize("lacks", ["settings", "fingerprint", "engine", "extent", "source"])
def test_a_damaged_description_is_refused(task, storage, mailbox, lacks):
    about = description(task)
    mailbox.describe({name: value for name, value in about.items() if name != lacks})
    with pytest.raises(InvalidArgument, match="what the storage says of the run cannot be read"):
        worked(task, storage)


def test_a_description_of_which_a_part_is_lost_is_refused(task, storage, mailbox):
    mailbox.describe(description(task))
    mailbox._storage.set_study_user_attr(mailbox._study, "run", 9)
    with pytest.raises(InvalidArgument, match="a part of the run is missing"):
        worked(task, storage)


def test_a_task_with_other_measures_is_refused(task, storage, mailbox, tmp_path):
    mailbox.describe(description(task))
    other = written(tmp_path / "other.py", metric="squares")
    said = r"its measures are \('loss', 'squares'\) here, but \('loss', 'error'\) in the run"
    with pytest.raises(InvalidArgument, match=said):
        worked(other, storage)


def test_another_file_of_the_same_task_is_said(task, storage, mailbox, tmp_path):
    mailbox.describe(description(task))
    other = written(tmp_path / "other.py", interrupt="...")
    _, said = worked(other, storage)
    assert said[0].startswith("note: the task's file is another here")


def test_a_chunk_that_cannot_be_read_is_given_back_and_the_next_one_trained(task, storage, mailbox):
    mailbox.describe(description(task))
    foreign = mailbox._storage.create_new_trial(
        mailbox._study, optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
    )
    mailbox.post(PLANS, "loss")
    chunks, said = worked(task, storage)
    assert chunks == 1
    assert sum(line.startswith("a chunk cannot be read") for line in said) == 1
    assert mailbox.unended() == {}
    assert mailbox._storage.get_trial(foreign).state == optuna.trial.TrialState.FAIL


def test_an_interrupted_worker_gives_its_chunk_back_and_has_left(storage, mailbox, tmp_path):
    interrupt = "if prediction.requires_grad: raise KeyboardInterrupt"
    task = written(tmp_path / "task.py", interrupt=interrupt)
    mailbox.describe(description(written(tmp_path / "calm.py")))
    chunk = mailbox.post(PLANS, "loss")
    with pytest.raises(KeyboardInterrupt, match="interrupted; trained here: 0 chunks"):
        worked(task, storage)
    assert mailbox.unended() == {}
    assert mailbox.returned(chunk, PLANS) is None
    assert [sign.left for sign in mailbox.workers().values()] == [True]


def test_a_run_that_does_not_begin_is_waited_for_in_vain(task, storage, tmp_path):
    said = Lines()
    with pytest.raises(InvalidArgument, match=r"the run 'run' in .* has not begun"):
        work(task, storage, "run", said, parent_gone=0.1)
    assert len(said) == 1
    assert said[0].startswith("waiting for the run 'run'")
    assert not Path(storage).exists()


def test_a_run_that_has_ended_is_no_error(task, storage):
    opened = open_storage(storage)
    opened.create_new_study([optuna.study.StudyDirection.MINIMIZE], "run-constant")
    assert worked(task, storage) == (0, ["the run 'run' has ended already"])


def test_signs_of_life_go_on_after_the_storage_has_failed():
    counts = []

    def beat(count):
        counts.append(count)
        if count == 1:
            raise StorageFailed("the server restarts")
        return count < 3

    with beating(beat, every=0.01) as ended:
        assert ended.wait(5)
    assert counts == [1, 2, 3]


def test_what_is_sent_of_a_run_holds_no_storage(task):
    about = json.dumps(description(task))
    assert "storage" not in json.loads(about)["settings"]
