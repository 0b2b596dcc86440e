"""Worker processes give what one process gives."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from executor_laws import (
    PLANS,
    check_a_worker_may_be_killed_in_the_middle,
    check_same_as_alone,
    check_trains_what_one_process_trains,
    dying,
    trained_by,
)
from small_tasks import Trips, global_states, linear_task, noisy_task, plan

from lrfinder import InProcess, Processes, Ray, Space, compare, search
from lrfinder.comparison.candidates import Candidate
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules import FAMILIES
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.executors.choice import at_work, executor_of
from lrfinder.training.executors.elsewhere import prepared
from lrfinder.training.executors.futures import _Engine, workers_of
from lrfinder.training.executors.job import Job, Setup
from lrfinder.training.executors.submitting import SubmittingCrew, parts
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer


def problem(make, **fields) -> tuple[Task, SequentialTrainer]:
    sys.path.insert(0, str(Path(__file__).parent))
    return make(**fields), SequentialTrainer()


@contextmanager
def processes(count, make=linear_task, build=None, **fields):
    task = linear_task()
    setup = Setup(task, SequentialTrainer(), build or partial(problem, make, **fields))
    with Processes(count).at_work(setup) as crew:
        yield crew


@pytest.fixture(scope="module")
def workers():
    with processes(2, noisy_task) as crew:
        yield crew


def test_workers_train_bitwise_what_one_process_trains(workers):
    found, made = trained_by(workers)
    alone = fit(noisy_task(), PLANS)
    check_same_as_alone(found, alone)
    assert made == alone.updates_asked
    assert sum(one.updates_trained for one in found.values()) == alone.updates_trained


@pytest.mark.parametrize("executor", [None, InProcess()], ids=repr)
def test_an_executor_trains_bitwise_what_fit_trains(executor):
    check_trains_what_one_process_trains(executor)


def test_threads_train_one_at_a_time_and_leave_the_process_as_it_was():
    before, count = global_states(), torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        check_trains_what_one_process_trains(pool)
        assert pool.submit(int).result() == 0  # it stays the caller's
    assert (global_states(), torch.get_num_threads()) == (before, count)


@pytest.mark.slow
def test_a_pool_of_the_standard_library_trains_bitwise_what_fit_trains():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        check_trains_what_one_process_trains(pool)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(tmp_path):
    check_a_worker_may_be_killed_in_the_middle(Processes(2), tmp_path / "armed")


def test_plans_of_one_run_are_shared_out_where_workers_would_idle(workers):
    plans = [plan(0.02, 0, "step", step_size=k, gamma=g) for k in (1, 2) for g in (0.1, 0.5)]
    handed = []
    workers.fit(Job(plans, finished=lambda rows, history: handed.append(list(rows))))
    assert sorted(handed) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("capacity", [1, 4, 1000])
def test_parts_hold_every_plan_once_and_leave_no_worker_idle(workers, capacity):
    plans = [plan(lr, seed, "step", step_size=k, gamma=0.5) for lr in (0.1, 0.2) for seed in (0, 1)
             for k in (1, 2, 3)]  # fmt: skip
    found = list(parts(plans, capacity, workers))
    assert sorted(row for part in found for row in part) == list(range(len(plans)))
    assert len(found) >= min(workers, len(plans))
    assert max(map(len, found)) <= max(capacity, 3)
    if workers <= 4:  # as many as there are shared beginnings: none is trained twice
        for part in found:
            assert len(part) % 3 == 0


def test_what_the_task_raises_in_a_worker_is_one_line():
    with (
        processes(1, model=partial(Trips, 2)) as crew,
        pytest.raises(TaskFailed, match="training, the task raised RuntimeError: tripped"),
    ):
        crew.fit(Job(PLANS[:1]))


@pytest.mark.slow
def test_a_worker_that_always_dies_is_one_line():
    with (
        pytest.raises(TaskFailed, match=r"a worker died 3 times.*use fewer workers"),
        processes(1, build=dying),
    ):
        raise AssertionError


@pytest.mark.parametrize("count", [0, -1])
def test_workers_are_at_least_one(count):
    with pytest.raises(InvalidArgument, match=f"at least 1, but got {count}"):
        Processes(count)


@pytest.mark.parametrize(
    "given", ["ray", 4, InProcess, object()], ids=["text", "number", "type", "object"]
)
def test_what_is_no_executor_is_refused(given):
    with pytest.raises(InvalidArgument, match=r"executor must be InProcess\(\), .* but got"):
        executor_of(given or object())


NO_NUMBERS = [{"cpus": 0}, {"cpus": float("nan")}, {"gpus": 1.5}, {"gpus": -1}]


@pytest.mark.parametrize("numbers", NO_NUMBERS)
def test_numbers_that_no_worker_on_ray_can_have_are_refused(numbers):
    [(name, value)] = numbers.items()
    with pytest.raises(InvalidArgument, match=f"{name} must be .*{value}"):
        Ray(**numbers)


@pytest.mark.slow
def test_a_worker_that_died_between_two_uses_is_replaced():
    with processes(1) as crew:
        before, _ = trained_by(crew, PLANS[:1])
        for process in list(crew._engine._pool._processes):
            os.kill(process, signal.SIGKILL)
        time.sleep(1.0)
        after, _ = trained_by(crew, PLANS[:1])
    assert np.array_equal(before[0].train_loss, after[0].train_loss)


def test_an_object_that_cannot_be_sent_is_refused_in_one_line():
    task = linear_task(criterion=partial(held, threading.Lock()))
    with (
        pytest.raises(InvalidArgument, match=r"cannot be sent .*cannot pickle.*lock"),
        at_work(Processes(2), Setup(task)),
    ):
        raise AssertionError


def held(lock, output, target):
    with lock:
        return torch.nn.functional.mse_loss(output, target)


def test_code_that_a_worker_cannot_import_is_one_line(monkeypatch):
    gone = type(sys)("only_here")
    gone.criterion = type("Loss", (torch.nn.MSELoss,), {"__module__": "only_here"})
    gone.Loss = gone.criterion
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "only_here", gone)
        sent = Setup(linear_task(criterion=gone.Loss())).packed()
    error = prepared(sent)
    assert isinstance(error, InvalidArgument)
    assert "cannot import the task's code (No module named 'only_here')" in str(error)


def test_an_executor_that_was_shut_down_is_one_line():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with (
        pytest.raises(TaskFailed, match="the executor takes nothing to train: cannot schedule"),
        at_work(pool, Setup(linear_task())),
    ):
        raise AssertionError


def test_an_executor_that_does_not_say_how_many_workers_it_has_has_as_many_as_cores():
    assert workers_of(object()) == os.cpu_count()


def test_a_worker_with_a_share_of_a_card_holds_that_share_of_runs():
    setup = Setup(linear_task(), BatchedTrainer(most_runs=8))
    plans = [plan(0.01 * k, 0) for k in range(1, 9)]
    handed = []
    with ThreadPoolExecutor(1) as pool:
        crew = SubmittingCrew(_Engine(pool, setup.packed()), setup, share=0.25)
        crew.fit(Job(plans, finished=lambda rows, history: handed.append(len(rows))))
    assert handed == [2, 2, 2, 2]


def test_search_and_compare_find_the_same_with_workers(workers):
    task = noisy_task()
    space = Space(FAMILIES["step"], 0.001, 0.1, 0.02, task.epochs, 4)
    candidates = [Candidate(f"lr {lr}", lr, PLANS[0].schedule) for lr in (0.01, 0.02)]
    found = []
    for where in (InProcess(), workers):
        [result] = search(task, [space], trials=4, seeds=[0, 1], ask_size=4, executor=where)
        compared = compare(task, candidates, seeds=[5, 6], executor=where)
        found.append((sorted((t.lr, t.value) for t in result.trials), compared.runs))
    assert found[0] == found[1]


ORPHANS = """
import os, signal, sys, time
from functools import partial
from test_executors import PLANS, Job, processes
with processes(2) as crew:
    crew.fit(Job(PLANS))
    print(*crew._engine._pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_end_with_a_parent_that_is_killed():
    command = [sys.executable, "-c", ORPHANS]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=paths)
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [Path("/proc") / number for number in done.stdout.split()]
    end = time.monotonic() + 20
    while any(path.exists() for path in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert [path for path in workers if path.exists()] == []
