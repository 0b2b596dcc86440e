"""On an accelerator the runs are those of the processor."""

import numpy as np
import pytest
import torch
from small_tasks import linear_task, no_global_draw, noisy_task, plan, regression_rows
from torch import nn

from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
PLANS = [
    *(plan(0.02, seed, "step", step_size=k, gamma=0.5) for seed in (0, 1) for k in (1, 2)),
    plan(0.02, 0, "plateau", mode="min", factor=0.5, patience=0),
]
EVERY_TRAINER = pytest.mark.parametrize("make", [SequentialTrainer, BatchedTrainer])


def normalised() -> nn.Module:
    """A network with batch normalisation, whose runs draw no random numbers in training."""
    return nn.Sequential(
        nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)
    ).double()


@EVERY_TRAINER
@pytest.mark.parametrize("fields", [{}, {"model": normalised}, {"accumulate": 2, "clip_norm": 0.1}])
def test_an_accelerator_trains_what_the_processor_trains(make, fields):
    task: Task = linear_task(**fields)
    on_processor = fit(task, PLANS)
    with no_global_draw():
        on_device = fit(task, PLANS, trainer=make("cuda"))
    assert np.array_equal(on_device.lr, on_processor.lr)
    np.testing.assert_allclose(on_device.train_loss, on_processor.train_loss, rtol=1e-8)
    np.testing.assert_allclose(on_device.measures["loss"], on_processor.measures["loss"], rtol=1e-8)
    assert on_device.updates_trained == on_processor.updates_trained


@EVERY_TRAINER
def test_random_numbers_of_the_accelerator_are_each_runs_own(make):
    once, again = (fit(noisy_task(), PLANS, trainer=make("cuda")) for _ in range(2))
    assert np.array_equal(once.train_loss, again.train_loss)
    state = torch.cuda.get_rng_state()
    fit(noisy_task(), PLANS, trainer=make("cuda"))
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_a_range_test_reads_the_same_off_both():
    curves = [
        range_test(linear_task(), seeds=2, trainer=SequentialTrainer(d)) for d in ("cpu", "cuda")
    ]
    first, second = (curve.suggest() for curve in curves)
    assert first.lr == pytest.approx(second.lr, rel=1e-6)


def test_float16_on_an_accelerator_learns_and_its_forks_are_exact():
    task = linear_task(
        model=lambda: nn.Linear(4, 1),
        train=regression_rows(dtype=torch.float32),
        valid=regression_rows(41, seed=1, dtype=torch.float32),
        autocast=torch.float16,
    )
    trainer = SequentialTrainer("cuda")
    shared = fit(task, PLANS[:2], trainer=trainer)
    alone = [fit(task, [one], trainer=trainer) for one in PLANS[:2]]
    assert np.array_equal(shared.train_loss, np.concatenate([one.train_loss for one in alone]))
    assert (shared.measures["loss"][:, -1] < shared.measures["loss"][:, 0]).all()
