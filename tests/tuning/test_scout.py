"""One family looks for the lr before the others begin; of few trials families get one in turn."""

import time
from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import complete, space, task, trials_of
from test_shares import SCORES

from lrfinder.schedules import DEFAULT_FAMILIES
from lrfinder.tuning.samplers import scouted
from lrfinder.tuning.search import search
from lrfinder.tuning.shares import Scouting, Told, goals, rank, trials_of_scout

FAR = {"lr_low": 0.0005, "lr_default": 0.002, "lr_high": 2.0}
"""A suggestion far below the best lr of the linear task."""


def searched(names, trials, **options):
    """Results by family, and (family, lr) of every trial in the order in which they ended."""
    order = []

    def done(family, _number, history):
        order.append((family, history.plans[0].lr))

    options = {"seeds": [0], "even": False, "together": 64, **options}
    spaces = [one if not isinstance(one, str) else space(one, **FAR) for one in names]
    found = search(task(), spaces, trials=trials, trial_done=done, **options)
    return {one.space.family.name: one for one in found}, order


def test_the_scout_goes_up_until_its_best_lies_between_two_and_the_others_begin_there():
    results, order = searched(["constant", "step", "cosine"], 4)
    assert [family for family, _ in order[:5]] == ["cosine"] * 5
    tried = results["cosine"].trials[:5]
    assert [trial.lr for trial in tried] == pytest.approx([0.002, 0.001, 0.004, 0.008, 0.016])
    assert len({str(trial.params) for trial in tried}) == 1
    best = min(tried, key=lambda trial: trial.value).lr
    assert best > 0.004
    for name in ("constant", "step"):
        assert results[name].trials[0].lr == pytest.approx(best)
    assert sum(len(one.trials) for one in results.values()) == 3 * 4


def test_an_lr_at_which_all_diverges_is_left_downwards():
    too_high = {"lr_low": 0.01, "lr_default": 200.0, "lr_high": 800.0}
    spaces = [space(name, **too_high) for name in ("constant", "step", "cosine")]
    results, _ = searched(spaces, 5)
    tried = [trial.lr for trial in results["cosine"].trials[:5]]
    assert tried == pytest.approx([200, 100, 400, 50, 25])
    assert results["step"].trials[0].lr == pytest.approx(25)


def test_with_one_trial_a_family_the_lr_comes_first_and_families_in_their_order():
    results, order = searched(DEFAULT_FAMILIES, 1)
    made = {name: len(one.trials) for name, one in results.items()}
    assert sum(made.values()) == 8
    assert made["cosine"] == 4
    assert made["constant"] == 1
    none = [name for name, count in made.items() if count == 0]
    assert none == ["step", "inverse_time", "plateau"]
    best = min(results["cosine"].trials, key=lambda trial: trial.value).lr
    assert [lr for _, lr in order[4:]] == pytest.approx([best] * 4)


@pytest.mark.parametrize("families", [("constant", "step"), DEFAULT_FAMILIES[:6], DEFAULT_FAMILIES])
def test_with_two_trials_a_family_none_is_left_out(families):
    results, _ = searched(families, 2)
    assert min(len(one.trials) for one in results.values()) >= 1
    assert sum(len(one.trials) for one in results.values()) == 2 * len(families)


def test_families_that_are_named_are_all_tried():
    results, _ = searched(DEFAULT_FAMILIES, 1, every_family=True)
    assert [len(one.trials) for one in results.values()] == [1] * 8
    results, order = searched(DEFAULT_FAMILIES, 2, every_family=True)
    assert [family for family, _ in order[:3]] == ["cosine"] * 3


def test_nobody_looks_for_an_lr_that_is_given_or_for_equal_shares():
    fixed = [space(name, lr_low=0.05, lr_high=0.05) for name in ("constant", "step", "cosine")]
    results, _ = searched(fixed, 4)
    assert {trial.lr for one in results.values() for trial in one.trials} == {0.05}
    results, _ = searched(["constant", "step", "cosine"], 4, even=True)
    assert {one.trials[0].lr for one in results.values()} == {0.002}


