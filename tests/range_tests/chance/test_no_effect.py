"""An lr without effect, and seeds without effect, are told and never read as an answer."""

import math
from dataclasses import replace

import pytest
import torch
from small_tasks import linear_model, linear_task, momentum, regression_rows
from torch import nn
from torch.utils.data import DataLoader

import lrfinder
from lrfinder.range_tests.curve import NO_EFFECT, SEEDS_ALIKE
from lrfinder.range_tests.limits import Limits
from lrfinder.range_tests.range_test import range_test
from lrfinder.range_tests.trainings import Trainings
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.trainers.sequential import SequentialTrainer

TRAINERS = [SequentialTrainer(), BatchedTrainer()]


def own_lr(value: float) -> type[torch.optim.Optimizer]:
    class OwnLR(torch.optim.SGD):
        """Gradient descent that steps with an lr of its own, whatever its groups say."""

        def step(self, closure=None):
            asked = [group["lr"] for group in self.param_groups]
            for group in self.param_groups:
                group["lr"] = value
            super().step()
            for group, lr in zip(self.param_groups, asked, strict=True):
                group["lr"] = lr

    return OwnLR


def own_task(value: float, **fields) -> Task:
    kind = own_lr(value)
    return linear_task(optimizer=lambda m, lr: kind(m.parameters(), lr), **fields)


@pytest.mark.parametrize("probes", [0, 3, 8])
@pytest.mark.parametrize("value", [0.0, 1e-4, 0.01, 0.1])
@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.slow
def test_an_optimizer_that_sets_its_own_lr_is_found_out(trainer, value, probes):
    found = range_test(own_task(value), seeds=2, steps=30, probes=probes, trainer=trainer).suggest()
    assert found.verdict == "inconclusive"
    assert found.lr is None
    assert found.reason == NO_EFFECT


@pytest.mark.parametrize("every", ["batch", "epoch"])
@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.slow
def test_an_lr_that_matters_is_not_suspected(trainer, every):
    for fields in ({}, {"probes": 0}, {"max_lr": 1e-5}, {"min_lr": 1.0, "max_lr": 2.0}):
        curve = range_test(linear_task(), seeds=1, every=every, trainer=trainer, **fields)
        assert curve.lr_matters


def test_probes_that_all_diverged_do_not_say_that_the_lr_has_no_effect():
    curve = range_test(linear_task(), seeds=1, steps=20, probes=3)
    lost = tuple(replace(probe, loss=math.nan) for probe in curve.probes)
    test = Trainings(
        linear_task(), (0,), 20, "batch", "exponential", None, None, Limits(None), probes=3
    )
    assert test.differ(replace(curve, probes=lost))
    alike = tuple(replace(probe, loss=1.0) for probe in curve.probes)
    assert not test.differ(replace(curve, probes=alike))


def seeded_model() -> nn.Module:
    torch.manual_seed(3)
    return linear_model()


def test_seeds_that_do_nothing_are_told_and_count_as_one():
    task = linear_task(model=seeded_model, train=DataLoader(list(regression_rows()), 16))
    curve = range_test(task, seeds=3, steps=40)
    assert curve.seeds_alike
    suggestion, alone = curve.suggest(), range_test(task, seeds=1, steps=40).suggest()
    assert SEEDS_ALIKE in suggestion.reason
    assert (suggestion.lr, suggestion.low, suggestion.high) == (alone.lr, alone.low, alone.high)
    mixed = linear_task(model=seeded_model)
    assert not range_test(mixed, seeds=2, steps=20).seeds_alike


def all_right(output, target):
    return torch.ones(())


def test_a_metric_that_is_perfect_in_every_run_is_no_lr_without_effect(tmp_path):
    task = linear_task(metrics={"accuracy": all_right})
    run = lrfinder.run(task, out=tmp_path / "r", progress=False, objective="accuracy", **OPTIONS)
    assert not {NO_EFFECT, SEEDS_ALIKE} & {*run.answers.notes}


OPTIONS = {"families": ["step"], "lr": 0.02, "trials": 2, "trial_seeds": 1, "confirm_seeds": 2}


@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_a_run_notes_what_makes_no_difference(tmp_path, engine):
    tasks = {
        NO_EFFECT: own_task(0.01),
        SEEDS_ALIKE: linear_task(
            model=seeded_model,
            optimizer=momentum,
            train=DataLoader(list(regression_rows()), 16),
        ),
    }
    for number, (note, task) in enumerate(tasks.items()):
        path = tmp_path / str(number)
        run = lrfinder.run(task, out=path, progress=False, engine=engine, **OPTIONS)
        assert note in run.answers.notes
        assert note in (path / "report.md").read_text()
        assert sum(text in run.answers.notes for text in (NO_EFFECT, SEEDS_ALIKE)) == 1
