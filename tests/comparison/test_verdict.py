"""What a comparison says: what to use, how much better it is, and how sure."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrfinder.comparison.candidates import ConfirmedRun
from lrfinder.comparison.policy import CONTINUED, Look
from lrfinder.comparison.ranking import Comparison
from lrfinder.comparison.verdict import verdict
from lrfinder.statistics import detectable, seeds_to_show

SEARCHED = {"constant": 0, "step": 2, "polynomial": 1, "start": 0}


def run(
    name: str, seed: int, value: float, *, lrs: int = 0, diverged: bool = False
) -> ConfirmedRun:
    return ConfirmedRun(name, 0.1, "S()", seed, value, diverged, 1, {"loss": value}, value, lrs)


def comparison(direction="minimize", looks=(), **values: list[float]) -> Comparison:
    """A comparison of these values by candidate, one per seed."""
    runs = [run(name, seed, v) for name, vs in values.items() for seed, v in enumerate(vs)]
    return Comparison(tuple(runs), direction=direction, looks=tuple(looks))


def around(mean: float, deviation: float = 0.1, count: int = 8, seed: int = 0) -> list[float]:
    return list(mean + deviation * np.random.default_rng(seed).standard_normal(count))


def test_the_simplest_of_those_that_are_as_good_is_recommended():
    alike = {"step": around(1.0, seed=1), "polynomial": around(1.02, seed=2)}
    found = verdict(comparison(**alike, constant=around(1.01, seed=3)), SEARCHED)
    assert found.recommended == "constant"
    found = verdict(comparison(**alike, constant=around(5.0, seed=3)), SEARCHED)
    assert (found.best, found.recommended, found.as_good) == ("step", "polynomial", ("polynomial",))
    found = verdict(comparison(**alike, start=around(1.05, seed=4)), SEARCHED)
    assert found.recommended == "start"
    both = comparison(start=around(1.0, seed=4), constant=around(1.01, seed=3))
    assert verdict(both, {"start": 0, "constant": 0}).recommended == "constant"


def test_of_as_many_parameters_the_earlier_is_recommended():
    values = {"b": around(1.0, seed=1), "a": around(1.01, seed=2)}
    assert verdict(comparison(**values), {"a": 1, "b": 1}).recommended == "a"
    assert verdict(comparison(**values), {"b": 1, "a": 1}).recommended == "b"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_is_better_by_a_positive_difference_whichever_way_is_better(direction):
    sign = 1 if direction == "minimize" else -1
    base = np.array(around(10.0))
    worse = base + sign * np.array(around(2.0, seed=5))
    found = verdict(comparison(direction, step=list(base), constant=list(worse)), SEARCHED)
    [against] = found.against
    assert against.shown
    assert against.better_by.low > 1
    assert against.share == pytest.approx(abs(worse - base).mean() / worse.mean())
    assert against.runs_to_show is None


def test_what_could_have_been_shown_is_shown_in_four_of_five():
    random, true = np.random.default_rng(0), 1.0
    differences = true + random.standard_normal((2000, 12))
    could = np.mean([detectable(d, 0.05) for d in differences])
    moved = differences - true + could
    found = [stats.ttest_1samp(d, 0.0)[1] < 0.05 for d in moved]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


@given(st.integers(3, 12), st.floats(0.05, 3.0), st.floats(0.005, 0.2))
def test_as_many_seeds_as_are_advised_could_show_the_difference(count, mean, alpha):
    values = np.linspace(-1, 1, count) + mean
    needed = seeds_to_show(values, alpha)
    deviation, level = values.std(ddof=1), abs(values.mean())

    def could(n):
        return (stats.t.ppf(1 - alpha / 2, n - 1) + stats.t.ppf(0.8, n - 1)) * deviation / n**0.5

    assert could(needed) <= level * (1 + 1e-9)
    assert needed == 2 or could(needed - 1) > level
    assert seeds_to_show(values - values.mean(), alpha) is None or abs(values.mean()) > 0
    assert seeds_to_show(values[:1], alpha) is None


def test_more_runs_are_advised_where_a_difference_is_not_shown():
    base = np.array(around(1.0, 0.01))
    noisy = base + np.array([0.3, -0.2, 0.25, 0.1, -0.1, 0.3, -0.15, 0.2])
    found = verdict(comparison(step=list(base), constant=list(noisy)), SEARCHED)
    [against] = found.against
    assert not against.shown
    assert against.could_show > against.better_by.mean
    seeds = seeds_to_show(noisy - base, CONTINUED)
    assert against.runs_to_show == 16 + 2 * (seeds - 8)


LOOKS = [
    Look(("constant", "step", "polynomial", "start"), (0, 1), 0.0),
    Look(("constant", "step"), (2, 3, 4, 5), 0.04),
]


def halved(**means: float) -> Comparison:
    random = np.random.default_rng(0)
    runs = [
        run(name, seed, means[name] + 0.01 * random.normal())
        for look in LOOKS
        for name in look.candidates
        for seed in look.seeds
    ]
    return Comparison(tuple(runs), looks=tuple(LOOKS))


def test_who_was_dropped_has_a_rank_and_no_verdict():
    made = halved(constant=1.1, step=1.0, polynomial=0.9, start=1.2)
    assert [s.candidate for s in made.ranking] == ["step", "constant", "polynomial", "start"]
    by_name = {s.candidate: s for s in made.ranking}
    assert [by_name[n].seeds for n in ("step", "polynomial")] == [6, 2]
    assert [by_name[n].dropped_at for n in ("step", "polynomial", "start")] == [None, 1, 1]
    assert math.isnan(by_name["polynomial"].p)
    assert not by_name["polynomial"].ties
    assert made.finalists == ("step", "constant")
    found = verdict(made, SEARCHED)
    assert found.recommended == "step"
    assert found.dropped == ((2, ("polynomial", "start")),)


def test_finalists_are_compared_on_the_seeds_after_the_choice():
    made = halved(constant=1.1, step=1.0, polynomial=0.9, start=1.2)
    late = made.values.loc[[2, 3, 4, 5]]
    by_name = {s.candidate: s for s in made.ranking}
    assert by_name["step"].value.mean == pytest.approx(late["step"].mean())
    difference = (late["constant"] - late["step"]).mean()
    assert by_name["constant"].difference.mean == pytest.approx(difference)
    early = made.values.loc[[0, 1]]
    dropped = (early["start"] - early["step"]).mean()
    assert by_name["start"].difference.mean == pytest.approx(dropped)


def test_the_start_needs_no_search_where_it_is_near_the_best_for_sure():
    base = np.array(around(1.0))
    near = base + 0.001 + 1e-4 * np.array(around(0.0, 1.0, seed=1))
    far = base + np.array(around(0.0, 0.5, seed=1))
    within = verdict(comparison(step=list(base), start=list(near)), SEARCHED).start_within
    assert 0 < within < 0.01
    assert verdict(comparison(step=list(base), start=list(far)), SEARCHED).start_within > 0.01
    assert verdict(comparison(start=list(base), step=list(near)), SEARCHED).start_within == 0.0
    assert verdict(comparison(step=list(base)), SEARCHED).start_within is None
    assert math.isnan(verdict(comparison(step=[1.0], start=[1.1]), SEARCHED).start_within)


def test_one_that_trained_by_the_same_lrs_stands_beside_the_one_that_stands_for_it():
    looks = [
        Look(("constant", "plateau", "step"), (0, 1), 0.0),
        Look(("constant", "step"), (2, 3), 0.04),
    ]
    runs = [
        run(name, seed, value + seed / 100, lrs=lrs)
        for look in looks
        for name, value, lrs in (("constant", 1.0, 7), ("plateau", 1.0, 7), ("step", 2.0, 8))
        if name in look.candidates
        for seed in look.seeds
    ]
    first, second, third = Comparison(tuple(runs), looks=tuple(looks)).ranking
    assert [s.candidate for s in (first, second, third)] == ["constant", "plateau", "step"]
    assert second.same_as == "constant"
    assert second.value == first.value
    assert second.seeds == first.seeds == 4


def test_the_order_of_the_runs_makes_no_difference():
    made = halved(constant=1.1, step=1.0, polynomial=0.9, start=1.2)
    mixed = Comparison(tuple(reversed(made.runs)), looks=made.looks)
    assert repr(mixed.ranking) == repr(made.ranking)  # nan is not nan
    assert mixed.values.equals(made.values)
    assert list(mixed.results.values) == list(made.looks[0].candidates)
