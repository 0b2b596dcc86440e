"""A chunk is taken once, whoever asks, and returned once, whoever was thought dead."""

import threading

import optuna
import pytest
from small_tasks import linear_task

from lrfinder.errors import InvalidArgument, StorageFailed, TaskFailed
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.executors.in_process import AloneCrew
from lrfinder.training.executors.job import Job, Setup
from lrfinder.training.fit import fit
from lrfinder.training.history import Plan
from lrfinder.training.sent import without_plans
from lrfinder.tuning.storage import open_storage
from lrfinder.workers.claims import Watch, claimed, work_study
from lrfinder.workers.executor import WithWorkers
from lrfinder.workers.mailbox import Mailbox, is_gone

WAITING, RUNNING = optuna.trial.TrialState.WAITING, optuna.trial.TrialState.RUNNING
PLANS = [Plan(0.01 * k, Schedule(FAMILIES["constant"]), k) for k in (1, 2, 3, 4)]


@pytest.fixture(params=["journal", "sqlite"])
def storage(request, tmp_path):
    """What several processes open; SQLite stands for every database here."""
    journal, database = tmp_path / "run.journal", f"sqlite:///{tmp_path / 'run.db'}"
    return open_storage(str(journal) if request.param == "journal" else database)


@pytest.fixture
def mailbox(storage):
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], work_study("run"))
    return Mailbox(storage, study)


def test_a_chunk_is_taken_once(mailbox):
    mailbox.post(PLANS, "loss")
    taken = mailbox.take(linear_task())
    assert (taken.plans, taken.watch) == (PLANS, "loss")
    assert mailbox.take(linear_task()) is None
    assert not mailbox.take_back(taken.number)


def test_a_chunk_that_nobody_has_begun_is_taken_back(mailbox):
    chunk = mailbox.post(PLANS, "loss")
    assert mailbox.take_back(chunk)
    assert mailbox.take(linear_task()) is None


def test_what_a_worker_returns_is_what_it_trained(mailbox):
    chunk = mailbox.post(PLANS, "loss")
    taken, history = mailbox.take(linear_task()), fit(linear_task(), PLANS)
    assert mailbox.beat(taken.number, 1)
    assert mailbox.state(chunk) == (RUNNING, 1)
    assert mailbox.give(taken.number, without_plans(history))
    again = mailbox.returned(chunk, PLANS)
    assert again.plans == tuple(PLANS)
    assert (again.measures["loss"] == history.measures["loss"]).all()


def test_a_worker_that_was_thought_dead_returns_nothing(mailbox):
    chunk, history = mailbox.post(PLANS, "loss"), fit(linear_task(), PLANS)
    taken = mailbox.take(linear_task())
    assert mailbox.give_up(chunk)
    assert not mailbox.beat(taken.number, 1)
    assert not mailbox.give(taken.number, without_plans(history))
    assert mailbox.returned(chunk, PLANS) is None


def test_what_the_task_raised_is_raised_in_the_parent(mailbox):
    chunk = mailbox.post(PLANS, "loss")
    mailbox.give_error(mailbox.take(linear_task()).number, TaskFailed("the loss is nan"))
    with pytest.raises(TaskFailed, match="the loss is nan"):
        mailbox.returned(chunk, PLANS)


def test_a_storage_that_fails_is_no_run_that_has_ended(storage, mailbox, monkeypatch):
    def fails(name):
        raise StorageFailed("the server is down")

    assert not is_gone(storage, work_study("run"))
    assert is_gone(storage, work_study("another"))
    monkeypatch.setattr(storage, "get_study_id_from_name", fails)
    with pytest.raises(StorageFailed, match="the server is down"):
        is_gone(storage, work_study("run"))


def test_long_values_come_back_whole(mailbox):
    mailbox.describe({"text": "x" * 200_000})
    assert mailbox.about() == {"text": "x" * 200_000}


