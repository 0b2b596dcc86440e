"""Worker processes give what one process gives."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_tasks import Trips, linear_task, noisy_task, plan

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.tasks.task import Task
from lrfinder.training.executors import Processes
from lrfinder.training.fit import fit
from lrfinder.training.sequential import SequentialTrainer

PLANS = [
    *(plan(0.02, seed, "step", step_size=k, gamma=0.5) for seed in (0, 1) for k in (1, 2)),
    plan(0.02, 0, "plateau", mode="min", factor=0.5, patience=0),
    plan(1e200, 1),
]


def problem(make, **fields) -> tuple[Task, SequentialTrainer]:
    sys.path.insert(0, str(Path(__file__).parent))
    return make(**fields), SequentialTrainer()


def dying() -> tuple[Task, SequentialTrainer]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture(scope="module")
def workers():
    with Processes(2, partial(problem, noisy_task)) as pool:
        yield pool


def test_workers_train_bitwise_what_one_process_trains(workers):
    found, made = {}, []
    workers.fit(
        PLANS,
        progress=made.append,
        finished=lambda rows, history: found.update(
            {row: history.only(place) for place, row in enumerate(rows)}
        ),
    )
    alone = fit(noisy_task(), PLANS)
    assert sum(made) == alone.updates_asked
    for row, one in enumerate(PLANS):
        assert found[row].plans == (one,)
        for name in ("lr", "train_loss", "diverged_at"):
            expected = getattr(alone, name)[row]
            assert np.array_equal(getattr(found[row], name)[0], expected, equal_nan=True)
        losses = found[row].measures["loss"][0], alone.measures["loss"][row]
        assert np.array_equal(*losses, equal_nan=True)
    assert sum(one.updates_trained for one in found.values()) == alone.updates_trained


def test_plans_of_one_run_are_shared_out_where_workers_would_idle(workers):
    plans = [plan(0.02, 0, "step", step_size=k, gamma=g) for k in (1, 2) for g in (0.1, 0.5)]
    handed = []
    workers.fit(plans, finished=lambda rows, history: handed.append(rows))
    assert sorted(handed) == [[0, 1], [2, 3]]


def test_workers_can_be_used_again(workers):
    handed = []
    for _ in range(2):
        workers.fit(PLANS[:1], finished=lambda rows, history: handed.append(history.train_loss))
    assert np.array_equal(*handed)


def test_what_the_task_raises_in_a_worker_is_one_line():
    with (
        Processes(1, partial(problem, linear_task, model=partial(Trips, 2))) as pool,
        pytest.raises(TaskFailed, match="training, the task raised RuntimeError: tripped"),
    ):
        pool.fit(PLANS[:1])


def test_a_worker_that_dies_is_one_line():
    with (
        Processes(1, dying) as pool,
        pytest.raises(TaskFailed, match=r"a worker process died.*fewer --workers"),
    ):
        pool.fit(PLANS[:1])


@pytest.mark.parametrize("count", [0, -1])
def test_workers_are_at_least_one(count):
    with pytest.raises(InvalidArgument, match=f"at least 1, but got {count}"):
        Processes(count, dying)


def test_a_worker_that_died_between_two_uses_is_one_line():
    with Processes(1, partial(problem, linear_task)) as pool:
        pool.fit(PLANS[:1])
        for process in list(pool._pool._processes):
            os.kill(process, signal.SIGKILL)
        time.sleep(1.0)
        with pytest.raises(TaskFailed, match="a worker process died"):
            pool.fit(PLANS[:1])


ORPHANS = """
import os, signal, sys, time
from functools import partial
from test_executors import PLANS, problem
from small_tasks import linear_task
from lrfinder.training.executors import Processes
with Processes(2, partial(problem, linear_task)) as pool:
    pool.fit(PLANS)
    print(*pool._pool._processes, flush=True)
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
