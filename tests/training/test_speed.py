"""The model of time by which work is estimated and engines are chosen."""

import time

import pytest
import torch
from small_tasks import linear_task
from torch import nn

from lrfinder.training.speed import Speed, Work, measure_speed, threads
from lrfinder.training.trainers.sequential import SequentialTrainer


def test_work_takes_its_updates_its_evaluations_and_its_trials():
    speed = Speed(seconds_per_update=0.5, seconds_per_evaluation=3.0)
    assert Work(2, 10, 4).seconds(speed) == 2 * (10 * 0.5 + 4 * 3.0)
    assert Work(2, 10, 0).seconds(speed) == 2 * 10 * 0.5
    with_trials = Work(2, 10, 4, overhead=7.0).seconds(speed)
    assert with_trials == Work(2, 10, 4).seconds(speed) + 7.0


def test_threads_come_back_also_when_the_block_raises():
    before = torch.get_num_threads()
    try:
        with threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise RuntimeError
    except RuntimeError:
        pass
    assert torch.get_num_threads() == before


class SlowAtFirst(nn.Linear):
    """Takes its time when a mode is used for the first time, as a model that is compiled does."""

    def __init__(self):
        super().__init__(4, 1, dtype=torch.double)

    def forward(self, x):
        if self.training not in SEEN:
            SEEN.add(self.training)
            time.sleep(1.2)
        return super().forward(x)


SEEN: set[bool] = set()


@pytest.mark.parametrize("on_subset", [True, False])
def test_what_is_compiled_first_does_not_count_as_an_update_or_an_evaluation(on_subset):
    SEEN.clear()
    measured = measure_speed(
        linear_task(model=SlowAtFirst), SequentialTrainer(), 1, 1, on_subset=on_subset
    )
    assert {True, False} == SEEN
    assert measured.wall.seconds_per_update < 0.3
    assert measured.wall.seconds_per_evaluation < 0.3
