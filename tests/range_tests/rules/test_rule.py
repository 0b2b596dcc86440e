"""Rules on synthetic curves: right within a factor of two, or inconclusive, and never an error."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

from lrfinder.range_tests.rules.features import smoothed
from lrfinder.range_tests.rules.other_rules import COMMON_RULES
from lrfinder.range_tests.rules.probes import Probe, unknown_above
from lrfinder.range_tests.rules.rule import suggest
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.schedules import FAMILIES, GROWTHS, Family, Schedule
from lrfinder.schedules.transfer import peak_multiplier

LR = np.geomspace(1e-6, 10.0, 100)


def valley(lowest: float, depth: float = 1.0, lr=LR, slopes: tuple[float, float] = (1.0, 1.0)):
    """Loss against lr: level 0, then down to -depth at the lr `lowest`, then up again."""
    decades = np.log10(lr / lowest)
    left = -depth * np.exp(-((decades / slopes[0]) ** 2))
    right = -depth + depth * (decades / slopes[1]) ** 2
    return np.where(decades < 0, left, right)


def read(loss, start: float | np.ndarray = 0.0, train_loss=None, lr=LR) -> Suggestion:
    """Suggest from losses [seeds, steps] or [steps]."""
    rows = np.atleast_2d(np.asarray(loss, dtype=float))
    batches = rows if train_loss is None else np.atleast_2d(train_loss)
    return suggest(lr, rows, batches, np.broadcast_to(start, len(rows)).astype(float))


def check_form(suggestion: Suggestion) -> None:
    """What holds for every suggestion."""
    assert (suggestion.lr is None) == (suggestion.verdict == "inconclusive")
    assert suggestion.reason
    assert "\n" not in suggestion.reason
    assert set(suggestion.alternatives) == set(COMMON_RULES)
    if suggestion.lr is None:
        assert suggestion.low is suggestion.high is None
        return
    assert np.isfinite(suggestion.lr)
    if suggestion.diverged_at is not None:
        assert suggestion.lr < suggestion.diverged_at
    if suggestion.low is not None and suggestion.high is not None:
        assert suggestion.low <= suggestion.lr <= suggestion.high


VALLEYS = {
    "lowest": st.floats(1e-2, 2.0),
    "depth": st.floats(1e-3, 1e3),
    "noise": st.sampled_from([0.0, 0.005, 0.02]),
    "slope": st.floats(0.7, 1.5),
    "seeds": st.integers(1, 6),
    "ends_after": st.one_of(st.none(), st.floats(0.5, 1.5)),
    "seed": st.integers(0, 999),
}


def make(lowest, depth, noise, slope, seeds, ends_after, seed) -> np.ndarray:
    draw = np.random.default_rng(seed)
    clean = valley(lowest, depth, slopes=(slope, 1.0))
    losses = clean + noise * depth * draw.standard_normal((seeds, len(LR)))
    if ends_after is not None:
        losses[:, np.log10(LR / lowest) > ends_after] = np.nan
    return losses


def half_fall(lowest: float, slope: float) -> float:
    """Centre of the fall of a valley: the Gaussian's middle, 0.83 slopes below its lowest point."""
    return lowest * 10 ** (-0.83 * slope)


@given(**VALLEYS, level=st.floats(-100, 100))
def test_a_known_fall_is_found_within_a_factor_of_two(level, **given):
    losses = make(**given) + level * given["depth"]
    suggestion = read(losses, start=level * given["depth"])
    check_form(suggestion)
    assert suggestion.lr is not None
    assert 0.5 < suggestion.lr / half_fall(given["lowest"], given["slope"]) < 2
    if np.isnan(losses).any():
        assert suggestion.diverged_at is not None
        assert suggestion.lr < suggestion.diverged_at


@given(**{**VALLEYS, "noise": st.floats(0.0, 2.0)})
def test_under_any_noise_it_is_not_far_off_or_inconclusive(**given):
    suggestion = read(make(**given))
    check_form(suggestion)
    if suggestion.lr is not None and given["noise"] < 0.3:
        assert 0.1 < suggestion.lr / half_fall(given["lowest"], given["slope"]) < 10


