"""Measures of a whole set: evaluated by the task's own function, with either trainer."""

import numpy as np
import pytest
import torch
from small_tasks import absolute_error, linear_task, no_global_draw, noisy_task, plan
from torch import nn

import lrfinder
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

TRAINERS = [SequentialTrainer, BatchedTrainer]
PLANS = [plan(0.02, 0), plan(0.05, 0), plan(0.03, 1)]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_mean_computed_from_the_whole_set_is_that_of_its_batches(trainer):
    valid = linear_task().valid
    x, y = valid.tensors

    def evaluate(model):
        return {"whole": absolute_error(model(x), y).item(), "mse": ((model(x) - y) ** 2).mean()}

    for made in (linear_task, noisy_task):
        task = made(metrics={"error": absolute_error}, evaluate=evaluate)
        assert task.measures == ("loss", "error", "whole", "mse")
        found = fit(task, PLANS, trainer=trainer()).measures
        assert found["whole"] == pytest.approx(found["error"], rel=1e-12)
        assert found["mse"] == pytest.approx(found["loss"], rel=1e-12)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_evaluating_changes_nothing_whatever_mode_and_random_state_it_leaves(trainer):
    modes = []

    def evaluate(model):
        modes.append((model.training, torch.is_grad_enabled()))
        model.train()
        return {"drawn": torch.rand(()), "output": model(torch.ones(2, 4).double()).sum()}

    task, plain = noisy_task(evaluate=evaluate), noisy_task()
    with no_global_draw():
        found = fit(task, PLANS, trainer=trainer())
        expected = fit(plain, PLANS, trainer=trainer())
    assert np.array_equal(found.train_loss, expected.train_loss)
    assert np.array_equal(found.measures["loss"], expected.measures["loss"])
    assert len(set(found.measures["drawn"].ravel())) == 1
    assert set(modes) == {(False, False)}


def test_a_range_test_does_not_call_it():
    def evaluate(model):
        raise AssertionError

    curve = range_test(linear_task(evaluate=evaluate), steps=10)
    assert curve.metrics == {}


def test_it_may_be_the_objective(tmp_path):
    valid = linear_task().valid

    def evaluate(model):
        return {"worst": (model(valid.tensors[0]) - valid.tensors[1]).abs().max()}

    run = lrfinder.run(
        linear_task(evaluate=evaluate),
        families=["constant"],
        objective="worst",
        direction="minimize",
        trials=2,
        lr=0.03,
        confirm_seeds=2,
        out=tmp_path / "run",
    )
    assert run.comparison.measure == "worst"
    assert "worst" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "whole = evaluate_whole(model)" in (tmp_path / "run" / "best_schedule.py").read_text(
        encoding="utf-8"
    )


BAD = {
    "nothing": (lambda model: None, "must return a dict .* return the values at the end"),
    "a number": (lambda model: 0.5, "must return a dict of numbers by name"),
    "a taken name": (lambda model: {"valid_loss": 1.0}, "evaluate: the name 'valid_loss' is taken"),
    "a metric's name": (lambda model: {"error": 1.0}, "the name 'error' is that of a metric"),
    "a list": (lambda model: {"f1": [1, 2]}, "metric 'f1' must give one number"),
}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("kind", BAD)
def test_what_it_must_return_is_told_in_one_line(kind, trainer):
    evaluate, says = BAD[kind]
    task = linear_task(metrics={"error": absolute_error}, evaluate=evaluate)
    with pytest.raises(InvalidArgument, match=says) as told:
        fit(task, [plan()], trainer=trainer())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_other_measures_than_at_first_are_refused(trainer):
    calls = []

    def evaluate(model):
        calls.append(1)
        return {"f1": 0.5} if len(calls) < 3 else {"f1": 0.5, "auc": 0.5}

    with pytest.raises(InvalidArgument, match="the same measures, here f1, but got f1, auc"):
        fit(linear_task(evaluate=evaluate), [plan()], trainer=trainer())


@pytest.mark.parametrize("trainer", TRAINERS)
def test_what_it_raises_for_broken_weights_only_is_a_divergence(trainer):
    """As scikit-learn does, which takes no nan."""

    def evaluate(model):
        size = sum(p.abs().sum().item() for p in model.parameters())
        if not size < 50:
            raise ValueError("Input contains NaN")
        return {"size": size}

    task = linear_task(evaluate=evaluate)
    found = fit(task, [plan(0.02), plan(30.0)], trainer=trainer())
    assert np.isfinite(found.measures["size"][0]).all()
    assert "Input contains NaN" in (found.raised[1] or "")


@pytest.mark.parametrize("trainer", TRAINERS)
def test_what_it_raises_later_whatever_the_lr_is_the_tasks_failure(trainer):
    calls = []

    def evaluate(model):
        calls.append(1)
        if len(calls) > 2:
            raise ValueError("no such file")
        return {"f1": 0.5}

    with pytest.raises(TaskFailed, match="evaluating, the task raised ValueError: no such file"):
        fit(linear_task(evaluate=evaluate), [plan()], trainer=trainer())


def test_modules_with_shapes_to_come_are_evaluated():
    task = linear_task(
        model=lambda: nn.LazyLinear(1, dtype=torch.float64),
        evaluate=lambda model: {"mean": model(torch.ones(1, 4).double()).mean()},
    )
    assert np.isfinite(fit(task, [plan()]).measures["mean"]).all()
