"""A chunk is taken once, whoever asks, and returned once, whoever was thought dead."""

import json
import threading
from dataclasses import replace

import optuna
import pytest
from small_tasks import linear_task

from lrfinder.errors import InvalidArgument, StorageFailed, TaskFailed
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.executors.in_process import AloneCrew
from lrfinder.training.executors.job import Job, Setup
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.records.sent import packed, without_plans
from lrfinder.tuning.storages.storage import close, open_existing, open_storage
from lrfinder.workers.board import Board
from lrfinder.workers.claims import Watch, claimed, work_study
from lrfinder.workers.description import Extent
from lrfinder.workers.executor import WithWorkers
from lrfinder.workers.mailbox import Mailbox, Sign, Unended, is_gone

PLANS = [Plan(0.01 * k, Schedule(FAMILIES["constant"]), k) for k in (1, 2, 3, 4)]


@pytest.fixture(params=["journal", "sqlite"])
def url(request, tmp_path):
    """What several processes open; SQLite stands for every database here."""
    journal, database = tmp_path / "run.journal", f"sqlite:///{tmp_path / 'run.db'}"
    return str(journal) if request.param == "journal" else database


@pytest.fixture
def storage(url):
    return open_storage(url)


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


def test_every_chunk_has_a_parameter_or_the_dashboard_answers_500(storage, mailbox):
    trial = storage.get_trial(mailbox.post(PLANS, "loss"))
    assert trial.params == {"holds": "plans"}
    assert trial.distributions["holds"].choices == ("plans",)


def test_a_chunk_that_nobody_has_begun_is_taken_back(mailbox):
    chunk = mailbox.post(PLANS, "loss")
    assert mailbox.take_back(chunk)
    assert mailbox.take(linear_task()) is None


def test_what_a_worker_returns_is_what_it_trained(mailbox, storage, url):
    chunk = mailbox.post(PLANS, "loss")
    opened = open_existing(url, whole=False)
    worker = Mailbox(opened, opened.get_study_id_from_name(work_study("run")))
    taken, history = worker.take(linear_task()), fit(linear_task(), PLANS)
    assert worker.beat(taken.number, 1)
    assert mailbox.unended() == {chunk: Unended(waits=False, beats=1)}
    assert worker.give(taken.number, without_plans(history))
    close(opened)
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
    stop, helped, took = threading.Event(), threading.Event(), []

    def model():
        """One that is built when the helper has taken something, however fast the machine is."""
        helped.wait(10)
        return task.model()

    def help_out():
        """A worker that returns what was trained before: two threads cannot train at a time."""
        count = 0
        while not stop.is_set():
            count += 1
            mailbox.sign("helper", Sign(count, "trains"))
            chunk = mailbox.take(task)
            if chunk is not None:
                took.append(chunk)
                helped.set()
                if dies:
                    return
                for plan in chunk.plans:
                    mailbox.give(chunk.number, without_plans(histories[plan.seed]))
            stop.wait(0.02)

    mailbox.sign("helper", Sign(0, "waits"))
    with claimed(storage, "another") as claim:
        own = AloneCrew(Setup(replace(task, model=model)))
        crew = WithWorkers(own, mailbox, claim, capacity=1, patience=0.5)
        mailbox.sign("helper", Sign(1, "waits"))
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
    mailbox.workers = lambda: {"idle": Sign(next(counts), "waits")}
    with claimed(storage, "another") as claim:
        crew = WithWorkers(AloneCrew(Setup(linear_task())), mailbox, claim, capacity=1)
        found, _ = trained(crew)
    assert sorted(found) == [0, 1, 2, 3]
    assert len(storage.get_all_trials(storage.get_study_id_from_name("run-work"))) <= 2 * len(PLANS)


def spoiled(spoil):
    """What a worker returns that was spoiled on its way."""
    values = packed(fit(linear_task(), PLANS))
    spoil(values)
    return values


DAMAGES = {
    "no JSON": "{",
    "a list": "[]",
    "without losses": spoiled(lambda values: values.pop("train_loss")),
    "of more runs": packed(fit(linear_task(), PLANS + PLANS[:1])),
    "no bytes": spoiled(lambda values: values["lr"].update(bytes="eA==")),
    "of other measures": spoiled(lambda values: values["measures"].update(f1=values["trained"])),
    "of a shorter training": packed(fit(linear_task(), PLANS, updates=1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_returned_damaged_is_trained_again_and_said(storage, mailbox, damage):
    task, said = linear_task(), []
    values = DAMAGES[damage]
    text = values if isinstance(values, str) else json.dumps(values)
    take_all(mailbox, text)
    with claimed(storage, "another") as claim:
        extent = Extent.of(task, None)
        crew = WithWorkers(AloneCrew(Setup(task)), mailbox, claim, 4, extent, said.append)
        mailbox.sign("helper", Sign(2, "waits"))
        found, made = trained(crew)
    assert (found, made) == trained(AloneCrew(Setup(task)))
    assert [line for line in said if line.startswith("what a worker returned cannot be used")]


def take_all(mailbox, text):
    """Let every chunk that is posted come back at once as this text."""
    post = mailbox.post

    def posted(plans, watch):
        number = post(plans, watch)
        if mailbox.take(linear_task()):
            mailbox._storage.set_trial_user_attr(number, "history 0", text)
            mailbox._storage.set_trial_user_attr(number, "history", 1)
            mailbox._set(number, optuna.trial.TrialState.COMPLETE, [0.0])
        return number

    mailbox.post = posted


@pytest.mark.parametrize("value", [7, {"beats": 1}, {"does": "\x1b[2J", "chunks": 0}, None])
def test_a_sign_of_another_kind_is_nobodys(storage, mailbox, value):
    mailbox._storage.set_study_user_attr(mailbox._study, "worker somebody", value)
    assert mailbox.workers() == {}


def test_who_joins_leaves_and_dies_is_said_and_noted():
    said, notes = [], []
    watch = Watch(patience=1000)
    board = Board(said.append, notes.append, watch)
    watch.expect("old", Sign(3, "waits"))
    one, two = Sign(1, "trains 8 runs", 2), Sign(1, "waits")
    signs = {"old": Sign(3, "waits"), "a": one, "b": two}
    assert board.count(signs, "trains") == 2
    assert said == [f"worker {name} has joined; 2 workers beside this process" for name in "ab"]
    assert "| a | trains 8 runs | 2 | 0 s ago |" in notes[-1]
    assert "| the run itself | trains |" in notes[-1]
    assert "old" not in notes[-1]
    watch.expect("a", one)
    assert board.count({**signs, "b": Sign(2, "waits", left=True)}, "waits") == 0
    assert said[2:] == [
        "worker a shows no sign of life; what it held is trained by another; "
        "0 workers beside this process",
        "worker b has left; 0 workers beside this process",
    ]
    assert "| a | shows no sign of life | 2 |  |" in notes[-1]
