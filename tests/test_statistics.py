"""Intervals and paired tests against closed forms, scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lrfinder.statistics import holm, moderated_t, paired_p, student_t

VALUES = arrays(float, st.integers(2, 12), elements=st.floats(-100, 100))
P_VALUES = st.dictionaries(st.integers(), st.floats(0, 1), max_size=8)


@given(VALUES, st.floats(0.5, 0.99))
def test_the_interval_is_that_of_scipy(values, level):
    mean, low, high = student_t(values, level)
    assert mean == pytest.approx(values.mean(), abs=1e-9)
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error > 1e-9:
        expected = stats.t.interval(level, len(values) - 1, values.mean(), error)
        assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_an_interval_holds_the_mean_as_often_as_its_level_says():
    drawn = np.random.default_rng(0).standard_normal((4000, 5))
    for level in (0.5, 0.9, 0.95):
        held = np.mean([low <= 0 <= high for _, low, high in (student_t(d, level) for d in drawn)])
        assert held == pytest.approx(level, abs=0.02)


def test_no_value_has_no_mean_and_one_has_no_interval():
    assert np.isnan(student_t(np.array([]), 0.9)).all()
    mean, low, high = student_t(np.array([3.0]), 0.9)
    assert mean == 3.0
    assert math.isnan(low)
    assert math.isnan(high)
    assert np.isnan(moderated_t(np.array([]), 0.9, usual_deviation=1.0, like_seeds=3)).all()


def test_a_moderated_interval_of_one_value_is_that_of_the_usual_deviation():
    mean, low, high = moderated_t(np.array([1.0]), 0.9, usual_deviation=0.2, like_seeds=3)
    half = stats.t.ppf(0.95, 3) * 0.2
    assert (mean, low, high) == pytest.approx((1.0, 1.0 - half, 1.0 + half))


def test_a_moderated_deviation_lies_between_the_usual_one_and_that_of_the_values():
    values = np.array([0.0, 1.0, 2.0, 3.0])
    freedom, pooled = 3 + 3, math.sqrt((3 * 0.2**2 + 5.0) / 6)
    half = stats.t.ppf(0.95, freedom) * pooled / 2
    low, high = moderated_t(values, 0.9, usual_deviation=0.2, like_seeds=3)[1:]
    assert (low, high) == pytest.approx((1.5 - half, 1.5 + half))
    assert 0.2 < pooled < values.std(ddof=1)


@given(VALUES)
def test_a_paired_p_is_that_of_scipy_where_the_differences_differ(values):
    if np.ptp(values) > 1e-3 * max(np.abs(values).max(), 1e-9):
        assert paired_p(values) == pytest.approx(stats.ttest_1samp(values, 0.0)[1], rel=1e-6)


@pytest.mark.parametrize(("n", "p"), [(2, 0.5), (3, 0.25), (6, 2.0**-5)])
def test_differences_that_are_all_alike_have_the_p_of_their_signs(n, p):
    assert paired_p(np.full(n, 0.3)) == p
    assert paired_p(np.zeros(n)) == 1.0
    assert math.isnan(paired_p(np.array([0.3])))


@given(P_VALUES)
def test_holm_never_lowers_a_p_keeps_their_order_and_stays_below_bonferroni(p):
    corrected = holm(p)
    assert corrected.keys() == p.keys()
    ordered = sorted(p, key=p.__getitem__)
    values = [corrected[key] for key in ordered]
    assert values == sorted(values)
    for key in p:
        assert p[key] <= corrected[key] <= min(1.0, len(p) * p[key]) or corrected[key] == 1.0


def test_holm_makes_a_later_p_at_least_an_earlier_one():
    assert holm({"a": 0.01, "b": 0.02, "c": 0.0201}) == pytest.approx(
        {"a": 0.03, "b": 0.04, "c": 0.04}
    )