@given(**VALLEYS, shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_a_constant_added_or_a_factor_changes_nothing(shift, scale, **given):
    losses = make(**given)
    plain = read(losses)
    moved = read(scale * losses + shift * scale * given["depth"], shift * scale * given["depth"])
    assert moved.verdict == plain.verdict
    assert plain.lr is not None
    assert moved.lr == pytest.approx(plain.lr, rel=1e-5)
    for name, lr in plain.alternatives.items():
        if name != "valley":  # it counts single falls, which rounding may make of equal losses
            assert moved.alternatives[name] == pytest.approx(lr, rel=1e-3)


def noise(seed: int, seeds: int = 5) -> np.ndarray:
    return 2 + 0.1 * np.random.default_rng(seed).standard_normal((seeds, len(LR)))


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_pure_noise_is_inconclusive_19_times_of_20(seeds):
    verdicts = [read(noise(k, seeds), noise(k + 1000, seeds)[:, 0]).verdict for k in range(60)]
    assert verdicts.count("inconclusive") >= 57


def walks(seed: int, seeds: int) -> np.ndarray:
    steps = 0.1 * np.random.default_rng(seed).standard_normal((seeds, len(LR) + 1))
    return 2 + np.cumsum(steps, axis=1)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_a_random_walk_is_inconclusive_19_times_of_20(seeds):
    drawn = [walks(k, seeds) for k in range(60)]
    verdicts = [read(w[:, 1:], w[:, 0]).verdict for w in drawn]
    assert verdicts.count("inconclusive") >= 57


@given(st.floats(-1e6, 1e6), st.integers(1, 5))
def test_a_flat_curve_is_inconclusive(level, seeds):
    suggestion = read(np.full((seeds, len(LR)), level), level)
    check_form(suggestion)
    assert suggestion.lr is None


CLIMB = np.linspace(0, 1, len(LR))
SHAPES = {
    "rising": (CLIMB, "lower --min-lr"),
    "rising ever faster": (np.exp(10 * CLIMB), "lower --min-lr"),
    "falling to the end": (-CLIMB, "raise --max-lr"),
    "lowest at the second last point": (np.abs(CLIMB[::-1] - CLIMB[1]), "raise --max-lr"),
    "lowest near the smallest lr": (valley(3e-6), "lower --min-lr"),
    "ended in the first steps": (np.where(np.arange(100) < 5, -CLIMB, np.nan), "lower --min-lr"),
    "without a single loss": (np.full(100, np.nan), "lower --min-lr"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seeds", [1, 4])
def test_a_curve_without_a_minimum_is_inconclusive_and_says_what_to_do(shape, seeds):
    loss, cure = SHAPES[shape]
    suggestion = read(np.tile(loss, (seeds, 1)), start=np.nan_to_num(loss[0]))
    check_form(suggestion)
    assert suggestion.lr is None
    assert cure in suggestion.reason


@given(
    values=st.lists(
        st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]), min_size=40, max_size=40
    ),
    train=st.lists(st.sampled_from([0.0, 3.0, np.nan, np.inf]), min_size=40, max_size=40),
    start=st.sampled_from([0.0, np.nan, np.inf, -np.inf]),
)
def test_no_value_anywhere_makes_it_raise(values, train, start):
    losses, batches = np.reshape(values, (2, 20)), np.reshape(train, (2, 20))
    check_form(read(losses, start, batches, lr=LR[:20]))


@given(**VALLEYS, where=st.integers(0, 99), value=st.sampled_from([np.nan, np.inf]))
def test_one_bad_value_in_one_seed_never_makes_it_raise(where, value, **given):
    losses = make(**given)
    losses[0, where] = value
    check_form(read(losses))


def test_seeds_that_disagree_are_inconclusive():
    losses = np.stack([valley(10.0**-k) for k in (0, 1, 2, 3, 4)])
    suggestion = read(losses)
    assert suggestion.lr is None
    assert "seeds disagree" in suggestion.reason


def test_a_seed_that_diverged_below_what_the_others_suggest_is_inconclusive():
    losses = np.stack([valley(5.0)] * 10)
    losses[0] = np.where(LR > 0.05, np.nan, valley(0.02))
    suggestion = read(losses)
    check_form(suggestion)
    assert suggestion.lr is None
    assert "one seed diverged at" in suggestion.reason


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_interval_is_students_t_on_log_lr(seeds):
    lowest = 0.1 * 10 ** np.random.default_rng(0).uniform(-0.2, 0.2, seeds)
    suggestion = read(np.stack([valley(lr) for lr in lowest]))
    own = [read(valley(lr)).lr for lr in lowest]
    logs = np.log(np.array(own, dtype=float))
    t = {2: 6.313752, 3: 2.919986, 8: 1.894579}[seeds]  # 95% quantile, from a printed table
    half = t * logs.std(ddof=1) / np.sqrt(seeds)
    assert suggestion.lr == pytest.approx(np.exp(logs.mean()))
    assert suggestion.low == pytest.approx(np.exp(logs.mean() - half), rel=1e-5)
    assert suggestion.high == pytest.approx(np.exp(logs.mean() + half), rel=1e-5)


def test_a_single_seed_has_no_interval():
    suggestion = read(valley(0.1))
    assert suggestion.lr is not None
    assert suggestion.low is suggestion.high is None


def test_the_divergence_edge_is_the_median_of_the_first_lr_without_a_loss():
    losses = np.stack([valley(0.01)] * 3)
    for row, end in enumerate((80, 85, 90)):
        losses[row, end:] = np.nan
    assert read(losses).diverged_at == LR[85]
    losses[1:] = valley(0.01)
    assert read(losses).diverged_at is None


def test_the_common_rules_read_the_training_loss_of_each_batch():
    alternatives = read(valley(1.0), train_loss=valley(0.01)).alternatives
    minimum, steepest, middle = (alternatives[k] for k in ("minimum/10", "steepest", "valley"))
    assert minimum == pytest.approx(0.001, rel=0.2)
    assert steepest == pytest.approx(0.01 * 10 ** -(0.5**0.5), rel=0.2)
    assert middle is not None
    assert 1e-6 < middle < 0.01


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.floats(0.1, 5))
def test_smoothing_is_symmetric_and_keeps_constants(values, width):
    values = np.array(values)
    forth, back = smoothed(values, width), smoothed(values[::-1], width)[::-1]
    np.testing.assert_allclose(forth, back, atol=1e-12)
    assert (forth >= values.min() - 1e-12).all()
    assert (forth <= values.max() + 1e-12).all()
    np.testing.assert_allclose(smoothed(np.full(9, values[0]), width), values[0])


