"""What is read off one seed's curve of a range test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrfinder.range_tests.rules.features import curve_features, smoothed

LOSSES = st.floats(-1e3, 1e3)


def slowly_smoothed(values, width):
    """The same average by its whole matrix of weights."""
    index = np.arange(len(values))
    weights = np.exp(-0.5 * ((index[:, None] - index) / max(width, 1e-9)) ** 2)
    return weights @ values / weights.sum(axis=1)


@given(arrays(float, st.integers(1, 200), elements=LOSSES), st.floats(0.01, 10))
def test_the_smooth_curve_is_the_symmetric_gaussian_average(values, width):
    expected = slowly_smoothed(values, width)
    np.testing.assert_allclose(smoothed(values, width), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("steps", [8, 100, 1000])
def test_a_smooth_curve_is_as_before_to_the_last_digits(steps):
    values = np.cumsum(np.random.default_rng(steps).normal(size=steps))
    expected = slowly_smoothed(values, steps / 50)
    np.testing.assert_allclose(smoothed(values, steps / 50), expected, rtol=1e-13, atol=1e-13)


def test_smoothing_needs_memory_in_proportion_to_the_points():
    """The whole matrix of weights would take 20 GB."""
    assert smoothed(np.linspace(2, 1, 50_000), 3.0).shape == (50_000,)


@given(LOSSES, st.floats(0.1, 100))
def test_features_are_free_of_level_and_scale(level, scale):
    lr, noise = np.geomspace(1e-6, 10, 100), np.random.default_rng(0).normal(size=100)
    loss = 2 - 1.5 / (1 + (0.01 / lr) ** 2) + 0.001 * noise
    plain = curve_features(lr, loss, 2.0)
    moved = curve_features(lr, scale * loss + level, scale * 2.0 + level)
    assert moved.centre == pytest.approx(plain.centre, rel=1e-6)
    assert moved.signal == pytest.approx(plain.signal, rel=1e-4)


def test_the_scatter_is_the_deviation_of_the_noise():
    """A median of absolute residuals, scaled to the standard deviation of a normal distribution."""
    lr, noise = np.geomspace(1e-6, 10, 3000), np.random.default_rng(0).normal(size=3000)
    loss = 2 - 1.5 / (1 + (0.01 / lr) ** 4) + 0.05 * noise
    assert curve_features(lr, loss, 2.0).scatter == pytest.approx(0.05, rel=0.1)
