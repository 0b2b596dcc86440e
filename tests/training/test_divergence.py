"""The rule that tells a diverged run from a healthy one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.training.divergence import WINDOW, Divergence

LOSSES = st.lists(st.floats(-100, 100), min_size=1, max_size=60)


def diverged_at(losses):
    """The rule in one go, slow and obvious: index of the update of the divergence, or None."""
    finite = np.isfinite(losses)
    broken = None if finite.all() else int(np.argmin(finite))
    usable = losses[:broken]
    if len(usable) < WINDOW:
        return broken
    windows = np.lib.stride_tricks.sliding_window_view(usable, WINDOW)
    medians = np.median(windows, axis=1)
    start, spread = medians[0], np.ptp(usable[:WINDOW])
    limits = start + 3 * (start - np.minimum.accumulate(medians) + spread)
    above = ~(medians <= limits)
    return int(np.argmax(above)) + WINDOW - 1 if above.any() else broken


def descent(noise: float, updates: int = 200, seed: int = 0) -> np.ndarray:
    """A loss that falls from 2 to 0.5, with noise as a share of the fall."""
    curve = 0.5 + 1.5 * np.exp(-np.arange(updates) / 40)
    return curve + noise * 1.5 * np.random.default_rng(seed).standard_normal(updates)


def blow_up(at: int, factor: float = 2.0) -> np.ndarray:
    """A quiet descent whose loss grows by a factor at every update from `at` on."""
    curve = descent(noise=0.02)
    curve[at:] += factor ** np.arange(1, len(curve) - at + 1)
    return curve


@given(LOSSES, st.integers(-1000, 1000), st.integers(-8, 8))
def test_a_constant_added_or_a_factor_changes_nothing(losses, shift, power):
    # whole eighths, so that neither the shift nor the power of two is rounded
    exact = np.round(np.array(losses) * 8) / 8
    expected = diverged_at(exact)
    assert diverged_at(exact + shift) == expected
    assert diverged_at(exact * 2.0**power) == expected


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("shift", [0.0, -1.0, -50.0])
def test_a_healthy_noisy_descent_is_not_diverged(noise, shift):
    assert [diverged_at(descent(noise, seed=k) + shift) for k in range(30)] == [None] * 30


@given(st.floats(-10, 10), st.floats(0.01, 10), st.integers(0, 99))
def test_a_run_that_only_fails_to_learn_is_not_diverged(level, noise, seed):
    losses = level + noise * np.random.default_rng(seed).uniform(-1, 1, 300)
    assert diverged_at(losses) is None


@pytest.mark.parametrize("shift", [0.0, -1.0, -50.0])
@pytest.mark.parametrize("at", [20, 60, 120])
def test_a_blow_up_is_found_within_a_window_and_a_few_doublings(at, shift):
    found = diverged_at(blow_up(at) + shift)
    assert found is not None
    assert at < found < at + 2 * WINDOW


def test_a_single_spike_is_not_a_divergence():
    losses = descent(noise=0.02)
    losses[100] = 1e6
    assert diverged_at(losses) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1, WINDOW - 1, WINDOW, 50])
def test_the_first_loss_that_is_not_finite_is_where_it_diverged(value, at):
    losses = descent(noise=0.02)
    losses[at] = value
    losses[at + 5] = np.nan
    assert diverged_at(losses) == at


def test_a_rise_before_the_nan_is_where_it_diverged():
    losses = blow_up(at=40)
    losses[80:] = np.nan
    found = diverged_at(losses)
    assert found is not None
    assert found < 40 + 2 * WINDOW


@given(LOSSES)
def test_the_verdict_on_a_prefix_does_not_change_as_the_run_goes_on(losses):
    whole = diverged_at(np.array(losses))
    prefixes = [diverged_at(np.array(losses[:n])) for n in range(1, len(losses) + 1)]
    first = next((found for found in prefixes if found is not None), None)
    assert first == whole


@pytest.mark.parametrize("length", [0, 1, WINDOW - 1])
def test_fewer_losses_than_a_window_are_not_judged_unless_not_finite(length):
    assert diverged_at(2.0 ** np.arange(length) * 1e3) is None


@given(
    LOSSES,
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from([np.nan, np.inf, 1e6])), max_size=12),
)
def test_losses_that_come_in_pieces_are_judged_like_the_whole(losses, cuts, marks):
    whole = np.array(losses)
    for at, value in marks:
        whole[at:][:1] = value
    pieces = np.split(whole, sorted(min(cut, len(whole)) for cut in cuts))
    judge, seen = Divergence(), 0
    for piece in pieces:
        seen += len(piece)
        assert judge.add(piece) == judge.at == diverged_at(whole[:seen])


@pytest.mark.parametrize("size", [1, 3, WINDOW, 50])
def test_a_blow_up_and_a_descent_in_pieces_are_judged_like_the_whole(size):
    for losses in (descent(0.1), blow_up(20), blow_up(120)):
        judge = Divergence()
        for first in range(0, len(losses), size):
            judge.add(losses[first : first + size])
        assert judge.at == diverged_at(losses)