def test_a_counter_that_stands_still_is_dead_until_it_moves():
    watch = Watch(patience=0.0)
    assert watch.alive("one", 1)
    assert not watch.alive("one", 1)
    assert watch.alive("one", 2)
    watch.expect("two", 5)
    assert not watch.alive("two", 5)
    assert watch.alive("two", 6)


def test_a_name_is_held_by_one_process(storage):
    with claimed(storage, "run", every=0.05, patience=1.0) as first:
        first.check()
        again = claimed(storage, "run", every=0.05, patience=1.0)
        with pytest.raises(InvalidArgument, match="another process works on the run 'run'"), again:
            pass
        with claimed(storage, "other", every=0.05, patience=1.0):
            pass
    assert storage.get_all_studies() == []


def test_a_dead_claim_is_taken_over(storage):
    dead = claimed(storage, "run", every=1000.0)
    living = claimed(storage, "run", every=0.05, patience=0.2)
    with dead as before, living as now:
        now.check()
        assert before.study == now.study


def test_a_holder_finds_out_that_its_claim_was_taken_over_and_leaves_it_alone(storage):
    with claimed(storage, "run", every=0.05) as held:
        storage.set_study_user_attr(held.study, "claim", {"by": "somebody", "beats": 1})
        assert held.lost.wait(5)
        with pytest.raises(StorageFailed, match="another process has taken this run over"):
            held.check()
    assert [study.study_name for study in storage.get_all_studies()] == ["run-work"]


def test_a_claim_stays_for_the_workers_where_the_run_is_interrupted(storage):
    with pytest.raises(KeyboardInterrupt), claimed(storage, "run"):
        raise KeyboardInterrupt
    assert [study.study_name for study in storage.get_all_studies()] == ["run-work"]


def trained(crew):
    """Losses by row, and how often each was handed out."""
    found = {}

    def finished(rows, history):
        for place, row in enumerate(rows):
            found.setdefault(row, []).append(history.only(place).measures["loss"][0, -1])

    made = []
    crew.fit(Job(PLANS, progress=made.append, finished=finished))
    return found, sum(made)


@pytest.mark.parametrize("dies", [False, True])
def test_every_plan_is_trained_once_by_whoever_lives(storage, mailbox, dies):
    task = linear_task()
    alone, updates = trained(AloneCrew(Setup(task)))
    histories = {plan.seed: fit(task, [plan]) for plan in PLANS}
    stop, took = threading.Event(), []

    def help_out():
        """A worker that returns what was trained before: two threads cannot train at a time."""
        count = 0
        while not stop.is_set():
            count += 1
            mailbox.sign("helper", count)
            chunk = mailbox.take(task)
            if chunk is not None:
                took.append(chunk)
                if dies:
                    return
                for plan in chunk.plans:
                    mailbox.give(chunk.number, without_plans(histories[plan.seed]))
            stop.wait(0.02)

    mailbox.sign("helper", 0)
    with claimed(storage, "another") as claim:
        crew = WithWorkers(AloneCrew(Setup(task)), mailbox, claim, capacity=1, patience=0.5)
        mailbox.sign("helper", 1)
        helper = threading.Thread(target=help_out)
        helper.start()
        try:
            found, made = trained(crew)
        finally:
            stop.set()
            helper.join()
    assert took
    assert found == alone
    assert made == updates


def test_a_worker_that_lives_but_takes_nothing_holds_nothing_up(storage, mailbox):
    counts = iter(range(10**6))
    mailbox.workers = lambda: {"idle": next(counts)}
    with claimed(storage, "another") as claim:
        crew = WithWorkers(AloneCrew(Setup(linear_task())), mailbox, claim, capacity=1)
        found, _ = trained(crew)
    assert sorted(found) == [0, 1, 2, 3]
    assert len(storage.get_all_trials(storage.get_study_id_from_name("run-work"))) <= 2 * len(PLANS)
