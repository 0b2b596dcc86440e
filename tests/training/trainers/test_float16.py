"""Training in float16: the loss is scaled, and the run is the one that is written by hand."""

import numpy as np
import pytest
import torch
from small_tasks import linear_task, plan, regression_rows
from torch import nn

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.fields.measures import forward_of_pair
from lrfinder.tasks.state.random_states import Stream
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.engine import choose
from lrfinder.training.fit import fit
from lrfinder.training.speed import Work
from lrfinder.training.trainers.sequential import SequentialTrainer

LRS = np.full((1, 12, 1), 0.02)


def half_task(**fields):
    given = {
        "model": lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)),
        "train": regression_rows(dtype=torch.float32),
        "valid": regression_rows(41, seed=1, dtype=torch.float32),
        "autocast": torch.float16,
    }
    return linear_task(**{**given, **fields})


def by_hand(task, seed, *, lr):
    """The losses and the weights of torch's own recipe, on the batches of the seed."""
    with Stream(seed, torch.device("cpu")).active():
        model = task.model()
    optimizer, scaler = task.optimizer(model, lr), torch.amp.GradScaler("cpu")
    losses = []
    for epoch in range(task.epochs):
        batches = list(task.data().source.epoch(seed, epoch))
        for k in range(0, len(batches), task.accumulate):
            group = batches[k : k + task.accumulate]
            optimizer.zero_grad()
            total = 0.0
            for batch in group:
                with torch.autocast("cpu", torch.float16):
                    loss = task.criterion(forward_of_pair(model, batch), batch[1]) / len(group)
                scaler.scale(loss).backward()
                total += loss.item()
            if task.clip_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), task.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            losses.append(total)
    return losses, scaler.get_scale()


@pytest.mark.parametrize("fields", [{}, {"clip_norm": 0.5}, {"accumulate": 2, "clip_norm": 0.5}])
def test_a_run_is_torchs_own_recipe_bit_for_bit(fields):
    task = half_task(**fields)
    losses, scale = by_hand(task, 0, lr=0.02)
    assert fit(task, [plan(0.02)]).train_loss[0].tolist() == losses
    assert np.isfinite(scale)


def steep(output, target):
    """A loss whose scaled gradient is too large for float16 at first."""
    return 100 * nn.functional.mse_loss(output, target)


def test_updates_that_overflow_are_left_out_and_the_scale_falls():
    task = half_task(criterion=steep)
    losses, scale = by_hand(task, 0, lr=1e-4)
    assert scale < 65536
    history = fit(task, [plan(1e-4)])
    assert history.train_loss[0].tolist() == losses
    assert history.diverged_at.tolist() == [-1]


def test_a_fork_goes_on_with_the_scale_of_its_run():
    task, trainer = half_task(criterion=steep), SequentialTrainer()
    state = trainer.start(task, [0], [1e-4])
    trainer.advance(state, LRS[:, :6] * 0.005)
    twin = trainer.fork(state, [0])
    scales = [one.runs[0].scaler.get_scale() for one in (state, twin)]
    assert scales[0] == scales[1] < 65536
    assert twin.runs[0].scaler is not state.runs[0].scaler
    ends = [trainer.advance(one, LRS[:, :6] * 0.005) for one in (twin, state)]
    assert np.array_equal(ends[0], ends[1])


def test_it_is_not_batched_and_says_why():
    task = half_task()
    with pytest.raises(InvalidArgument, match="float16 needs a gradient scaler of its own") as told:
        fit(task, [plan()], trainer=BatchedTrainer())
    assert "\n" not in str(told.value)
    many = Work(10_000, 10_000, 10)
    assert "float16 needs a gradient scaler" in choose(task, None, many).reason


def test_a_range_test_in_float16_suggests():
    assert range_test(half_task(epochs=60), steps=40, probes=3).suggest().lr is not None