# Predicted by the bound of Defazio et al. 2023 at T = 400 and T = 100 updates, to two decimals
MULTIPLIERS = {
    "wsd with a linear cooldown of 20%": (
        lambda t, T: np.minimum(1, (T - t) / (0.2 * T)),
        1.40,
        1.23,
    ),
    "linear": (lambda t, T: 1 - t / T, 2.73, 2.42),
    "cosine": (lambda t, T: (1 + np.cos(np.pi * t / T)) / 2, 2.65, 2.35),
    "1-sqrt": (lambda t, T: 1 - np.sqrt(t / T), 4.06, 3.59),
    "inverse time": (lambda t, T: 1 / (1 + 9 * t / T), 4.70, 4.41),
    "exponential to 1%": (lambda t, T: 0.01 ** (t / T), 5.62, 4.97),
    "a tenth at 50% and 75%": (
        lambda t, T: 0.1 ** ((t >= T / 2) * 1.0 + (t >= 3 * T / 4)),
        2.08,
        1.84,
    ),
}


@pytest.mark.parametrize("shape", MULTIPLIERS)
@pytest.mark.parametrize(("updates", "column"), [(400, 1), (100, 2)])
def test_the_published_peak_multipliers(shape, updates, column):
    rule = MULTIPLIERS[shape][0]
    value = peak_multiplier(rule(np.arange(updates), updates))
    assert value == pytest.approx(MULTIPLIERS[shape][column], abs=0.0051)