def test_after_the_deadline_every_family_still_gets_its_trial():
    results, _ = searched(DEFAULT_FAMILIES, 4, together=1, deadline=time.monotonic() - 1)
    assert [len(one.trials) for one in results.values()] == [1] * 8


@pytest.mark.parametrize("after", [1, 3, 4, 6])
def test_a_search_that_is_interrupted_while_it_looks_goes_on_as_if_it_were_not(after):
    names, storage = ["constant", "step", "cosine"], optuna.storages.InMemoryStorage()
    spaces, left = [space(name, **FAR) for name in names], after

    def interrupts(_family, _number, _history):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    options = {"trials": 4, "seeds": [0], "even": False}
    with pytest.raises(KeyboardInterrupt):
        search(task(), spaces, storage=storage, trial_done=interrupts, **options)
    resumed = search(task(), spaces, storage=storage, **options)
    whole = search(task(), spaces, **options)
    assert [len(one.trials) for one in resumed] == [len(one.trials) for one in whole]
    for one, other in zip(resumed, whole, strict=True):
        assert [t.lr for t in one.trials[:3]] == pytest.approx([t.lr for t in other.trials[:3]])
    ended = [trial for name in names for trial in complete(trials_of(storage, name))]
    assert len(ended) == 12


@given(
    data=st.data(),
    families=st.integers(2, 9),
    trials=st.integers(1, 12),
    place=st.integers(1, 8),
)
def test_a_scout_changes_who_gets_trials_and_not_how_many_there_are(data, families, trials, place):
    most, place = trials_of_scout(families, trials), min(place, families - 1)
    took = data.draw(st.integers(min(3, most), most))
    values = [[] for _ in range(families)]

    def asked():
        told = [Told(tuple(own), rank=k) for k, own in enumerate(values)]
        told[0] = replace(told[0], lacks=int(len(values[0]) < 3))
        if most:
            made = len(values[place])
            stands = Scouting(took if made >= took else made + 1, ended=made >= took)
            told[place] = replace(told[place], scouting=stands)
        return goals(told, trials)

    while short := [k for k, goal in enumerate(asked()) if len(values[k]) < goal]:
        assert all(len(own) <= goal for own, goal in zip(values, asked(), strict=True))
        if len(values[place]) < took and most:
            assert short == [place]
        values[data.draw(st.sampled_from(short))].append(data.draw(SCORES))
    assert sum(map(len, values)) == families * trials
    assert trials == 1 or all(values)


def test_an_lr_that_is_moved_stays_in_the_range():
    one = space("step")
    assert [one.moved(factor).lr_default for factor in (2, 1e3, 1e-3)] == [0.1, 0.5, 0.005]


def test_half_of_the_trials_look_for_the_lr_at_most_and_none_where_three_are_too_many():
    assert [trials_of_scout(8, trials) for trials in (1, 2, 10)] == [4, 5, 5]
    assert [trials_of_scout(2, trials) for trials in (1, 2, 3, 9)] == [0, 0, 3, 5]
    assert trials_of_scout(1, 50) == 0


def test_a_scout_ends_with_its_best_between_two_or_with_its_trials():
    rising = [(4.0, 0.1), (5.0, 0.05), (3.0, 0.2), (2.0, 0.4), (1.0, 0.8)]
    assert scouted(rising, 3, 5, 0.01, 10) == 5
    assert scouted(rising[:4], 3, 5, 0.01, 10) is None
    assert scouted(rising, 3, 5, 0.01, 0.4) == 4
    assert scouted([(1.0, 0.1), (2.0, 0.05), (3.0, 0.2)], 3, 5, 0.01, 10) == 3
    assert scouted([(1.0, 0.1)], 3, 5, 0.1, 0.1) is None


def test_a_family_of_ones_own_comes_after_those_that_are_known():
    assert rank("cosine") < rank("polynomial") < rank("plateau") < rank("mine") == rank("multistep")
