"""What well-known finders trip over, each for a Task and for live objects."""

import numpy as np
import pytest
import torch
from small_tasks import global_states, linear_model, linear_task, plain_sgd, regression_rows
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from lrfinder.errors import TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.data.held_out import held_out
from lrfinder.tasks.task import Task


def live_task(criterion=None, train=None, valid=None, **fields) -> Task:
    torch.manual_seed(0)
    model = linear_model()
    train = DataLoader(regression_rows(200), 16, shuffle=True) if train is None else train
    return Task.from_objects(
        model, plain_sgd(model, 0.3), criterion or nn.MSELoss(), train, valid, **fields
    )


def built_task(criterion=None, train=None, valid=None, **fields) -> Task:
    train = regression_rows(200) if train is None else train
    return linear_task(
        optimizer=plain_sgd, train=train, valid=valid, criterion=criterion or nn.MSELoss(), **fields
    )


MAKERS = {"a task": built_task, "live objects": live_task}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@both
def test_nothing_global_moves_through_a_whole_find_and_it_repeats_bitwise(make):
    task, before = make(), global_states()
    first, second = range_test(task), range_test(task)
    assert global_states() == before
    assert np.array_equal(first.loss, second.loss, equal_nan=True)
    assert first.probes == second.probes
    assert first.suggest().lr == second.suggest().lr is not None


@both
def test_the_first_lr_is_the_lowest_and_the_last_the_highest_whatever_lr_came_before(make):
    curve = range_test(make(), min_lr=1e-4, max_lr=1e2, steps=30)
    assert curve.asked is None
    assert (curve.lr[0], curve.lr[-1]) == (1e-4, pytest.approx(1e2))


@both
def test_one_find_costs_a_sweep_and_at_most_four_probes(make):
    curve = range_test(make(epochs=20))
    assert curve.updates <= 100 + 4 * 120
    assert 2 <= len(curve.probes) <= 4
    assert {probe.updates for probe in curve.probes} == {120}


def shifted(level: float, factor: float):
    return lambda output, target: factor * nn.functional.mse_loss(output, target) + level


@both
@pytest.mark.parametrize("level", [-7.0, -1e3, 1e3])
@pytest.mark.slow
def test_a_loss_that_is_negative_or_crosses_zero_gives_the_same_lr(make, level):
    plain, moved = (range_test(make(shifted(v, 1.0))).suggest().lr for v in (0.0, level))
    assert plain is not None
    assert moved == pytest.approx(plain, rel=1e-3)


def test_a_loss_times_1000_at_a_thousandth_of_the_lr_gives_a_thousandth_of_the_lr():
    plain = range_test(built_task()).suggest()
    scaled = range_test(built_task(shifted(0.0, 1000.0)), min_lr=1e-9, max_lr=1e-2).suggest()
    assert plain.lr is not None
    assert scaled.lr == pytest.approx(plain.lr / 1000, rel=1e-3)


@both
def test_a_suggestion_is_strictly_below_where_training_diverged(make):
    curve = range_test(make())
    suggestion = curve.suggest()
    assert suggestion.lr is not None
    assert suggestion.diverged_at is not None
    assert suggestion.lr < suggestion.diverged_at
    assert all(suggestion.lr < p.lr for p in curve.probes if np.isnan(p.loss))


