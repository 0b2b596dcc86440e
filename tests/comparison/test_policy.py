"""Who is trained on how many further seeds, and what the looks show."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.comparison.policy import (
    ALPHAS,
    CONTINUED,
    ERROR_RATE,
    Halving,
    Look,
    Results,
    same_lrs,
    seeds_compared,
    seeds_of,
    shown,
)

SEEDS = range(500, 900)


def drawn(means: dict[str, float], seed: int = 0, deviation: float = 1.0) -> dict:
    """Values of candidates with these means on every seed."""
    random = np.random.default_rng(seed)
    return {k: {s: m + deviation * random.normal() for s in SEEDS} for k, m in means.items()}


def names_of(count: int, baseline: bool) -> list[str]:
    return ["constant", *(f"c{k}" for k in range(count - 1 - baseline)), *["baseline"][:baseline]]


def played(halving: Halving, values: dict, lost=(), same_as=None) -> tuple[list[Look], Results]:
    """All looks of a comparison, each of which knows only the runs of the looks before it."""
    looks: list[Look] = []
    while True:
        pairs = {(n, s) for look in looks for n in look.candidates for s in look.seeds}
        known = {n: {s: v for s, v in own.items() if (n, s) in pairs} for n, own in values.items()}
        results = Results(known, frozenset(lost), (same_as or {}) if looks else {})
        look = halving.next_look(list(values), SEEDS, looks, results)
        if look is None:
            return looks, results
        looks.append(look)


def runs_of(looks: list[Look]) -> int:
    return sum(len(look.candidates) * len(look.seeds) for look in looks)


COMPARED = st.tuples(st.integers(3, 12), st.booleans(), st.integers(1, 20), st.integers(0, 99))


@given(COMPARED)
def test_runs_are_spent_and_never_more_than_asked(asked):
    count, baseline, each, seed = asked
    names = names_of(count, baseline)
    looks, _ = played(
        Halving(each * count, ("constant", "baseline")), drawn(dict.fromkeys(names, 0.0), seed)
    )
    spent = runs_of(looks)
    assert spent <= each * count
    assert looks[0].candidates == tuple(names)
    ended_early = looks[-1].alpha < ALPHAS[-1]
    assert ended_early or each * count - spent < len(looks[-1].candidates)


@given(COMPARED)
def test_looks_are_nested_on_seeds_of_their_own_and_keep_whom_they_must(asked):
    count, baseline, each, seed = asked
    names = names_of(count, baseline)
    kept = {"constant", *["baseline"][:baseline]}
    looks, _ = played(
        Halving(each * count, ("constant", "baseline")), drawn(dict.fromkeys(names, 0.0), seed)
    )
    for before, after in pairwise(looks):
        assert set(after.candidates) <= set(before.candidates)
        assert kept < set(after.candidates)
    taken = seeds_of(looks)
    assert taken == list(SEEDS[: len(taken)])
    assert sum(look.alpha for look in looks) <= ERROR_RATE - CONTINUED + 1e-12


def test_eight_candidates_and_64_runs_are_halved_as_the_description_says():
    names = names_of(8, baseline=False)
    looks, results = played(
        Halving(64, ("constant",)), drawn({n: k / 100 for k, n in enumerate(names)})
    )
    assert [(len(look.candidates), len(look.seeds)) for look in looks] == [(8, 2), (4, 6), (2, 12)]
    assert len(seeds_compared(looks, results)) == 6 + 12


def test_the_best_go_on():
    means = {"constant": 9.0, "a": 3.0, "b": 1.0, "c": 2.0, "d": 4.0, "e": 5.0}
    looks, _ = played(Halving(48, ("constant",)), drawn(means, deviation=1e-3))
    assert [set(look.candidates) for look in looks[1:2]] == [{"constant", "a", "b", "c"}]


def test_it_ends_as_soon_as_the_best_is_shown_to_be_better_than_all_who_are_kept():
    means = {"constant": 9.0, "baseline": 0.3, "a": 0.0, "b": 0.5, "c": 1.0, "d": 2.0}
    sure, _ = played(Halving(48, ("constant",)), drawn(means, deviation=0.1))
    unsure, _ = played(Halving(48, ("constant", "baseline")), drawn(means, deviation=0.4))
    assert (len(sure), len(unsure)) == (2, 3)
    assert runs_of(sure) < 48


def test_one_that_diverged_is_not_kept_and_comes_last():
    means = {"constant": -5.0, "a": 0.0, "b": 1.0, "c": 2.0}
    looks, results = played(Halving(32, ("constant",)), drawn(means), lost=["constant"])
    assert "constant" not in looks[1].candidates
    assert results.order(list(means), looks[0].seeds)[-1] == "constant"


def test_those_that_trained_by_the_same_lrs_are_one():
    means = {"constant": 0.0, "plateau": 0.0, "a": 0.1, "b": 0.2, "c": 0.3}
    looks, _ = played(Halving(40, ("constant",)), drawn(means), same_as={"plateau": "constant"})
    assert all("plateau" not in look.candidates for look in looks[1:])
    assert all(look.followers == () for look in looks)  # whose lrs are known ahead stays alike
    lrs = {"constant": {1: 7, 2: 7}, "plateau": {1: 7, 2: 7}, "late": {1: 7, 2: 8}, "old": {1: 0}}
    assert same_lrs({**lrs, "older": {1: 0}}) == {"plateau": "constant"}


ALIKE = {"constant": 0.0, "plateau": 0.0, "a": 0.1, "b": 0.2, "c": 5.0, "d": 5.0}


def test_one_that_may_part_goes_along_uncounted_with_whom_it_trained_alike():
    halving = Halving(48, ("constant",), may_part=("plateau",))
    looks, results = played(halving, drawn(ALIKE), same_as={"plateau": "constant"})
    alone, _ = played(replace(halving, may_part=()), drawn(ALIKE), same_as=results.same_as)
    assert [look.followers for look in looks] == [(), ("plateau",), ("plateau",)]
    assert [replace(look, followers=()) for look in looks] == alone
    assert shown(looks, results) == shown(alone, results)


def test_one_that_has_parted_is_compared_with_all_its_runs():
    halving = Halving(48, ("constant",), may_part=("plateau",))
    values = drawn({**ALIKE, "plateau": -9.0})
    looks, results = [], Results({}, same_as={"plateau": "constant"})
    for _ in range(2):
        looks.append(halving.next_look(list(ALIKE), SEEDS, looks, results))
        results = Results(values, same_as={"plateau": "constant"})
    parted = Results(values)
    assert looks[1].followers == ("plateau",)
    assert "plateau" in looks[1].compared(parted)
    assert frozenset(("plateau", "a")) in shown(looks, parted)
    third = halving.next_look(list(ALIKE), SEEDS, looks, parted)
    assert third is None or ("plateau" in third.candidates and not third.followers)
    assert set(parted.on("plateau", seeds_of(looks))) == {
        values["plateau"][seed] for seed in seeds_of(looks)
    }


def test_few_runs_are_one_look():
    looks, _ = played(Halving(15, ("constant",)), drawn(dict.fromkeys(names_of(5, False), 0.0)))
    assert [(len(look.candidates), len(look.seeds)) for look in looks] == [(5, 3)]
    assert looks[0].alpha == pytest.approx(ERROR_RATE - CONTINUED)


@given(COMPARED, st.integers(8, 200))
def test_a_comparison_is_continued_once_by_those_who_are_left(asked, more):
    count, baseline, each, seed = asked
    values = drawn(dict.fromkeys(names_of(count, baseline), 0.0), seed)
    kept, runs = ("constant", "baseline"), each * count
    before, _ = played(Halving(runs, kept), values)
    looks, _ = played(Halving(runs, kept, runs + more), values)
    assert looks[: len(before)] == before
    further = looks[len(before) :]
    assert [look.alpha for look in further] in ([CONTINUED], [])
    assert all(look.candidates == before[-1].candidates for look in further)
    assert runs + more - len(looks[-1].candidates) < runs_of(looks) <= runs + more


def test_the_seeds_by_which_candidates_were_chosen_do_not_count():
    looks = [
        Look(("a", "b", "c"), (1, 2), 0.0),
        Look(("a", "b"), (3,), 0.0),
        Look(("a", "b"), (4,), 0.04),
    ]
    assert seeds_compared(looks, Results({})) == [3, 4]
    assert seeds_compared(looks[:1], Results({})) == [1, 2]
    assert seeds_compared(looks, Results({}, same_as={"c": "a"})) == [1, 2, 3, 4]  # no choice


def claims(means: dict[str, float], draws: int = 200) -> list[set]:
    """Pairs that were shown, in repeated comparisons of 8 runs for each candidate."""
    halving = Halving(8 * len(means), ("constant",))
    return [set(shown(*played(halving, drawn(means, seed)))) for seed in range(draws)]


def test_hardly_any_difference_is_shown_where_there_is_none():
    wrong = sum(bool(pairs) for pairs in claims(dict.fromkeys(names_of(8, False), 0.0)))
    assert wrong <= 18  # 4% of 200 is 8, with a standard deviation of 3


def test_a_constant_that_is_worse_by_two_deviations_is_shown_to_be():
    means = {**dict.fromkeys(names_of(8, False), 0.0), "constant": 2.0}
    found = sum(any("constant" in pair for pair in pairs) for pairs in claims(means, 60))
    assert found >= 57
