"""How much a search trains at once, and until when."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.training.speed import Speed, Work
from lrfinder.tuning.rounds import ask_size, deadline, round_size, trials_at_once

FAST, SLOW = Speed(1e-4, 0.0), Speed(1.0, 0.0)
RUN = Work(1, 100, 1)


def test_without_a_timeout_a_search_never_ends_early():
    assert deadline(5.0, None, 100.0) == math.inf


@given(st.floats(0, 1e4), st.floats(1, 1e4), st.floats(0, 1e5))
def test_a_search_leaves_time_for_the_comparison_but_has_half_of_it_at_least(
    began, timeout, comparing
):
    ends = deadline(began, timeout, comparing)
    assert began + timeout / 2 <= ends <= began + timeout
    if comparing < timeout / 2:
        assert ends == pytest.approx(began + timeout - comparing)


def test_as_many_trials_as_are_fast_together_are_trained_at_once():
    assert trials_at_once(RUN, 2, FAST, 64, 1) == 32
    assert trials_at_once(RUN, 1, FAST, 1, 4) == 32


def test_a_round_that_takes_long_is_cut_because_an_interrupt_loses_it():
    assert trials_at_once(RUN, 1, SLOW, 64, 1) < 2


def test_a_round_keeps_all_workers_busy_however_long_a_training_takes():
    assert trials_at_once(RUN, 2, SLOW, 1, 8) * 2 >= 2 * 8


def test_a_round_is_worth_its_training_where_many_runs_share_an_update():
    assert round_size(2, 128, 64) == 16
    assert round_size(1, 128, 64) == 32
    assert round_size(1, 8, 64) == 8
    assert round_size(1, 1, 64) == round_size(4, 2, 64) == 1
    assert round_size(1, 128, 3) == 3
    assert round_size(1, 128, 0) == 1


@pytest.mark.parametrize("trials", [1, 10, 40, 1000])
def test_a_quarter_of_the_trials_is_asked_at_once_and_more_at_one_lr(trials):
    assert ask_size(trials, one_lr=False) == max(2, trials // 4)
    assert ask_size(trials, one_lr=True) >= ask_size(trials, one_lr=False)
