"""A range test ends at its timeout, or where updates become absurdly slow, and tells."""

import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_tasks import linear_task, plan
from torch.utils.data import DataLoader

import lrfinder
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.limits import OUT_OF_TIME, Limits
from lrfinder.range_tests.range_test import range_test as run_range_test
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

MODULE = sys.modules[run_range_test.__module__]
TRAINERS = [SequentialTrainer, BatchedTrainer]


class Clock:
    """Seconds that pass when it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A clock of the range test that a task moves on."""
    clock = Clock()
    monkeypatch.setattr(MODULE, "Limits", lambda timeout: Limits(timeout, clock))
    return clock


def timed(clock: Clock, seconds, **fields):
    """A task whose updates take so many seconds, or a function of the largest weight.

    A forward pass alone takes a third of that.
    """

    def loss(model, batch):
        if model.training:
            size = float(model.weight.detach().abs().max())
            share = 1 if torch.is_grad_enabled() else 1 / 3
            clock.now += share * (seconds(size) if callable(seconds) else seconds)
        return (model(batch[0]) - batch[1]).square().mean()

    return linear_task(criterion=None, loss=loss, **fields)


def made(limits: Limits, clock: Clock, seconds: list[float]) -> int | None:
    """The update after which updates of these lengths end, or None."""
    assert limits(0) is None
    for number, one in enumerate(seconds, start=1):
        clock.now += one
        if limits(number) is not None:
            return number
    return None


SLOW = {
    "as ever": ([0.01] * 50, None),
    "slow from the start": ([100.0] * 50, None),
    "a stall": ([0.01] * 20 + [30.0] + [0.01] * 20, None),
    "two stalls": ([0.01] * 20 + [30.0, 30.0] + [0.01] * 20, None),
    "noise of milliseconds": ([0.001] * 20 + [1.9] * 20, None),
    "twenty times": ([1.0] * 20 + [20.0] * 20, None),
    "three in a row": ([0.01] * 20 + [5.0] * 20, 23),
    "more than a minute": ([0.01] * 20 + [61.0], 21),
    "a hundred times": ([0.1] * 20 + [10.0] * 20, 23),
    "too early to tell": ([0.01] * 3 + [5.0] * 4, None),
    "little by little": ([0.1 * 1.5**k for k in range(60)], 14),
}


@pytest.mark.parametrize("kind", SLOW)
def test_what_is_absurdly_slow(kind):
    clock = Clock()
    seconds, ends = SLOW[kind]
    found = made(Limits(None, clock), clock, seconds)
    assert found == ends if kind != "little by little" else found is not None


def test_later_trainings_are_compared_with_the_first():
    clock = Clock()
    limits = Limits(None, clock)
    assert made(limits, clock, [0.01] * 20) is None
    assert made(limits, clock, [5.0] * 20) == 3


def test_a_timeout_lets_one_piece_be_made():
    clock = Clock()
    limits = Limits(10.0, clock)
    clock.now += 11.0
    assert limits(0) is None
    assert limits(1) == OUT_OF_TIME
    assert limits(0) == OUT_OF_TIME


@pytest.mark.parametrize("trainer", TRAINERS)
def test_fit_ends_runs_where_it_is_told_and_says_why(trainer):
    asked: list[int] = []

    def stop(number: int) -> str | None:
        asked.append(number)
        return "enough" if number >= 6 else None

    counted: list[int] = []
    task = linear_task(train=DataLoader(linear_task().train, 2), epochs=2)
    plans = [plan(1e-3), plan(1e-2)]
    history = fit(
        task, plans, evaluate_every=3, stop=stop, trainer=trainer(), progress=counted.append
    )
    assert history.stopped == ("enough", "enough")
    assert (history.diverged_at == -1).all()
    assert np.isfinite(history.train_loss).sum(axis=1).tolist() == [6, 6]
    assert np.isfinite(history.measures["loss"]).sum(axis=1).tolist() == [3, 3]
    assert sum(counted) == history.train_loss.size
    whole = fit(task, plans, evaluate_every=3, stop=lambda _: None, trainer=trainer())
    np.testing.assert_allclose(whole.train_loss[:, :6], history.train_loss[:, :6], rtol=1e-12)
    assert whole.stopped == (None, None)


