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
from lrfinder.training.trainers.sequential import SequentialTrainer

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


def forward(model, batch):
    return model(batch[0])


def output_loss(output, batch):
    return nn.functional.mse_loss(output, batch[1])


class Counted(nn.Linear):
    """A linear model that counts its forward passes, of all its copies together."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_forward_pass_serves_the_loss_and_every_metric(trainer):
    def error(output, batch):
        return absolute_error(output, batch[1])

    def of_pair(function):
        return lambda model, batch: function(model(batch[0]), batch)

    once = {"loss": output_loss, "valid_loss": error, "metrics": {"a": error, "b": error}}
    each = {
        "loss": of_pair(output_loss),
        "valid_loss": of_pair(error),
        "metrics": {"a": of_pair(error), "b": of_pair(error)},
    }
    shared = linear_task(criterion=None, forward=forward, **once)
    apart = linear_task(criterion=None, **each)
    of_shared, of_apart = (fit(one, [plan()], trainer=trainer()) for one in (shared, apart))
    assert np.array_equal(of_shared.train_loss, of_apart.train_loss)
    for name in ("loss", "a", "b"):
        assert np.array_equal(of_shared.measures[name], of_apart.measures[name])


def test_the_model_is_called_once_a_batch():
    metrics = {name: lambda output, batch: output.mean() for name in "abc"}
    fields = {"criterion": None, "forward": forward, "loss": output_loss, "metrics": metrics}
    task = linear_task(model=lambda: Counted(4, 1, dtype=torch.float64), **fields)
    task.data().valid  # noqa: B018 (opened before anything is counted)
    Counted.calls = 0
    fit(task, [plan()], updates=3, evaluate_every=3)
    assert Counted.calls == 3 + 2  # updates, and evaluations of one batch


def test_a_range_test_with_a_forward_is_checked_against_noise():
    task = linear_task(criterion=None, forward=forward, loss=output_loss)
    assert range_test(task, steps=20, probes=3).unchecked is None
