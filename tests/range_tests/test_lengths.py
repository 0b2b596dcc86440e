"""How long a range test is: laws over lengths, and what a test costs under a limit."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_tasks import linear_task

from lrfinder import range_test
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.lengths import lengths

budgets = st.integers(200, 10**6)


@given(budgets, st.floats(0.001, 10), st.integers(1, 5))
def test_a_limited_test_costs_no_more_than_its_limit_and_no_more_than_without(budget, cost, seeds):
    usual = lengths(None, "batch", 8, 10, budget)
    try:
        limited = lengths(None, "batch", 8, 10, budget, cost=cost, seeds=seeds)
    except InvalidArgument:
        assert cost * budget < seeds * usual.updates / 2
        return
    assert seeds * limited.updates <= max(cost * budget + 1e-6, 1)
    assert limited.updates <= usual.updates
    assert 3 <= limited.probes <= 8
    assert limited.steps == limited.sweep >= 25
    assert limited.probe >= 25


@given(budgets, st.integers(1, 5))
@example(200, 2)  # 115%, and 1.15 * 200 is less than 230
def test_the_cost_that_a_refusal_names_is_taken(budget, seeds):
    with pytest.raises(InvalidArgument, match="cost must be at least") as refused:
        lengths(None, "batch", 8, 10, budget, cost=1e-9, seeds=seeds)
    least = int(str(refused.value).split("at least ")[1].split("%")[0])
    assert lengths(None, "batch", 8, 10, budget, cost=least / 100, seeds=seeds).probes >= 3


def test_a_limit_takes_probes_away_before_it_shortens_anything():
    usual = lengths(None, "batch", 8, 10, 2000)
    assert lengths(None, "batch", 8, 10, 2000, cost=10.0) == usual
    fewer = lengths(None, "batch", 8, 10, 2000, cost=0.5)
    assert (fewer.sweep, fewer.probe, fewer.probes) == (100, 200, 4)
    shorter = lengths(None, "batch", 8, 10, 2000, cost=0.2)
    assert (shorter.sweep, shorter.probe, shorter.probes) == (57, 114, 3)


@pytest.mark.parametrize("cost", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_that_is_no_share_is_refused(cost):
    with pytest.raises(InvalidArgument, match="cost must be a positive share"):
        range_test(linear_task(), cost=cost)


@pytest.mark.parametrize("other", [{"steps": 20}, {"every": "epoch"}, {"probes": 4}])
def test_a_cost_beside_what_it_decides_is_refused(other):
    with pytest.raises(InvalidArgument, match=f"cost and {next(iter(other))} exclude each other"):
        range_test(linear_task(), cost=0.5, **other)


@pytest.mark.parametrize("min_lr", [1e-6, 1e-2])
def test_a_test_keeps_to_its_limit_where_its_range_is_too_narrow_too(min_lr):
    task = replace(linear_task(), epochs=100)
    budget = 100 * task.data().updates_per_epoch
    curve = range_test(task, cost=0.6, min_lr=min_lr, seeds=2)
    assert 0.3 * budget < curve.updates <= 0.6 * budget


def test_a_limited_test_has_a_wider_interval():
    task = replace(linear_task(), epochs=100)
    usual, limited = (range_test(task, cost=cost).suggest() for cost in (None, 0.3))
    assert limited.high / limited.low > usual.high / usual.low
