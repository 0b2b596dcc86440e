"""The model of time by which work is estimated and engines are chosen."""

import torch

from lrfinder.training.speed import Speed, Work, threads


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