@pytest.mark.parametrize("every", ["batch", "epoch"])
@pytest.mark.parametrize("timeout", [12.5, 45.0, 90.0, 110.0, 1e9])
def test_a_timeout_answers_from_what_there_is(clock, every, timeout):
    before = clock.now
    steps = 40 if every == "batch" else 10
    curve = run_range_test(
        timed(clock, 1.0), steps=steps, seeds=2, every=every, probes=3, widen=False, timeout=timeout
    )
    assert clock.now - before <= timeout + 16
    suggestion = curve.suggest()
    assert suggestion.verdict in ("suggested", "inconclusive")
    assert len(curve.start) == len(curve.seeds) == len(curve.loss) >= 1
    assert np.isfinite(curve.start).all()
    assert curve.frame().shape[0] == len(curve.seeds) * (len(curve.lr) + 1)
    ended = [note for note in curve.notes if "ended the range test" in note]
    assert bool(ended) == (timeout < 1e9)
    assert not ended or ended[0] in suggestion.reason
    if every == "batch" and timeout == 45.0:  # the second seed was not swept to its end
        assert curve.seeds == (0,)
        assert len(curve.lr) == 40
    assert curve.cut == (timeout == 12.5)
    assert not curve.cut or "came no farther than lr" in suggestion.reason
    if every == "batch" and timeout == 12.5:
        assert len(curve.lr) == 13


def test_a_timeout_that_is_long_enough_changes_nothing(clock):
    task = timed(clock, 1.0)
    one, other = (run_range_test(task, steps=40, timeout=t) for t in (None, 1e9))
    assert one.suggest() == other.suggest()
    assert one.notes == other.notes == ()
    assert replace(one, wall_seconds=0).frame().equals(replace(other, wall_seconds=0).frame())


def test_a_sweep_ends_where_updates_become_absurdly_slow(clock):
    task = timed(clock, lambda size: 0.1 if size < 20 else 500.0)
    began = clock.now
    curve = run_range_test(task, steps=60, seeds=2, probes=3)
    assert clock.now - began < 10 * 500
    assert any("500 s, 5000 times as long as before, at lr" in note for note in curve.notes)
    assert np.isfinite(curve.diverged_at).all()
    assert curve.suggest().lr is not None
    assert "became too slow" in curve.suggest().reason


def test_a_machine_that_is_slow_for_a_while_ends_nothing(clock):
    calls = itertools.count()
    task = timed(clock, lambda size: 20.0 if 40 < next(calls) < 200 else 0.1)
    curve = run_range_test(task, steps=60, probes=3)
    assert curve.notes == ()


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_timeout_must_be_positive(timeout):
    with pytest.raises(InvalidArgument, match="timeout must be a positive number"):
        run_range_test(linear_task(), timeout=timeout)


def test_the_command_takes_a_timeout(tmp_path, monkeypatch):
    seconds = itertools.count()

    def next_second() -> float:
        return float(next(seconds))

    from typer.testing import CliRunner

    from lrfinder.cli import app

    monkeypatch.setattr(MODULE, "Limits", lambda timeout: Limits(20.0, next_second))
    options = ["find", "quadratic", "--timeout", "1000", "--engine", "sequential"]
    done = CliRunner().invoke(app, [*options, "--out", str(tmp_path / "r")])
    assert done.exit_code == 4
    assert "give it more time (the timeout of" in done.stdout
    assert OUT_OF_TIME not in done.output
    again = lrfinder.open_run(tmp_path / "r")
    assert "ended the range test" in again.curve.notes[0]
    assert again.curve.suggest() == again.suggestion


@pytest.mark.parametrize("every", ["batch", "epoch"])
def test_a_timeout_without_two_steps_is_too_short(clock, every):
    with pytest.raises(InvalidArgument, match=r"timeout must be long enough .* was (one|none)"):
        run_range_test(timed(clock, 1.0), every=every, timeout=0.5)
