"""The range test: the lr grows, and what is recorded belongs to the lr beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_loops import small_loop
from small_tasks import (
    BATCH,
    PER_EPOCH,
    absolute_error,
    linear_model,
    linear_task,
    no_global_draw,
    noisy_task,
    plain_sgd,
    plan,
    regression_rows,
)
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.lengths import lengths
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.fit import fit

EVERY = ["batch", "epoch"]
GROWTH = ["exponential", "linear"]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("growth", GROWTH)
@given(low=st.floats(1e-8, 1e-3), ratio=st.floats(1.5, 1e5), steps=st.integers(8, 20))
@settings(max_examples=8)
def test_the_lr_goes_from_low_to_high_in_even_steps(every, growth, low, ratio, steps):
    high = low * ratio
    curve = range_test(
        linear_task(),
        min_lr=low,
        max_lr=high,
        steps=steps,
        seeds=1,
        every=every,
        growth=growth,
        probes=0,
    )
    spaced = np.geomspace if growth == "exponential" else np.linspace
    assert curve.lr[0] == low
    assert curve.lr[-1] == pytest.approx(high, rel=1e-12)
    np.testing.assert_allclose(curve.lr, spaced(low, high, steps), rtol=1e-9)


@pytest.mark.parametrize("own", [False, True])
def test_a_probe_knows_its_losses_of_training_where_these_are_what_is_evaluated(own):
    task = linear_task(valid_loss=absolute_error) if own else linear_task()
    probes = range_test(task, steps=12, seeds=[3]).probes
    assert len(probes) >= 3
    for probe in probes:
        history = fit(task, [plan(probe.lr, 3)], updates=probe.updates)
        known = not own and np.isfinite(probe.loss)
        expected = history.train_loss[0, probe.updates * 3 // 4 :].mean() if known else np.nan
        assert probe.train_loss == pytest.approx(expected, nan_ok=True)
    assert any(np.isfinite(probe.train_loss) for probe in probes) is not own


def test_a_loop_may_measure_what_it_likes_so_that_its_losses_of_training_say_nothing():
    probes = range_test(small_loop(), steps=8, seeds=1).probes
    assert probes
    assert all(np.isnan(probe.train_loss) for probe in probes)


def test_many_weights_for_few_rows_lower_the_lr_of_a_training_of_many_epochs():
    def wide() -> nn.Module:
        body = nn.Linear(4, 400).double().requires_grad_(requires_grad=False)
        return nn.Sequential(body, nn.Linear(400, 1).double())

    curve = range_test(linear_task(model=wide), steps=12, seeds=[3])
    assert curve.weights == 401
    unknown = replace(curve, weights=None)
    for epochs, lower in ((3, False), (300, True)):
        assert (curve.suggest(epochs=epochs).lr < unknown.suggest(epochs=epochs).lr) is lower
    stream = replace(curve, repeats=False)
    assert stream.suggest(epochs=300).lr == unknown.suggest(epochs=300).lr


def by_hand(steps: int, per_step: int, lrs: np.ndarray) -> tuple[list[float], list[float]]:
    """Losses of the batches before, and of the validation rows after, each step."""
    task = linear_task()
    x_valid, y_valid = regression_rows(41, seed=1).tensors
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = linear_model()
    batches = [b for e in range(steps) for b in task.data().source.epoch(5, e)]
    before, after = [], []
    for step in range(steps):
        losses = []
        for x, y in batches[step * per_step : (step + 1) * per_step]:
            loss = nn.functional.mse_loss(model(x), y)
            losses.append(loss.item())
            for parameter, slope in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.data -= lrs[step] * slope
        before.append(float(np.mean(losses)))
        after.append(nn.functional.mse_loss(model(x_valid), y_valid).item())
    return before, after


@pytest.mark.parametrize(("every", "per_step"), [("batch", 1), ("epoch", PER_EPOCH)])
def test_a_loss_is_the_one_after_the_update_with_the_lr_beside_it(every, per_step):
    task = linear_task(optimizer=plain_sgd, metrics={"error": absolute_error})
    curve = range_test(task, min_lr=1e-3, max_lr=0.1, steps=10, seeds=[5], every=every, probes=0)
    before, after = by_hand(10, per_step, curve.lr)
    np.testing.assert_allclose(curve.train_loss[0], before, rtol=1e-12)
    np.testing.assert_allclose(curve.loss[0], after, rtol=1e-12)
    assert curve.metrics["error"].shape == (1, 10)
    assert np.isfinite(curve.metrics["error"]).all()
    assert curve.updates == 10 * per_step


@pytest.mark.parametrize("came_with", [1.0, 1e-4])
def test_the_lr_that_live_objects_came_with_does_not_matter(came_with):
    torch.manual_seed(0)
    model = linear_model()
    optimizer = torch.optim.SGD(model.parameters(), came_with)
    arguments = (model, optimizer, nn.MSELoss(), regression_rows(), regression_rows())
    task = Task.from_objects(*arguments, batch_size=16)
    curve = range_test(task, min_lr=1e-3, max_lr=0.1, steps=8, seeds=1)
    plain = range_test(
        Task.from_objects(model, plain_sgd(model, 0.02), *arguments[2:], batch_size=16),
        min_lr=1e-3,
        max_lr=0.1,
        steps=8,
        seeds=1,
    )
    assert curve.lr[0] == 1e-3
    assert np.array_equal(curve.loss, plain.loss)


class Flow(IterableDataset):
    def __iter__(self):
        yield from zip(*regression_rows(20).tensors, strict=True)


TRAINED_ON = {
    "a data set shorter than the test": {"train": regression_rows(10)},
    "a single batch": {"train": regression_rows(16)},
    "a single row": {"train": regression_rows(1)},
    "a loader shorter than the test": {"train": DataLoader(regression_rows(10), 8)},
    "a loader of a single batch": {"train": DataLoader(regression_rows(16), 16)},
    "a loader with a ragged last batch": {"train": DataLoader(regression_rows(18), 16)},
    "a loader with a last batch of one row": {
        "train": DataLoader(regression_rows(17), 16, shuffle=True)
    },
    "a stream without a length": {"train": DataLoader(Flow(), 16), "steps_per_epoch": 3},
    "accumulation": {"accumulate": 3},
}


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("case", TRAINED_ON)
def test_the_data_are_cycled_for_as_many_steps_as_asked(case, every):
    task = linear_task(**TRAINED_ON[case])
    curve = range_test(task, steps=12, seeds=2, every=every, max_lr=0.01, probes=0)
    assert curve.loss.shape == curve.train_loss.shape == (2, 12)
    assert np.isfinite(curve.loss).all()
    assert np.isfinite(curve.train_loss).all()
    assert np.isfinite(curve.start).all()


def test_batch_normalisation_survives_a_last_batch_of_one_row():
    task = noisy_task(train=regression_rows(17))
    curve = range_test(task, steps=8, seeds=1, max_lr=0.01, probes=0)
    assert np.isfinite(curve.train_loss).all()


@pytest.mark.parametrize("every", EVERY)
def test_seeds_are_repeatable_and_independent(every):
    with no_global_draw():
        three = range_test(noisy_task(), steps=8, seeds=[3, 1, 4], every=every, probes=0)
        one = range_test(noisy_task(), steps=8, seeds=[1], every=every, probes=0)
    assert three.seeds == (3, 1, 4)
    assert np.array_equal(three.loss[1], one.loss[0], equal_nan=True)
    assert np.array_equal(three.train_loss[1], one.train_loss[0], equal_nan=True)
    assert not np.array_equal(three.loss[0], three.loss[1])


def test_a_number_of_seeds_counts_from_zero():
    assert range_test(linear_task(), steps=8, seeds=3).seeds == (0, 1, 2)


def test_a_range_test_needs_no_validation_data():
    curve = range_test(linear_task(valid=None), steps=8, seeds=1)
    assert np.isfinite(curve.loss[0, :4]).all()


BAD = {
    "low zero": ({"min_lr": 0.0}, r"0 < min_lr < max_lr must hold.*min_lr=0,"),
    "low nan": ({"min_lr": float("nan")}, "min_lr=nan"),
    "crossed": ({"min_lr": 1.0, "max_lr": 0.1}, r"\(min_lr=1, max_lr=0.1\)"),
    "equal": ({"min_lr": 1.0, "max_lr": 1.0}, r"\(min_lr=1, max_lr=1\)"),
    "high infinite": ({"max_lr": float("inf")}, "max_lr=inf"),
    "few steps": ({"steps": 7}, "at least 8 steps, but got 7"),
    "no steps": ({"steps": 0}, "at least 8 steps, but got 0"),
    "no seeds": ({"seeds": 0}, "seeds must be a whole number of at least 1, but got 0"),
    "an empty list of seeds": ({"seeds": []}, "at least one training seed, but got none"),
    "every": ({"every": "minute"}, "every must be 'batch' or 'epoch', but got 'minute'"),
    "growth": ({"growth": "cubic"}, "growth must be .* but got 'cubic'"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_argument_that_cannot_be_used_is_refused_in_one_line(case):
    fields, message = BAD[case]
    with pytest.raises(InvalidArgument, match=message) as error:
        range_test(linear_task(), **fields)
    assert "\n" not in str(error.value)


def test_groups_keep_their_ratio():
    seen: list[list[float]] = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def grouped(model, lr):
        return Watched([{"params": [model.bias], "lr": lr / 4}, {"params": [model.weight]}], lr)

    curve = range_test(linear_task(optimizer=grouped), steps=8, seeds=1, max_lr=0.01, probes=0)
    np.testing.assert_allclose(seen[:8], np.stack([curve.lr / 4, curve.lr], axis=1))


@pytest.mark.parametrize("every", EVERY)
def test_a_run_that_diverges_ends_in_nan_and_was_right_until_then(every):
    task = linear_task(optimizer=plain_sgd)
    curve = range_test(task, min_lr=1e-3, max_lr=1e4, steps=40, seeds=3, every=every, probes=0)
    finite = np.isfinite(curve.loss)
    ends = finite.argmin(axis=1)
    assert (ends > 8).all()
    assert (ends < 40).all()
    for seed, end in enumerate(ends):
        assert finite[seed, :end].all()
        assert not finite[seed, end:].any()
    shorter = range_test(
        task,
        min_lr=1e-3,
        max_lr=curve.lr[int(ends.min()) - 1],
        steps=int(ends.min()),
        seeds=3,
        every=every,
        probes=0,
    )
    kept = slice(0, int(ends.min()) - 1)
    np.testing.assert_allclose(shorter.loss[:, kept], curve.loss[:, kept], rtol=1e-6)
    assert curve.updates < 3 * 40 * (1 if every == "batch" else PER_EPOCH)


def test_a_run_that_ends_within_the_first_steps_says_so():
    curve = range_test(
        linear_task(optimizer=plain_sgd), min_lr=1e6, max_lr=1e9, seeds=2, steps=20, widen=False
    )
    suggestion = curve.suggest()
    assert suggestion.lr is None
    assert "lower --min-lr" in suggestion.reason


def test_a_loss_that_is_nan_from_the_start_is_an_error():
    data = regression_rows()
    data.tensors[1][:] = float("nan")
    with pytest.raises(TaskFailed, match="nan before the first update"):
        range_test(linear_task(train=data, valid=None), seeds=1)


@pytest.mark.parametrize("every", EVERY)
def test_a_frame_has_a_row_per_seed_and_step(every):
    task = linear_task(metrics={"error": absolute_error})
    curve = range_test(task, steps=9, seeds=[2, 7], every=every, max_lr=0.01, probes=0)
    frame = curve.frame()
    assert list(frame) == ["seed", "step", "lr", "loss", "train_loss", "error"]
    assert frame["seed"].tolist() == [2] * 10 + [7] * 10
    assert frame["step"].tolist() == [*range(-1, 9)] * 2
    second = frame[frame["seed"] == 7]
    assert second["loss"].tolist() == [curve.start[1], *curve.loss[1]]
    assert second["lr"].tolist()[1:] == curve.lr.tolist()
    assert np.isnan(second["train_loss"].iloc[0])


def test_a_frame_has_no_loss_after_a_divergence():
    curve = range_test(linear_task(optimizer=plain_sgd), min_lr=1e-3, max_lr=1e4, steps=40, seeds=1)
    losses = curve.frame().query("step >= 0")["loss"]
    assert np.array_equal(losses, curve.loss[0], equal_nan=True)
    assert losses.isna().any()


def test_a_curve_knows_what_it_is_valid_for():
    curve = range_test(linear_task(accumulate=2), steps=8, seeds=1)
    assert isinstance(curve, Curve)
    assert (curve.optimizer, curve.batch_size) == ("SGD", 2 * BATCH)
    suggestion = curve.suggest()
    assert (suggestion.optimizer, suggestion.batch_size) == ("SGD", 2 * BATCH)


def test_the_suggested_lr_trains_a_linear_model_well():
    task = linear_task(optimizer=plain_sgd)
    suggestion = range_test(task, seeds=3).suggest()
    assert suggestion.verdict == "suggested"
    assert suggestion.lr is not None
    assert suggestion.diverged_at is not None
    assert 0.005 < suggestion.lr < suggestion.diverged_at


def test_progress_adds_up():
    made: list[int] = []
    range_test(linear_task(), steps=8, seeds=2, every="epoch", progress=made.append)
    of_seed = lengths(8, "epoch", 8, PER_EPOCH, linear_task().epochs * PER_EPOCH)
    assert sum(made) == 2 * of_seed.updates
