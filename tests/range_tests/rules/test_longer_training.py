"""What probes say about a longer training: laws over losses that are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.rules.longer_training import proneness, read, widened
from lrfinder.range_tests.rules.probes import (
    Probe,
    check_probes,
    first_lrs,
    further_lr,
    level,
    probe_updates,
)
from lrfinder.statistics import Mean

nan = float("nan")
levels = st.floats(-100, 100)
depths = st.floats(1e-3, 1e3)


def probes(losses: dict[float, float], updates: int = 100, **facts: float) -> list[Probe]:
    return [Probe(0, lr, updates, loss, **facts) for lr, loss in losses.items()]


def valley(
    best: float,
    depth: float = 1.0,
    top: float = 1.0,
    moved: float = 0.0,
    rate: float = 0.0,
    lower: float = nan,
    higher: float = 0.0,
):
    """Probes around 10**best; halfway the best was 2**moved times higher, and the loss by rate.

    The losses of training are lower, by a share of the depth, and best at 2**higher times the lr.
    """

    def loss(lr: float, at: float) -> float:
        return top - depth + depth * min(1.0, 0.5 * (math.log10(lr) - at) ** 2)

    made = []
    for lr in [10 ** (best + decades) for decades in (-1.2, -0.6, 0.0, 0.6, 1.2)]:
        halfway = loss(lr, best + moved * math.log10(2)) + rate * math.log(2) * depth
        trained = loss(lr, best + higher * math.log10(2)) - lower * depth
        made.append(Probe(0, lr, 100, loss(lr, best), halfway=halfway, train_loss=trained))
    return made


@given(best=st.floats(-3, 0), depth=depths, top=levels, updates=st.sampled_from([25, 100, 400]))
@settings(max_examples=50)
def test_probes_find_a_known_valley_whatever_its_level_and_scale(best, depth, top, updates):
    def loss(lr: float) -> float:
        return depth * (top - 1 + min(1.0, (np.log10(lr) - best) ** 2))

    made = probes({lr: loss(lr) for lr in first_lrs(10.0 ** (best - 0.6))}, updates)
    found = read(depth * top, made, budget=updates)
    assert found is not None
    assert found.stretch == 1
    assert 0.5 < found.lr / 10**best < 2


@given(
    depth=depths,
    top=levels,
    moved=st.floats(-1, 1),
    rate=st.floats(-0.2, 0.8),
    lower=st.floats(-0.5, 2),
    budget=st.integers(100, 100_000),
)
@settings(max_examples=50)
def test_scale_and_level_of_the_loss_change_nothing(depth, top, moved, rate, lower, budget):
    plain = read(1.0, valley(-2, 1.0, 1.0, moved, rate, lower, 0.7), budget)
    other = read(top, valley(-2, depth, top, moved, rate, lower, 0.7), budget)
    assert plain is not None
    assert other is not None
    assert other.lr == pytest.approx(plain.lr, rel=1e-4)
    assert other.exponent == pytest.approx(plain.exponent, abs=1e-4)
    assert (other.below, other.above) == pytest.approx((plain.below, plain.above), rel=1e-3)


@given(
    st.integers(1, 100_000),
    st.integers(1, 100_000),
    st.floats(-1, 2),
    st.floats(-0.3, 1),
    st.floats(-0.5, 2),
)
def test_a_longer_training_never_gets_a_higher_lr_and_one_as_short_as_the_probes_their_own(
    a, b, moved, rate, lower
):
    made = valley(-2, moved=moved, rate=rate, lower=lower, higher=1)
    short, long = (read(1.0, made, budget) for budget in sorted((a, b)))
    assert short.lr >= long.lr
    assert 0 <= long.exponent <= 1.2
    if max(a, b) <= 100:
        assert long.lr == short.lr == pytest.approx(0.01, rel=1e-6)


def drawn(shown: float, stretch: float) -> float:
    """An exponent drawn towards 0.6, half way where the training is e^0.5 times as long."""
    return (math.log(stretch) * shown + 0.3) / (math.log(stretch) + 0.5)


@given(st.floats(-0.5, 1.5), st.floats(-0.3, 0.9))
def test_what_probes_show_counts_the_more_the_longer_the_training_is(moved, rate):
    made = valley(-2, moved=moved, rate=rate)
    found = [read(1.0, made, 100 * times).exponent for times in (1, 2, 5, 50, 5000)]
    assert found[0] == pytest.approx(0.6)
    away = np.abs(np.array(found) - 0.6)
    assert (np.diff(away) >= -1e-9).all()
    shown = (found[2] * (math.log(5) + 0.5) - 0.3) / math.log(5)
    assert found[3] == pytest.approx(drawn(shown, 50))


def test_the_lr_falls_faster_where_the_favoured_one_moves_and_slower_where_the_loss_still_falls():
    def exponent(**facts: float) -> float:
        return read(1.0, valley(-2, **facts), 10_000).exponent

    assert exponent(moved=1.0) > exponent() > exponent(moved=-0.5)
    assert exponent() > exponent(rate=0.3) > exponent(rate=0.5)
    assert exponent(moved=1.5, rate=-0.3, lower=1, higher=1) == pytest.approx(drawn(1.2, 100))
    assert exponent(rate=0.9) == pytest.approx(drawn(0.0, 100))
    long = read(1.0, valley(-2), 10_000)
    assert long.lr == pytest.approx(0.01 * 100**-long.exponent, rel=1e-6)


def test_the_lr_falls_faster_where_the_losses_of_training_are_lower_and_favour_a_higher_lr():
    def exponent(lower: float, higher: float) -> float:
        return read(1.0, valley(-2, rate=0.4, lower=lower, higher=higher), 10_000).exponent

    plain = read(1.0, valley(-2, rate=0.4), 10_000).exponent
    assert exponent(0.4, 1) > exponent(0.2, 1) > exponent(0.2, 0.5) > plain
    for higher in (1, 1.5, 2):
        assert exponent(0.2, higher) <= drawn(0.6 - 0.4 + 1.5 * 0.2, 100) + 1e-6
    assert exponent(1.0, 2) == exponent(5.0, 2)
    for nothing in ((0.4, 0.0), (0.4, -1.0), (0.0, 1.0), (-0.5, 1.0)):
        assert exponent(*nothing) == pytest.approx(plain, abs=1e-6)
    one = [replace(probe, loss=nan, train_loss=nan) for probe in valley(-2)[-1:]]
    made = valley(-2, rate=0.4, lower=0.4, higher=1)
    broken = read(1.0, [*made[:-1], *one], 10_000)
    assert broken.exponent > plain


counts = st.integers(1, 10**9)
epochs = st.floats(0.01, 1e4)


@given(counts, counts, epochs, epochs)
def test_a_training_is_the_more_prone_the_more_weights_it_has_for_its_rows_and_the_longer_it_is(
    weights, rows, a, b
):
    short, long = (proneness(weights, rows, length) for length in sorted((a, b)))
    assert 0 <= short <= long <= 0.9
    assert proneness(2 * weights, rows, b) >= proneness(weights, rows, b)
    assert proneness(weights, rows, 10) == proneness(min(weights, rows), rows, a) == 0


def test_the_lr_falls_faster_where_the_training_is_prone_to_memorise_its_rows():
    plain, prone = (read(1.0, valley(-2, rate=0.4), 10_000, add).exponent for add in (0.0, 0.3))
    assert prone == pytest.approx(
        drawn((plain * (math.log(100) + 0.5) - 0.3) / math.log(100) + 0.3, 100)
    )
    assert read(1.0, valley(-2), 10_000, 0.9).exponent == pytest.approx(drawn(1.2, 100))


def test_a_record_without_losses_on_the_way_is_read_with_a_usual_exponent():
    made = [replace(probe, halfway=nan) for probe in valley(-2)]
    assert 0.4 < read(1.0, made, 10_000).exponent < 0.8
    assert read(1.0, made, None).stretch == 3


def test_a_start_far_above_the_best_constant_prediction_blurs_nothing():
    plain = valley(-2)[2:]
    known = [replace(probe, permuted=1.0, permuted_deviation=0.1) for probe in plain]
    assert level(1e6, known) == 1.0
    assert read(1e6, known, 5000).lr == pytest.approx(read(1.0, plain, 5000).lr)
    assert read(1e6, plain, 5000).lr > 2 * read(1.0, plain, 5000).lr


def test_probes_whose_loss_never_fell_favour_nothing():
    assert read(1.0, probes({0.1: 1.0, 0.4: 2.0, 1.6: nan}), 100) is None
    assert read(1.0, probes({0.1: nan, 0.4: nan, 1.6: nan}), 100) is None


@given(st.integers(100, 100_000), st.integers(100, 100_000), st.floats(-1, 2), st.floats(-0.3, 1))
def test_the_interval_grows_with_the_length_of_the_training(a, b, moved, rate):
    scatter = Mean(-3.0, -3.3, -2.7)
    made = valley(-2, moved=moved, rate=rate)
    readings = [[read(1.0, made, budget)] for budget in sorted((a, b))]
    short, long = (widened(scatter, reading) for reading in readings)
    assert long.low <= short.low < scatter.low
    assert long.high >= short.high > scatter.high


def test_the_best_lr_may_lie_above_where_it_was_lowered_and_below_where_it_was_not():
    scatter = Mean(-3.0, -3.3, -2.7)
    lowered = widened(scatter, [read(1.0, valley(-2, rate=0.0, lower=1, higher=1), 10_000)])
    kept = widened(scatter, [read(1.0, valley(-2, rate=0.9), 10_000)])
    alike = widened(scatter, [read(1.0, valley(-2, rate=0.0, lower=1, higher=1), 100)])
    assert lowered.high > kept.high + 1
    assert kept.low < lowered.low - 1
    assert lowered.low < alike.low - 1


def test_a_loss_that_turned_up_is_seen_where_the_run_came_down_and_rose_early():
    def turned(**facts: float) -> int | None:
        made = [replace(probe, lowest=probe.loss, lowest_at=100) for probe in valley(-2)]
        made[2] = replace(made[2], **facts)
        return read(1.0, made, 1000).turned_up_at

    assert turned(lowest=-0.2, lowest_at=40) == 40
    assert turned(lowest=-0.2, lowest_at=90) is None
    assert turned(lowest=-0.01, lowest_at=40) is None
    assert turned(lowest=nan, lowest_at=None) is None


def test_probes_go_on_beyond_the_end_that_is_best_and_below_a_divergence():
    assert further_lr(probes({0.1: 0.9, 0.4: 0.6, 1.6: 0.2})) == pytest.approx(6.4)
    assert further_lr(probes({0.1: 0.1, 0.4: 0.6, 1.6: 0.9})) == pytest.approx(0.025)
    assert further_lr(probes({0.1: 0.5, 0.4: 0.2, 1.6: 0.5})) is None
    assert further_lr(probes({0.1: 0.2, 0.4: 0.1, 1.6: nan})) is None
    assert further_lr(probes({0.1: nan, 0.4: nan, 1.6: nan})) == pytest.approx(0.025)


@given(st.integers(1, 10**7))
def test_a_probe_is_never_longer_than_the_training_and_within_its_bounds(budget):
    assert probe_updates(budget) == min(budget, probe_updates(budget))
    assert min(budget, 120) <= probe_updates(budget) <= 200


@pytest.mark.parametrize("count", [-1, 1, 2])
def test_a_number_of_probes_that_settles_nothing_is_refused(count):
    with pytest.raises(InvalidArgument, match="probes must be"):
        check_probes(count)


def test_a_run_that_diverged_counts_as_a_bad_one():
    held = [*valley(-2)[:3], *probes({0.04: 5.0, 0.16: 5.0})]
    lost = [*valley(-2)[:3], *probes({0.04: nan, 0.16: nan})]
    assert read(1.0, lost, 100).lr == pytest.approx(read(1.0, held, 100).lr)


def test_probes_that_noise_does_not_tell_apart_count_alike():
    quiet = [replace(probe, scatter=0.0) for probe in valley(-2)[2:]]
    noisy = [replace(probe, scatter=1.0) for probe in quiet]
    assert read(1.0, quiet, 100).lr < 1.3 * 10**-2
    assert read(1.0, noisy, 100).lr > 2 * 10**-2


def test_a_run_that_jumps_about_far_above_the_start_blurs_nothing():
    good = [replace(probe, scatter=0.0) for probe in valley(-2)]
    wild = Probe(0, 10.0, 100, 19.0, halfway=12.0, scatter=5.0)
    expected = read(1.0, good, 100).lr
    assert read(1.0, [*good, wild, wild], 100).lr == pytest.approx(expected, rel=0.01)


def test_the_band_reaches_further_down_where_the_probes_are_as_good_there():
    steep, wide = valley(-2)[1:], probes({1e-4: 0.001, 1e-3: 0.0, 1e-2: 0.0, 0.1: 1.0})
    assert read(1.0, wide, 100).below > read(1.0, steep, 100).below + 0.3
    cut = [*valley(-2)[2:], Probe(0, 1e-3, 100, nan)]
    assert 0 < read(1.0, cut, 100).below < read(1.0, wide, 100).below


def test_the_band_grows_with_the_length_of_the_training():
    kept, lowered = valley(-2, rate=0.9), valley(-2, moved=1.5, rate=-0.3)
    assert read(1.0, kept, 10_000).below > read(1.0, kept, 100).below
    assert read(1.0, lowered, 10_000).above > read(1.0, lowered, 100).above
