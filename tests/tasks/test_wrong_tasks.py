"""What a task cannot be is said in one line, with what to write instead."""

import pytest
import torch
from small_tasks import linear_task
from torch import nn

from lrfinder import Task, range_test
from lrfinder.errors import InvalidArgument


def frozen():
    return nn.Linear(4, 1, dtype=torch.double).requires_grad_(False)


def partly_on_meta():
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1, device="meta"))


def with_a_buffer_on_meta():
    return nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1, affine=False, device="meta"))


class OfModel(torch.optim.SGD):
    """An optimizer whose class is a factory itself."""

    def __init__(self, model, lr):
        super().__init__(model.parameters(), lr)


AN_OPTIMIZER = torch.optim.Adam(nn.Linear(1, 1).parameters())
GIVEN = {
    "an optimizer": (
        {"optimizer": AN_OPTIMIZER},
        r"got an optimizer; write optimizer=lambda model, lr: Adam\(model.parameters\(\), lr\)",
    ),
    "its class": (
        {"optimizer": torch.optim.SGD},
        r"got the class SGD; write optimizer=lambda model, lr: SGD\(model.parameters\(\), lr\)",
    ),
    "class of a criterion": ({"criterion": nn.MSELoss}, r"class MSELoss; write MSELoss\(...\)"),
    "class of a valid_loss": (
        {"valid_loss": nn.L1Loss},
        r"valid_loss must be .* class L1Loss; write L1Loss\(...\)",
    ),
    "class of a metric": (
        {"metrics": {"error": nn.L1Loss}},
        r"metrics\['error'\] must be .* class L1Loss; write L1Loss\(...\)",
    ),
}
BUILT = {
    "frozen": (frozen, "hold a parameter that requires a gradient, but got 2 that do not"),
    "meta": (lambda: nn.Linear(4, 1, device="meta"), "'weight' is on the meta device"),
    "partly meta": (partly_on_meta, "'1.weight' is on the meta device"),
    "meta buffer": (with_a_buffer_on_meta, "'1.running_mean' is on the meta device"),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_what_is_given_in_place_of_a_function_is_refused_with_what_to_write(kind):
    fields, message = GIVEN[kind]
    with pytest.raises(InvalidArgument, match=message):
        linear_task(**fields)


def test_a_class_that_is_a_factory_or_a_function_is_one():
    def metric(output, target):
        return (output - target).abs().mean()

    task = linear_task(optimizer=OfModel, metrics={"error": metric})
    assert task.prototype.optimizer == "OfModel"
    assert isinstance(task, Task)


@pytest.mark.parametrize("kind", BUILT)
def test_a_model_that_cannot_be_trained_is_refused_before_anything_trains(kind):
    model, message = BUILT[kind]
    with pytest.raises(InvalidArgument, match=message):
        range_test(linear_task(model=model))


def test_a_frozen_base_beside_what_is_trained_is_none():
    def lora():
        base = frozen()
        return nn.Sequential(base, nn.Linear(1, 1, dtype=torch.double))

    assert linear_task(model=lora).prototype.trainable == 2