def slow_best_peak(e: np.ndarray) -> float:
    """The formula of `peak_multiplier`, term by term."""
    total = sum(e)
    t1, t2, t3 = 1 / (2 * total), sum(e**2) / (2 * total), 0.0
    for k in range(len(e) - 1):
        t3 += e[k] / sum(e[k + 1 :]) * sum(e[k:] ** 2) / sum(e[k:]) / 2
    return (t1 / (t2 + t3)) ** 0.5


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=15), st.floats(0.1, 10))
def test_the_peak_multiplier_is_its_formula_and_does_not_see_zeros(shape, factor):
    e = np.array(shape)
    expected = slow_best_peak(e) / slow_best_peak(np.ones(len(e)))
    assert peak_multiplier(e) == pytest.approx(expected)
    assert peak_multiplier(np.append(e, [0.0, 0.0])) == peak_multiplier(e)
    assert peak_multiplier(factor * e) == pytest.approx(expected / factor)


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=30), st.floats(0.0, 1.0))
def test_a_peak_keeps_the_sum_of_the_lrs_where_that_is_what_counts(shape, exponent):
    e = np.array([1.0, *shape])
    free, whole = peak_multiplier(e), peak_multiplier(e, 1.0)
    assert whole == pytest.approx(min(free, 1 / e.mean()))
    between = free ** (1 - exponent) * whole**exponent
    assert peak_multiplier(e, exponent) == pytest.approx(between)


STEPPED = {
    "constant": ({}, 1.0),
    "polynomial": ({"total_iters": 40, "power": 1.0}, None),
    "plateau": ({"mode": "min", "factor": 0.1, "patience": 3}, 1.0),
}


@pytest.mark.parametrize("name", STEPPED)
@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_a_suggestion_moves_to_the_peak_of_a_schedule(name, per):
    params, factor = STEPPED[name]
    suggestion = read(np.stack([valley(0.1), valley(0.2)]))
    assert suggestion.lr is not None
    assert suggestion.low is not None
    assert suggestion.high is not None
    schedule = Schedule(FAMILIES[name], params, per)
    moved = suggestion.for_schedule(schedule, updates=400, updates_per_epoch=10)
    if factor is None:
        steps = np.arange(400) if per == "batch" else np.repeat(np.arange(40), 10)
        factor = peak_multiplier(np.maximum(0, 1 - steps / 40))
        assert factor > 2
    for value, was in (
        (moved.lr, suggestion.lr),
        (moved.low, suggestion.low),
        (moved.high, suggestion.high),
    ):
        assert value == pytest.approx(was * factor)
    assert moved.schedule == str(schedule)
    assert moved.verdict == suggestion.verdict


def test_a_rule_for_each_group_moves_a_suggestion_by_the_largest_lr():
    suggestion = read(valley(0.1))
    assert suggestion.lr is not None
    line = Schedule(FAMILIES["polynomial"], {"total_iters": 40, "power": 1.0})
    rules = [lambda t: 1 - t / 40, lambda t: (1 - t / 40) * 10]
    both = Schedule(Family("both", lambda o, _: LambdaLR(o, rules), lambda *_: {}))
    expected = suggestion.for_schedule(line, 400, 10).lr
    assert suggestion.for_schedule(line, 400, 10, (0.5, 0.05)).lr == pytest.approx(expected)
    for ratios, factor in (((1.0, 0.1), 1), ((0.5, 0.05), 1), ((1.0, 0.3), 3)):
        moved = suggestion.for_schedule(both, 400, 10, ratios)
        assert moved.lr == pytest.approx(expected / factor)


def test_an_inconclusive_suggestion_moves_nowhere():
    suggestion = read(np.zeros(100))
    schedule = Schedule(FAMILIES["polynomial"], {"total_iters": 40, "power": 1.0})
    moved = suggestion.for_schedule(schedule, 400, 10)
    assert moved.lr is None
    assert astuple(moved)[:5] == astuple(suggestion)[:5]


def test_a_linear_growth_is_read_like_an_exponential_one():
    grid = Schedule(GROWTHS["linear"], {"factor": 1000.0, "steps": 1000}).rows([0.001], 1000)[:, 0]
    linear = read(valley(0.3, lr=grid), lr=grid)
    assert linear.lr is not None
    assert 0.2 < linear.lr / half_fall(0.3, 1.0) < 20  # up to the factor for a slower sweep


