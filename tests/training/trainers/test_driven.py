"""A driven loop trains like its own program, and leaves everything else alone."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_loops import GENERATOR, LOOPS, LR, batches, mse, plain, regression, small_loop
from small_tasks import linear_model, no_global_draw, plan, same_tensors

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules import FAMILIES
from lrfinder.training.fit import fit
from lrfinder.training.forks import why_not_forked
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.driven import DrivenTrainer
from lrfinder.training.trainers.sequential import SequentialTrainer

PER_EPOCH = 4


def groups_of(state) -> int:
    return len(state.stand_ins[0].param_groups)


def constant_rows(state, lr: float, updates: int) -> np.ndarray:
    (stand_in,) = state.stand_ins
    lrs = [float(group["lr"]) * lr / LR for group in stand_in.param_groups]
    return np.tile(lrs, (1, updates, 1))


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("seed", [0, 5])
def test_a_loop_at_the_lr_it_was_built_with_is_its_own_program_bit_by_bit(name, seed):
    program = plain(LOOPS[name], seed, 3)
    handed: list = []

    def train(training) -> None:
        handed.append(training)
        LOOPS[name](training)

    loop, trainer = small_loop(train), DrivenTrainer()
    with no_global_draw():
        state = trainer.start(loop, [seed], [LR])
        pieces = []
        for updates in (1, 3, 5, 3):
            trainer.evaluate(state, ())
            pieces.append(trainer.advance(state, constant_rows(state, LR, updates)))
            assert torch.is_grad_enabled()
            assert not torch.is_autocast_enabled("cpu")
        trainer.evaluate(state, ())
    assert np.concatenate(pieces, axis=1)[0].tolist() == program.losses
    model = handed[-1].model
    assert same_tensors(model.state_dict(), program.model.state_dict())
    assert all(module.training for module in model.modules())


def test_what_is_measured_is_what_the_program_measures():
    program = plain(regression, 2, 3)
    found = fit(small_loop(), [plan(LR, 2)]).measures
    own = program.measured()
    assert found["loss"][0, -1] == float(own["valid_loss"])
    assert found["largest"][0, -1] == float(own["largest"])


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_it_makes_no_difference_how_many_updates_are_asked_for_at_once(counts):
    loop, trainer = small_loop(epochs=9), DrivenTrainer()
    rng = np.random.default_rng(sum(counts))
    total = sum(counts)
    state = trainer.start(loop, [1], [LR])
    lrs = rng.uniform(1e-4, 1e-1, (1, total, groups_of(state)))
    whole = trainer.advance(state, lrs)
    again = trainer.start(loop, [1], [LR])
    cuts = np.cumsum(counts)[:-1]
    parts = [trainer.advance(again, part) for part in np.split(lrs, cuts, axis=1)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    trainer.select(state, [])
    trainer.select(again, [])


def test_runs_side_by_side_do_not_touch_each_other():
    loop, trainer = small_loop(), DrivenTrainer()
    together = trainer.start(loop, [0, 1], [LR, LR])
    rows = np.repeat(constant_rows(trainer.start(loop, [0], [LR]), LR, 8), 2, axis=0)
    both = np.concatenate(
        [trainer.advance(together, rows[:, k : k + 2]) for k in range(0, 8, 2)], 1
    )
    for place, seed in enumerate([0, 1]):
        alone = trainer.start(loop, [seed], [LR])
        assert np.array_equal(trainer.advance(alone, rows[:1])[0], both[place])


@pytest.mark.parametrize("family", ["cosine", "plateau", "one_cycle"])
def test_every_step_is_made_at_the_lrs_of_the_history(family):
    used: list[list[float]] = []

    def train(training) -> None:
        model = linear_model()
        weight, bias = model.parameters()
        slow = torch.optim.SGD([bias], LR / 4)
        fast = torch.optim.SGD([weight], LR)
        training.drive(slow)
        training.drive(fast)
        training.measure(lambda: 1.0)
        for _ in range(training.epochs):
            for x, y in batches():
                loss = mse(model(x), y)
                loss.backward()
                fast.step()
                slow.step()
                used.append([one.param_groups[0]["lr"] for one in (slow, fast)])
                training.log(loss)

    loop = small_loop(train)
    params = {
        "cosine": {"T_max": 3, "eta_min": 0.0},
        "plateau": {"mode": "min", "factor": 0.5, "patience": 0},
        "one_cycle": {"total_steps": 12, "pct_start": 0.3},
    }[family]
    per = "batch" if family == "one_cycle" else "epoch"
    loop.data()
    used.clear()
    history = fit(loop, [plan(0.4, 0, family, per, **params)])
    assert np.allclose(history.lr[0], used, rtol=1e-12)
    assert np.allclose(history.lr[0, :, 0] * 4, history.lr[0, :, 1])
    assert len(set(history.lr[0, :, 1])) > 1


def test_it_is_left_by_an_exception_that_only_finally_sees():
    seen: list[str] = []

    def train(training) -> None:
        try:
            try:
                regression(training)
            except Exception:  # must not see it
                seen.append("caught")
        finally:
            seen.append("finally")

    loop = small_loop(train, steps_per_epoch=PER_EPOCH)
    loop.data()
    seen.clear()
    fit(loop, [plan(LR)], updates=5)
    assert seen == ["finally"]
    state = DrivenTrainer().start(loop, [0], [LR])
    del state
    assert seen == ["finally", "finally"]


def test_a_state_that_is_dropped_keeps_no_model():
    models: list = []

    def train(training) -> None:
        model = linear_model()
        models.append(weakref.ref(model))
        optimizer = torch.optim.SGD(model.parameters(), LR)
        training.drive(optimizer)
        training.measure(lambda: mse(model(batches().dataset.tensors[0]), torch.zeros(60, 1)))
        for _ in range(training.epochs * PER_EPOCH):
            optimizer.step()
            training.log(0.5)

    fit(small_loop(train), [plan(LR, seed) for seed in range(3)])
    gc.collect()
    assert [one() for one in models] == [None] * len(models)


def test_a_loop_that_lets_nothing_go_is_told_so():
    def train(training) -> None:
        model = linear_model()
        optimizer = torch.optim.SGD(model.parameters(), LR)
        training.drive(optimizer)
        while True:
            try:
                optimizer.step()
                training.log(1.0)
            except BaseException:
                pass

    with pytest.raises(InvalidArgument, match="write `except Exception:`"):
        small_loop(train, steps_per_epoch=4).data()


def test_an_exception_at_a_high_lr_is_a_divergence():
    def train(training) -> None:
        model = linear_model()
        optimizer = torch.optim.SGD(model.parameters(), LR)
        training.drive(optimizer)
        training.measure(lambda: mse(model(batches().dataset.tensors[0]), torch.zeros(60, 1)))
        for _ in range(training.epochs):
            for x, y in batches():
                optimizer.zero_grad()
                loss = mse(model(x), y)
                if loss > 1e6:
                    raise ValueError("math domain error")
                loss.backward()
                optimizer.step()
                training.log(loss)

    history = fit(small_loop(train), [plan(10.0), plan(LR)])
    assert history.diverged_at[0] > 0
    assert history.diverged_at[1] == -1
    assert "ValueError: math domain error" in history.raised[0]
    assert "at lr 10" in history.raised[0]


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_an_exception_at_every_lr_is_the_loops_own(error):
    def train(training) -> None:
        model = linear_model()
        optimizer = torch.optim.SGD(model.parameters(), LR)
        training.drive(optimizer)
        training.measure(lambda: 1.0)
        for epoch in range(training.epochs):
            for x, y in batches():
                if epoch == 1:
                    raise error("broken row")
                loss = mse(model(x), y)
                loss.backward()
                optimizer.step()
                training.log(loss)

    with pytest.raises(TaskFailed, match=r"training, the task raised .*broken row \(test_driven"):
        fit(small_loop(train), [plan(LR)])


def broken_batch(at: int, value: float):
    """A loop whose loss is not finite in one update, whatever the lr."""

    def train(training) -> None:
        model = linear_model()
        optimizer = torch.optim.SGD(model.parameters(), LR)
        training.drive(optimizer)
        training.measure(lambda: 1.0)
        for k in range(training.updates):
            loss = model(torch.ones(4, 4).double()).square().mean()
            loss.backward()
            optimizer.step()
            training.log(loss * value if k == at else loss)

    return train


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_no_lr_makes_finite_is_no_divergence(value):
    loop = small_loop(broken_batch(5, value), steps_per_epoch=PER_EPOCH)
    with pytest.raises(TaskFailed, match=r"loss of update 6 .* not finite at next to no lr either"):
        fit(loop, [plan(1e-3)])


def test_a_loss_that_is_lost_by_the_lr_is_a_divergence():
    history = fit(small_loop(LOOPS["own generator"], epochs=60), [plan(5.0), plan(LR)])
    assert history.diverged_at[0] > 0
    assert history.diverged_at[1] == -1
    assert history.raised == (None, None)


def test_a_generator_outside_of_the_loop_stands_where_it_stood():
    before = GENERATOR.get_state()
    fit(small_loop(LOOPS["own generator"]), [plan(LR)])
    assert torch.equal(GENERATOR.get_state(), before)


def test_nothing_is_shared_or_copied():
    loop, trainer = small_loop(), DrivenTrainer()
    assert trainer.capacity(loop) == 1
    assert why_not_forked(loop, trainer) == "a loop cannot be copied where it stands"
    shared = [plan(LR, 0, "step", step_size=k, gamma=0.1) for k in (1, 2)]
    history = fit(loop, shared)
    assert history.updates_trained == history.updates_asked == 24
    assert history.train_loss[0, :4].tolist() == history.train_loss[1, :4].tolist()
    state = trainer.start(loop, [0], [LR])
    for copy in (trainer.fork, trainer.select):
        with pytest.raises(TaskFailed, match="cannot be copied"):
            copy(state, [0, 0])


def test_a_training_that_is_longer_than_the_loop_is_given_more_epochs():
    history = fit(small_loop(), [plan(LR)], updates=30)
    assert np.isfinite(history.train_loss).all()


def test_trainers_of_the_other_kind_are_refused():
    with pytest.raises(InvalidArgument, match="must be able to train a Loop, but got a Sequential"):
        fit(small_loop(), [plan(LR)], trainer=SequentialTrainer())


def test_a_loop_without_a_measure_is_measured_by_its_training_loss():
    def train(training) -> None:
        training.measure = lambda function: None
        regression(training)

    loop = small_loop(train)
    history = fit(loop, [Plan(LR, FAMILIES["constant"] and plan().schedule, 0)], evaluate_on=())
    assert loop.measures == ("loss",)
    means = history.train_loss[0].reshape(3, PER_EPOCH).mean(axis=1)
    assert history.measures["loss"][0, 1:].tolist() == pytest.approx(means.tolist())
    assert history.measures["loss"][0, 0] == pytest.approx(history.train_loss[0, 0], rel=0.9)
    with pytest.raises(InvalidArgument, match=r"measures nothing; call training.measure"):
        fit(loop, [plan(LR)])
