"""Worker processes give what one process gives."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tasks import Trips, linear_task, noisy_task, plan

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.task import Task
from lrfinder.training.fit import fit
from lrfinder.training.sequential import SequentialTrainer
from lrfinder.training.workers import Workers

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
    with Workers(2, partial(problem, noisy_task)) as pool:
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


def test_workers_can_be_used_again(workers):
    handed = []
    for _ in range(2):
        workers.fit(PLANS[:1], finished=lambda rows, history: handed.append(history.train_loss))
    assert np.array_equal(*handed)


def test_what_the_task_raises_in_a_worker_is_one_line():
    with (
        Workers(1, partial(problem, linear_task, model=partial(Trips, 2))) as pool,
        pytest.raises(TaskFailed, match="training, the task raised RuntimeError: tripped"),
    ):
        pool.fit(PLANS[:1])


def test_a_worker_that_dies_is_one_line():
    with (
        Workers(1, dying) as pool,
        pytest.raises(TaskFailed, match=r"a worker process died.*fewer --workers"),
    ):
        pool.fit(PLANS[:1])


@pytest.mark.parametrize("count", [0, -1])
def test_workers_are_at_least_one(count):
    with pytest.raises(InvalidArgument, match=f"at least 1, but got {count}"):
        Workers(count, dying)
