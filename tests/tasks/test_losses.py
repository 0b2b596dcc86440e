"""The loss that is trained, the loss that is compared, and what they are computed from."""

import numpy as np
import pytest
import torch
from small_tasks import absolute_error, linear_task, plan
from torch import nn

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.sequential import SequentialTrainer

TRAINERS = [SequentialTrainer, BatchedTrainer]
MEASURES = {"error": absolute_error}


def pair_loss(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def penalised(model, batch):
    return pair_loss(model, batch) + 0.5 * sum(p.square().sum() for p in model.parameters())


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_one_loss_is_trained_and_the_other_compared(trainer):
    both = linear_task(
        criterion=None, loss=penalised, valid_loss=pair_loss, metrics={"penalised": penalised}
    )
    trained = linear_task(criterion=None, loss=penalised, metrics={"plain": pair_loss})
    of_both = fit(both, [plan()], trainer=trainer())
    of_trained = fit(trained, [plan()], trainer=trainer())
    assert np.array_equal(of_both.train_loss, of_trained.train_loss)
    assert np.array_equal(of_both.measures["loss"], of_trained.measures["plain"])
    assert np.array_equal(of_both.measures["penalised"], of_trained.measures["loss"])


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_loss_is_not_computed_where_another_one_is_compared(trainer):
    seen = []

    def loss(output, target):
        seen.append(torch.is_grad_enabled())
        return nn.functional.mse_loss(output, target)

    task = linear_task(criterion=loss, valid_loss=nn.L1Loss())
    fit(task, [plan()], trainer=trainer())
    assert seen
    assert all(seen)


def test_a_range_test_reads_the_loss_that_is_compared():
    task = linear_task(valid_loss=lambda output, target: 1000 + absolute_error(output, target))
    curve = range_test(task, steps=20, probes=3)
    assert curve.loss[:, 0].min() > 1000
    assert curve.train_loss[:, 0].max() < 1000
    assert all(probe.loss > 1000 for probe in curve.probes)
    assert curve.unchecked is None  # it tells the targets of one row from those of another


def test_a_valid_loss_may_be_any_number():
    task = linear_task(valid_loss=lambda output, target: absolute_error(output, target).item())
    tensor = linear_task(valid_loss=absolute_error)
    values = [fit(one, [plan()], updates=1).measures["loss"] for one in (task, tensor)]
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("value", [None, torch.zeros(2)])
def test_a_valid_loss_that_is_not_one_number_is_refused_by_its_name(value, trainer):
    task = linear_task(valid_loss=lambda output, target: value)
    with pytest.raises(InvalidArgument, match="valid_loss must give one number, but got") as told:
        fit(task, [plan()], trainer=trainer())
    assert "\n" not in str(told.value)


def test_a_valid_loss_that_sums_is_said():
    task = linear_task(valid_loss=nn.MSELoss(reduction="sum"))
    assert any("valid_loss sums over rows" in note for note in task.data().notes())
