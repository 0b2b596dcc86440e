"""Where lrs are searched: what the README promises."""

from dataclasses import replace

import pytest
from small_tasks import linear_task, plain_sgd

from lrfinder.range_tests.rules.suggestion import SWEEP_RULE, Suggestion
from lrfinder.schedules import FAMILIES
from lrfinder.tuning.lr_ranges import fixed_lr, from_range_test, given_range
from lrfinder.tuning.space import Space

SUGGESTED = Suggestion(0.01, 0.008, 0.0125, "suggested", "", diverged_at=1.0)


def spaces(*names: str) -> list[Space]:
    return [Space(FAMILIES[name], 1.0, 1.0, 1.0, epochs=20, updates_per_epoch=10) for name in names]


def ranges(suggestion, *names):
    found, _ = from_range_test(spaces(*names), linear_task(optimizer=plain_sgd), suggestion)
    return [(space.lr_low, space.lr_default, space.lr_high) for space in found]


def test_the_range_reaches_beyond_the_interval_and_farther_where_it_is_that_of_seeds_alone():
    [(low, default, high)] = ranges(SUGGESTED, "constant")
    assert (low, default, high) == pytest.approx((0.008 / 2, 0.01, 0.0125 * 4))
    [(low, default, high)] = ranges(replace(SUGGESTED, rule=SWEEP_RULE), "constant")
    assert (low, default, high) == pytest.approx((0.008 / 4, 0.01, 0.0125 * 10))


def test_the_range_moves_with_the_peak_of_a_decay():
    constant, cosine = ranges(SUGGESTED, "constant", "cosine")
    moved = [b / a for a, b in zip(constant, cosine, strict=True)]
    assert moved == pytest.approx([moved[0]] * 3)
    assert 2 < moved[0] < 3


def test_the_range_ends_where_training_diverged():
    edge = Suggestion(0.3, 0.2, 0.45, "suggested", "", diverged_at=1.0)
    [(_, _, high)] = ranges(edge, "constant")
    assert high == 1.0


def test_a_suggestion_beyond_the_edge_is_still_inside_its_range():
    beyond = Suggestion(0.9, 0.8, 1.0, "suggested", "", diverged_at=1.0)
    [(low, default, high)] = ranges(beyond, "polynomial")
    assert low < default <= high


def test_a_fixed_lr_and_a_given_range_are_taken_as_they_are():
    [fixed], why = fixed_lr(spaces("step"), 0.3)
    assert (fixed.lr_low, fixed.lr_default, fixed.lr_high) == (0.3, 0.3, 0.3)
    assert "fixed at 0.3" in why
    [given], _ = given_range(spaces("step"), 0.01, 1.0)
    assert (given.lr_low, given.lr_high) == (0.01, 1.0)
    assert given.lr_default == pytest.approx(0.1)
