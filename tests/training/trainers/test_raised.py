"""What the task raises at a high lr is a divergence; else what it raises is its failure."""

import numpy as np
import optuna
import pytest
import torch
from small_tasks import CONSTANT, Trips, linear_model, linear_task, no_global_draw, plain_sgd, plan
from torch import nn

import lrfinder
from lrfinder.errors import TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.results.folder import own_storage
from lrfinder.results.range_test_facts import RangeTestFacts
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

TRAINERS = [SequentialTrainer, BatchedTrainer]
HIGH, LOW = 3.0, 1e-3


class Solves(nn.Module):
    """A linear model that decomposes a matrix, which only small weights leave positive definite."""

    def __init__(self, dropout: float = 0.0, mode: str = "always") -> None:
        super().__init__()
        self.layer = linear_model()
        self.dropout, self.mode = dropout, mode

    def forward(self, x):
        if self.mode == "always" or (self.mode == "training") == self.training:
            size = 1e-4 * self.layer.weight.square().sum()
            torch.linalg.cholesky((1 - size) * torch.eye(2, dtype=x.dtype))
        return self.layer(nn.functional.dropout(x, self.dropout, self.training))


def solving(**given):
    epochs = given.pop("epochs", 10)
    return linear_task(model=lambda: Solves(**given), optimizer=plain_sgd, epochs=epochs)


def refusing(error: type[BaseException], message: str = "too large"):
    """A loss that refuses large weights."""

    def loss(model, batch):
        if float(model.weight.detach().abs().max()) > 50:
            raise error(message)
        return (model(batch[0]) - batch[1]).square().mean()

    return linear_task(criterion=None, loss=loss, optimizer=plain_sgd, epochs=10)


PLANS = [Plan(lr, CONSTANT, seed) for seed in (0, 1) for lr in (HIGH, LOW)]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("mode", ["always", "training", "evaluating"])
def test_a_solver_that_gives_up_is_a_divergence_and_changes_no_other_run(trainer, mode, dropout):
    task = solving(mode=mode, dropout=dropout)
    with no_global_draw():
        history = fit(task, PLANS, trainer=trainer())
    assert (history.diverged_at[::2] >= 1).all()
    assert (history.diverged_at[1::2] == -1).all()
    for high, low in ((0, 1), (2, 3)):
        assert "at lr 3 " in history.raised[high]
        assert "linalg.cholesky" in history.raised[high]
        assert history.raised[low] is None
        alone = fit(task, [PLANS[low]], trainer=SequentialTrainer())
        np.testing.assert_allclose(history.train_loss[low], alone.train_loss[0], rtol=1e-9)
        np.testing.assert_allclose(history.measures["loss"][low], alone.measures["loss"][0])
    assert all(outcome.diverged == (k % 2 == 0) for k, outcome in enumerate(history.outcomes()))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_all_runs_of_a_population_may_raise(trainer):
    history = fit(solving(), [plan(HIGH), plan(2 * HIGH)], trainer=trainer())
    assert (history.diverged_at >= 1).all()
    assert None not in history.raised


@pytest.mark.parametrize("error", [RuntimeError, ValueError, ArithmeticError, AssertionError])
def test_exceptions_of_computations_are_divergences(error):
    history = fit(refusing(error), [plan(HIGH)])
    assert history.diverged_at[0] >= 1
    assert error.__name__ in history.raised[0]


OWN = [TypeError, AttributeError, NameError, ImportError, MemoryError, OSError, SystemExit]


@pytest.mark.parametrize("error", OWN)
def test_mistakes_and_want_of_memory_are_the_tasks_failure(error):
    with pytest.raises(TaskFailed, match=error.__name__):
        fit(refusing(error), [plan(HIGH)])


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), RuntimeError("CUDA error: out of memory")]
)
def test_want_of_an_accelerators_memory_is_the_tasks_failure(error):
    with pytest.raises(TaskFailed, match=type(error).__name__):
        fit(refusing(type(error), str(error)), [plan(HIGH)])


def test_an_interrupt_is_none():
    with pytest.raises(KeyboardInterrupt):
        fit(refusing(KeyboardInterrupt), [plan(HIGH)])


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("lr", [HIGH, LOW])
def test_what_training_at_no_lr_raises_too_is_the_tasks_failure(at, lr):
    with pytest.raises(TaskFailed, match="RuntimeError: tripped"):
        fit(linear_task(model=lambda: Trips(at)), [plan(lr)])


def test_a_batch_that_raises_with_the_initial_weights_is_the_tasks_failure():
    def loss(model, batch):
        if 7.0 in batch[1]:
            raise ValueError("seven")
        return (model(batch[0]) - batch[1]).square().mean()

    task = linear_task(criterion=None, loss=loss)
    task.train.tensors[1][7] = 7.0
    with pytest.raises(TaskFailed, match="ValueError: seven"):
        fit(task, [plan(HIGH)])


def test_a_metric_that_raises_is_a_divergence_too():
    def metric(output, target):
        if float(output.abs().max()) > 1e4:
            raise ValueError("input contains infinity")
        return output.mean()

    history = fit(linear_task(metrics={"m": metric}, epochs=10), [plan(HIGH), plan(LOW)])
    assert history.diverged_at[0] >= 1
    assert history.diverged_at[1] == -1


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("every", ["batch", "epoch"])
def test_a_range_test_answers_and_tells(trainer, every):
    task = solving(epochs=3)
    curve = range_test(task, steps=40, seeds=2, every=every, probes=3, trainer=trainer())
    assert np.isfinite(curve.diverged_at).all()
    assert "which count as diverged" in curve.notes[0]
    suggestion = curve.suggest()
    assert suggestion.lr is not None
    assert "linalg.cholesky" in suggestion.reason
    assert RangeTestFacts.of(curve).notes == curve.notes


@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_a_study_keeps_such_trials_complete_and_the_report_tells(tmp_path, engine):
    options = {"families": ["step"], "trials": 2, "trial_seeds": 1, "confirm_seeds": 2}
    task = solving(epochs=3)
    run = lrfinder.run(
        task, out=tmp_path / "r", engine=engine, lr_range=(1e-3, 5e4), progress=False, **options
    )
    storage = own_storage(tmp_path / "r")
    trials = [
        trial
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]
    raised = [trial for trial in trials if "raised" in trial.user_attrs]
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
    assert raised
    assert all(trial.user_attrs["diverged"] for trial in raised)
    assert any("as diverged" in note for note in run.summary["notes"])
    assert "as diverged" in (tmp_path / "r" / "report.md").read_text()