class NanAt(nn.Module):
    """A criterion, a copy for each run, that returns nan from its k-th call in training on."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k, self.calls = k, 0

    def forward(self, output, target):
        self.calls += output.requires_grad
        loss = nn.functional.mse_loss(output, target)
        return loss * float("nan") if output.requires_grad and self.calls > self.k else loss


@both
@pytest.mark.parametrize("k", [1, 5, 40, 99])
def test_nan_at_a_step_ends_that_run_and_never_makes_a_suggestion_above_it(make, k):
    curve = range_test(make(NanAt(k)), probes=0)
    assert not np.isfinite(curve.loss[0, k + 1 :]).any()
    suggestion = curve.suggest()
    assert suggestion.lr is None or suggestion.lr < curve.lr[min(k, 99)]


@both
def test_nan_at_the_first_step_is_a_clear_error(make):
    with pytest.raises(TaskFailed, match="is nan with the initial weights too, whatever the lr"):
        range_test(make(NanAt(0)))


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*regression_rows(100).tensors, strict=True)


def weighted() -> DataLoader:
    rows = regression_rows(100)
    return DataLoader(rows, 16, sampler=WeightedRandomSampler([1.0] * 100, 100))


LOADERS = {
    "a stream": (lambda: DataLoader(Stream(), 16), {"steps_per_epoch": 3}),
    "a single batch": (lambda: DataLoader(regression_rows(64), 64), {}),
    "a last batch of one row": (lambda: DataLoader(regression_rows(161), 16, shuffle=True), {}),
    "a dropped last batch": (lambda: DataLoader(regression_rows(170), 16, drop_last=True), {}),
    "a sampler": (weighted, {}),
    "two workers": (lambda: DataLoader(regression_rows(64), 16, shuffle=True, num_workers=2), {}),
    "accumulation": (lambda: DataLoader(regression_rows(200), 8, shuffle=True), {"accumulate": 3}),
}


@both
@pytest.mark.parametrize("case", LOADERS)
@pytest.mark.slow
def test_a_training_loader_alone_is_enough(make, case):
    loader, fields = LOADERS[case]
    curve = range_test(make(train=loader(), **fields), steps=40)
    assert np.isfinite(curve.start).all()
    assert len(curve.lr) == 40
    assert curve.suggest().reason


def test_half_precision_under_autocast_finds_about_the_same_lr():
    def make(autocast):
        rows = regression_rows(200, dtype=torch.float32)
        return linear_task(
            model=lambda: nn.Linear(4, 1), optimizer=plain_sgd, train=rows, valid=rows,
            autocast=autocast,
        )  # fmt: skip

    full, half = (range_test(make(kind)).suggest().lr for kind in (None, torch.bfloat16))
    assert full is not None
    assert half is not None
    assert 0.5 < half / full < 2


def test_rows_held_out_are_not_trained_on_and_are_the_same_every_time():
    x = torch.arange(100.0)[:, None]
    for data in (TensorDataset(x, x), DataLoader(TensorDataset(x, x), 10, shuffle=True)):
        parts, again = held_out(data, 10), held_out(data, 10)
        assert parts is not None
        assert again is not None
        trained, held = (sorted(rows_of(part)) for part in parts)
        assert len(held) == 20
        assert sorted(trained + held) == x[:, 0].tolist()
        assert sorted(rows_of(again[1])) == held


def rows_of(data) -> list[float]:
    loader = data if isinstance(data, DataLoader) else DataLoader(data, 10)
    return [float(value) for x, _ in loader for value in x[:, 0]]


@pytest.mark.parametrize("data", [regression_rows(39), DataLoader(Stream(), 16), weighted()])
def test_no_rows_are_held_out_of_few_rows_a_stream_or_a_sampler(data):
    assert held_out(data, 16) is None


def test_a_range_that_ends_too_low_is_widened_once_and_the_reason_says_so():
    curve = range_test(built_task(), max_lr=1e-3)
    assert curve.asked == (1e-6, 1e-3)
    assert curve.lr[-1] == pytest.approx(1e-1)
    suggestion = curve.suggest()
    assert "1e-06 to 0.001 were too narrow a range" in suggestion.reason
    assert curve.updates <= 500


def test_a_range_that_starts_too_high_is_widened_once():
    curve = range_test(built_task(), min_lr=10.0, max_lr=1e3)
    assert curve.asked == (10.0, 1e3)
    assert curve.lr[0] == pytest.approx(1e-2)


def test_a_longer_test_suggests_about_the_same_lr():
    lrs = [range_test(built_task(), steps=steps).suggest().lr for steps in (100, 300)]
    assert None not in lrs
    assert 1 / 3 < lrs[1] / lrs[0] < 3


def test_the_suggestion_is_for_the_length_of_the_training():
    train = regression_rows(960)
    short, long = (range_test(built_task(train=train, epochs=k)) for k in (1, 60))
    assert (short.budget, long.budget) == (60, 60 * 60)
    assert (short.probes[0].updates, long.probes[0].updates) == (60, 200)
    assert short.suggest().lr > 1.5 * long.suggest().lr


@pytest.mark.parametrize(("momentum", "low", "high"), [(0.1, 3e-3, 0.1), (0.05, 5e-5, 1e-3)])
def test_running_statistics_that_settle_are_no_fall_at_a_tiny_lr(momentum, low, high):
    generator = torch.Generator().manual_seed(0)
    x = 300 + 2 * torch.randn(700, 10, generator=generator)
    y = (x[:, :2].sum(1) > 600).long()

    def model() -> nn.Module:
        norm = nn.BatchNorm1d(10, momentum=momentum)
        return nn.Sequential(norm, nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))

    task = Task(
        model=model,
        train=TensorDataset(x[:500], y[:500]),
        valid=TensorDataset(x[500:], y[500:]),
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        epochs=10,
    )
    curve = range_test(task)
    tiny = curve.loss[0, curve.lr < 1e-4]
    assert tiny.min() < curve.start[0] - 0.3 * (curve.start[0] - np.nanmin(curve.loss))
    suggestion = curve.suggest()
    assert suggestion.lr is not None, suggestion.reason
    assert low < suggestion.lr < high  # what trains best in these 80 updates


def test_the_lr_in_use_today_is_a_probe_of_its_own():
    curve = range_test(built_task(baseline=0.0123))
    assert 0.0123 in [probe.lr for probe in curve.probes]
