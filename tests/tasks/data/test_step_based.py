"""Tasks whose batches are drawn by a function, and whose length is told in updates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tasks import linear_model, linear_task, no_global_draw, plain_sgd, plan, regression_rows
from torch import nn

from lrfinder.errors import InvalidArgument
from lrfinder.experiment import Experiment
from lrfinder.range_tests.range_test import range_test
from lrfinder.settings import RunSettings
from lrfinder.tasks.fields.lengths import in_epochs
from lrfinder.tasks.fingerprint import fingerprint
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

ROWS = {"train": regression_rows(), "val": regression_rows(41, seed=1)}


def get_batch(split, size=16):
    chosen = torch.randint(len(ROWS[split]), (size,))
    x, y = ROWS[split].tensors
    return x[chosen], y[chosen]


def train_batch():
    return get_batch("train")


def valid_batch():
    return get_batch("val")


def drawn_task(**fields):
    given = {"train": None, "valid": None, "batches": train_batch, "valid_batches": valid_batch}
    return linear_task(**{**given, "updates": 12, "epochs": 3, **fields})


def test_an_epoch_is_what_lies_between_two_evaluations():
    task = drawn_task(updates=100, epochs=10)
    assert (task.epochs, task.steps_per_epoch, task.per) == (10, 10, "batch")
    history = fit(task, [plan()])
    assert history.evaluated_at.tolist() == list(range(0, 101, 10))
    assert drawn_task(updates=60, steps_per_epoch=20, epochs=10).epochs == 3


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
def test_what_is_drawn_is_a_function_of_the_seed(trainer):
    with no_global_draw():
        runs = [plan(seed=0), plan(seed=1), plan(0.01, seed=0)]
        first, again = (fit(drawn_task(), runs, trainer=trainer()) for _ in range(2))
        alone = fit(drawn_task(), runs[1:2])
    assert np.array_equal(first.train_loss, again.train_loss)
    assert first.train_loss[1] == pytest.approx(alone.train_loss[0], rel=1e-9)
    assert first.measures["loss"][1] == pytest.approx(alone.measures["loss"][0], rel=1e-9)
    assert first.train_loss[0, 0] == pytest.approx(first.train_loss[2, 0])  # the same batch
    assert first.train_loss[0, 1] != first.train_loss[0, 0]


def test_a_generator_of_the_functions_own_follows_the_seed_and_stands_where_it_stood():
    numbers = np.random.default_rng(3)

    def draw():
        chosen = torch.tensor(numbers.integers(60, size=16))
        return tuple(t[chosen] for t in ROWS["train"].tensors)

    before = numbers.bit_generator.state
    first, again = (fit(drawn_task(batches=draw), [plan()]).train_loss for _ in range(2))
    assert np.array_equal(first, again)
    assert numbers.bit_generator.state == before


def test_batches_are_handed_on_as_they_came():
    seen = []

    def loss(model, batch):
        seen.append(type(batch["x"]))
        return (model(torch.as_tensor(batch["x"])) ** 2).mean()

    task = drawn_task(
        batches=lambda: {"x": np.ones((3, 4)), "t": torch.ones(3)},
        valid_batches=None,
        valid=None,
        criterion=None,
        loss=loss,
    )
    range_test(task, steps=8, probes=0)
    assert set(seen) == {np.ndarray}


def test_all_runs_are_evaluated_on_the_same_batches():
    drawn = []

    def draw():
        drawn.append(valid_batch())
        return drawn[-1]

    task = drawn_task(valid_batches=draw, valid_size=5, model=lambda: nn.Linear(4, 1).double())
    batches = list(task.data().valid)
    assert len(batches) == 5
    again = list(drawn_task(valid_size=5).data().valid)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))


def test_a_range_test_suggests_and_is_checked_against_noise():
    curve = range_test(drawn_task(updates=400, epochs=10), steps=40, probes=3)
    assert curve.unchecked is None
    assert curve.suggest().lr is not None


def test_schedules_are_stepped_per_batch_unless_asked_otherwise():
    for asked, per in ((None, "batch"), ("epoch", "epoch"), ("batch", "batch")):
        one = Experiment(RunSettings(task="drawn", families=["step"], per=asked), drawn_task())
        assert one.settings.per == per
        assert {space.per for space in one.spaces(None)[0]} == {per}
    epochs = Experiment(RunSettings(task="plain", families=["step"]), linear_task())
    assert epochs.settings.per == "epoch"


def test_other_epochs_are_other_updates():
    task = drawn_task().trained_for(5)
    assert (task.epochs, task.updates, task.steps_per_epoch, task.per) == (5, 20, 4, "batch")
    assert linear_task().trained_for(5).updates is None


def test_a_field_that_is_replaced_is_taken():
    task = drawn_task()
    assert len(list(replace(task, valid_size=5).data().valid)) == 5
    ones = replace(task, batches=lambda: (torch.ones(2, 4), torch.ones(2, 1)))
    assert torch.equal(next(ones.data().source.epoch(0, 0))[0], torch.ones(2, 4))
    assert replace(task, name="other").train is task.train


def test_updates_of_a_data_set_go_on_from_one_pass_to_the_next():
    task = linear_task(updates=10, epochs=2)
    assert fit(task, [plan()]).train_loss.shape == (1, 10)


def test_live_objects_are_trained_on_drawn_batches():
    model = linear_model()
    task = Task.from_objects(
        model, plain_sgd(model, 0.1), nn.MSELoss(), batches=train_batch, updates=20
    )
    assert fit(task, [plan()], evaluate_on=task.data().fixed_subset).train_loss.shape == (1, 20)


def test_other_batches_are_another_problem():
    own, same, other = (
        fingerprint(drawn_task(batches=draw), None)
        for draw in (train_batch, lambda: get_batch("train"), valid_batch)
    )
    assert own["training data"].alike(same["training data"])
    assert not own["training data"].alike(other["training data"])


@given(st.integers(1, 2000), st.integers(1, 40), st.booleans())
def test_the_updates_that_are_advised_are_taken(updates, part, by_steps):
    arguments = (part, 10) if by_steps else (None, part)
    try:
        steps, epochs = in_epochs(updates, *arguments)
    except InvalidArgument as error:
        advised = int(str(error).rpartition("=")[2])
        steps, epochs = in_epochs(advised, *arguments)
        updates = advised
    assert steps * epochs == updates


BAD = {
    "no length": ({"updates": None}, "batches have no end.*Task\\(updates="),
    "a fraction of an epoch": ({"updates": 13}, "a multiple of epochs.*updates=13.*updates=12"),
    "a fraction of the steps": ({"updates": 13, "steps_per_epoch": 5}, "take updates=15"),
    "three lengths": ({"steps_per_epoch": 2, "epochs": 3}, "are 6 epochs, but got epochs=3"),
    "both data": ({"train": ROWS["train"]}, "train and batches exclude each other"),
    "both validation data": ({"valid": ROWS["val"]}, "valid and valid_batches exclude"),
    "an argument": (
        {"batches": get_batch},
        "without arguments, but got one of .split, size.*lambda",
    ),
    "a data set": ({"batches": ROWS["train"]}, "batches must be a function.*TensorDataset"),
    "no batches": ({"valid_size": 0}, "valid_size must be a whole number of at least 1"),
    "no updates": ({"updates": 0}, "updates must be a whole number of at least 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_drawn_is_told_in_one_line(kind):
    fields, says = BAD[kind]
    with pytest.raises(InvalidArgument, match=says) as told:
        drawn_task(**fields)
    assert "\n" not in str(told.value)
