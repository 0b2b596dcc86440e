"""What holds of every executor, and a task whose worker is killed in the middle."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from small_tasks import linear_task, noisy_model, noisy_task, plan

from lrfinder.tasks.task import Task
from lrfinder.training.executors.choice import AnyExecutor, at_work
from lrfinder.training.executors.job import Crew, Job, Setup
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History
from lrfinder.training.trainers.sequential import SequentialTrainer

PLANS = [
    *(plan(0.02, seed, "step", step_size=k, gamma=0.5) for seed in (0, 1) for k in (1, 2)),
    plan(0.02, 0, "plateau", mode="min", factor=0.5, patience=0),
    plan(1e200, 1),
]


def trained_by(crew: Crew, plans=PLANS, then=lambda: None) -> tuple[dict[int, History], int]:
    """The History of every plan, handed out once, and the updates that were told of."""
    found, made = {}, []

    def finished(rows, history):
        for place, row in enumerate(rows):
            assert row not in found
            found[row] = history.only(place)
        then()

    crew.fit(Job(plans, progress=made.append, finished=finished))
    return found, sum(made)


def check_same_as_alone(found: dict[int, History], alone: History) -> None:
    assert sorted(found) == list(range(len(alone.plans)))
    for row, one in found.items():
        assert one.plans == (alone.plans[row],)
        for name in ("lr", "train_loss", "diverged_at"):
            expected = getattr(alone, name)[row]
            assert np.array_equal(getattr(one, name)[0], expected, equal_nan=True), name
        losses = one.measures["loss"][0], alone.measures["loss"][row]
        assert np.array_equal(*losses, equal_nan=True)


def check_trains_what_one_process_trains(executor: AnyExecutor) -> None:
    """Bit for bit, each plan once, and its updates told of; twice, with the same workers."""
    task = noisy_task()
    alone = fit(task, PLANS)
    with at_work(executor, Setup(task)) as crew:
        for _ in range(2):
            found, made = trained_by(crew)
            check_same_as_alone(found, alone)
            assert made == alone.updates_asked


@dataclass(frozen=True)
class Mortal:
    """A model factory that kills its process, once, after the file was made."""

    armed: str

    def __call__(self):
        try:
            os.unlink(self.armed)  # noqa: PTH108 (one process alone succeeds)
        except FileNotFoundError:
            return noisy_model()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def mortal_task(armed: Path) -> Task:
    return linear_task(model=Mortal(str(armed)))


def check_a_worker_may_be_killed_in_the_middle(executor: AnyExecutor, armed: Path) -> None:
    """What it held is trained by another; nothing is lost, doubled or other than alone."""
    plans = [plan(0.01 * k, seed) for k in (1, 2, 3) for seed in range(4)]
    task, killed = mortal_task(armed), []
    alone = fit(task, plans)

    def kill_one():
        if not killed:
            armed.touch()
            killed.append(True)

    with at_work(executor, Setup(task)) as crew:
        found, made = trained_by(crew, plans, then=kill_one)
    assert killed
    assert not armed.exists()
    check_same_as_alone(found, alone)
    assert made == alone.updates_asked


def dying() -> tuple[Task, SequentialTrainer]:
    """Builds a task, and ends the process that does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