def test_a_peak_keeps_away_from_where_a_run_broke_and_is_never_below_the_constant_lr():
    constant = Suggestion(0.1, 0.05, 0.2, "suggested", "")
    schedule = Schedule(FAMILIES["cosine"], {"T_max": 40, "eta_min": 0.0}, per="batch")
    free = constant.for_schedule(schedule, 40, 10).lr
    assert free is not None
    distance = replace(constant, exponent=1.0).for_schedule(schedule, 40, 10).lr
    assert distance == pytest.approx(0.2, rel=0.03)
    assert distance < free
    for broke_at, expected in ((100.0, free), (0.8, 0.2), (0.3, 0.1)):
        moved = replace(constant, broke_at=broke_at).for_schedule(schedule, 40, 10)
        assert moved.lr == pytest.approx(expected)


def test_an_lr_at_which_a_run_learnt_nothing_is_one_that_broke():
    losses = {0.05: 0.3, 0.2: 0.2, 0.8: 1.5, 3.2: float("nan")}
    probes = [[Probe(0, lr, 100, loss, halfway=loss) for lr, loss in losses.items()]]
    curve = valley(0.2)[None] + 1.0
    found = suggest(LR, curve, curve, np.ones(1), probes=probes, budget=400)
    assert found.lr is not None
    assert found.lr < 0.8
    assert found.broke_at == 0.8
    assert found.exponent is not None
    cosine = Schedule(FAMILIES["cosine"], {"T_max": 400, "eta_min": 0.0}, per="batch")
    assert found.for_schedule(cosine, 400, 10).lr <= max(found.lr, 0.2) * (1 + 1e-9)
    learnt = [[replace(probe, loss=min(probe.loss, 0.9)) for probe in probes[0]]]
    assert suggest(LR, curve, curve, np.ones(1), probes=learnt, budget=400).broke_at == 3.2


def tried(losses, updates=200):
    """A suggestion for 2,000 updates from probes with these losses at 0.05, 0.2, 0.8, ..."""
    lrs = [0.05 * 4**k for k in range(len(losses))]
    pairs = zip(lrs, losses, strict=True)
    probes = [[Probe(0, lr, updates, loss, halfway=loss) for lr, loss in pairs]]
    curve = valley(0.2)[None] + 1.0
    return suggest(LR, curve, curve, np.ones(1), probes=probes, budget=2000)


@pytest.mark.parametrize(
    ("losses", "updates", "unknown_above"),
    [
        ((0.4, 0.2, 0.2), 200, None),
        ((0.4, 0.2, 0.2), 199, 0.8),  # shorter than is usual for the training
        ((0.4, 0.3, 0.2), 200, 0.8),  # the best may be higher
        ((0.4, 0.3, 0.2, float("nan")), 200, None),
        ((0.2, 0.3, 0.4), 200, None),
    ],
)
def test_a_peak_keeps_off_lrs_of_which_the_probes_show_nothing(losses, updates, unknown_above):
    found = tried(losses, updates)
    assert found.lr is not None
    assert found.unknown_above == (None if unknown_above is None else pytest.approx(unknown_above))
    cosine = Schedule(FAMILIES["cosine"], {"T_max": 2000, "eta_min": 0.0}, per="batch")
    free = replace(found, unknown_above=None).for_schedule(cosine, 2000, 10)
    moved = found.for_schedule(cosine, 2000, 10)
    if unknown_above is None:
        assert moved == free
    else:
        assert moved.lr == pytest.approx(max(found.lr, unknown_above / 4))
        assert moved.lr < free.lr
        assert moved.reason.endswith("no higher for cosine with no lr above 0.8 tried")


def test_most_seeds_decide_whether_the_best_may_be_higher():
    rising, falling = (0.2, 0.3, 0.4), (0.4, 0.3, 0.2)
    for seeds, expected in (((rising, rising, falling), None), ((rising, falling, falling), 0.8)):
        own = [
            [Probe(0, 0.05 * 4**k, 200, loss) for k, loss in enumerate(losses)] for losses in seeds
        ]
        assert unknown_above(own, 2000) == expected
        assert unknown_above(own, None) == expected
