"""How the lr goes with the batch size: a slope with its error, and nothing beyond."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.range_tests.series import Series


def suggested(lr: float | None, factor: float = 3.0) -> Suggestion:
    if lr is None:
        return Suggestion(None, None, None, "inconclusive", "the loss never fell")
    return Suggestion(lr, lr / factor, lr * factor, "suggested", "")


def series(lrs, values=(32, 128, 512), factor=3.0) -> Series:
    return Series("batch_size", tuple(values), tuple(suggested(lr, factor) for lr in lrs))


@given(power=st.floats(-1, 1), values=st.lists(st.integers(1, 4096), min_size=2, unique=True))
def test_a_power_law_is_read_off_as_it_is(power, values):
    slope = series([0.1 * n**power for n in values], values).slope
    assert slope is not None
    assert slope.slope == pytest.approx(power, abs=1e-6)
    assert slope.low < slope.slope < slope.high


def test_the_error_is_that_of_the_intervals():
    """With two values it is the difference's: sqrt(2) deviations over the way between them."""
    slope = series([0.1, 0.2], (10, 1000), factor=2.0).slope
    assert slope is not None
    half = math.sqrt(2) * math.log(2) / math.log(100)
    assert (slope.high - slope.low) / 2 == pytest.approx(half)


def test_lrs_that_scatter_by_more_than_their_intervals_widen_the_error():
    straight = series([0.1, 0.2, 0.4], factor=1.1).slope
    crooked = series([0.1, 2.0, 0.4], factor=1.1).slope
    assert straight is not None
    assert crooked is not None
    by_intervals = math.log(1.1) / (math.log(4) * math.sqrt(2))
    assert (straight.high - straight.low) / 2 == pytest.approx(by_intervals)
    assert (crooked.high - crooked.low) / 2 > 5 * by_intervals


def test_a_sharp_lr_counts_more_than_a_vague_one():
    lrs, factors = [0.1, 0.2, 0.1], [1.1, 1.1, 30.0]
    said = tuple(suggested(lr, f) for lr, f in zip(lrs, factors, strict=True))
    slope = Series("batch_size", (10, 100, 1000), said).slope
    assert slope is not None
    assert slope.slope == pytest.approx(np.log10(2), abs=0.05)


def test_nothing_is_said_beyond_what_was_measured():
    known, reach = series([0.1, 0.2, None]).said()
    assert known.startswith("from 32 to 128 the lr goes as batch size^0.50 (90% interval -")
    assert known.endswith("that is not told apart from one lr")
    assert reach == "below 32 and above 128 nothing is said: measure there (--batch-sizes)"
    assert "told apart" not in series([0.1, 0.2, 0.4], factor=1.05).said()[0]
    assert "is not known" in series([0.1, None, None]).said()[0]
