"""How many trials each family gets."""

import math
from dataclasses import dataclass, field
from itertools import count, pairwise

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import space, task, trials_of

from lrfinder.training.executors.in_process import AloneCrew
from lrfinder.training.executors.job import Setup
from lrfinder.tuning.samplers import FINE, lacking, next_lr, settled
from lrfinder.tuning.search import search
from lrfinder.tuning.shares import Told, even_goals, goals, total

SCORES = st.floats(0, 1) | st.just(float("inf"))


def told(values, points=(), settled_at=3) -> list[Told]:
    """A constant that is settled after so many trials, enumerated spaces, and other families."""
    found = [Told(tuple(values[0]), lacks=int(len(values[0]) < settled_at))]
    for own, most in zip(values[1:], [*points, *[None] * len(values)], strict=False):
        found.append(Told(tuple(own), points=most))
    return found


def played(draw, families: int, trials: int, points=(), settled_at=3) -> list[list[float]]:
    """Values of every family when nothing is missing any more, told in any order."""
    values = [[] for _ in range(families)]
    for _ in count():
        asked = goals(told(values, points, settled_at), trials)
        short = [k for k in range(families) if len(values[k]) < asked[k]]
        if not short:
            return values
        values[draw(st.sampled_from(short))].append(draw(SCORES))
    raise AssertionError


@given(data=st.data(), families=st.integers(2, 6), trials=st.integers(1, 12))
def test_all_families_together_make_the_trials_that_were_asked_for(data, families, trials):
    settled_at = data.draw(st.integers(1, 15))
    most = data.draw(st.lists(st.integers(1, trials), max_size=families - 2))
    values = played(data.draw, families, trials, most, settled_at)
    points = [None, *most, *[None] * (families - 1 - len(most))]
    assert sum(map(len, values)) == total(points, trials, even=False) == families * trials
    assert all(values)
    assert [len(own) for own in values[1 : 1 + len(most)]] == most


@given(data=st.data(), families=st.integers(2, 5), trials=st.integers(1, 8))
def test_what_was_told_is_never_more_than_what_is_asked_for(data, families, trials):
    """So that a search that goes on, from any point, ends with as many trials."""
    values = [[] for _ in range(families)]
    for _ in range(data.draw(st.integers(0, families * trials))):
        asked = goals(told(values), trials)
        assert all(len(own) <= goal for own, goal in zip(values, asked, strict=True))
        short = [k for k in range(families) if len(values[k]) < asked[k]]
        if short:
            values[data.draw(st.sampled_from(short))].append(data.draw(SCORES))


def test_the_family_whose_best_is_worst_gets_least_and_the_best_two_get_most():
    values = [[] for _ in range(8)]
    while any(
        missing := [g - len(v) for g, v in zip(goals(told(values), 10), values, strict=True)]
    ):
        for k, short in enumerate(missing):
            values[k] += [float(k)] * short
    made = [len(own) for own in values]
    assert made[0] == 3
    assert made[1:] == sorted(made[1:], reverse=True)
    assert made[1] == made[2] > 10 > made[7] >= 3


@pytest.mark.parametrize(("families", "rounds"), [(3, 1), (4, 2), (8, 3), (13, 4)])
def test_half_of_the_families_is_dropped_in_each_round(families, rounds):
    values, left = [[] for _ in range(families)], []
    while True:
        asked = goals(told(values), 10)
        short = [goal - len(own) for goal, own in zip(asked, values, strict=True)]
        if not any(short):
            break
        left.append(sum(n > 0 for n in short[1:]))
        for k, n in enumerate(short):
            values[k] += [float(k)] * n
    left = list(dict.fromkeys(left))  # what the constant gives back is a round of its own
    assert len(left) == rounds
    assert all(now == max(2, -(-before // 2)) for before, now in pairwise(left))
    assert sum(map(len, values)) == 10 * families


def test_one_lucky_trial_keeps_a_family():
    """A family is as good as its best trial."""
    unlucky = [[0.5] * 9, [0.4] * 9, [0.9, 0.1, *[0.9] * 7], [0.3] * 9]
    asked = goals(told(unlucky), 9)
    assert min(asked[2:]) > asked[1]


@pytest.mark.parametrize("settled_at", [1, 3, 5, 10, 99])
def test_the_constant_gets_three_trials_and_more_until_it_is_settled(settled_at):
    values = [[], []]
    while len(values[0]) < (goal := goals(told(values, settled_at=settled_at), 10)[0]):
        values[0] += [0.5] * (goal - len(values[0]))
    assert len(values[0]) == min(10, max(3, settled_at))


def test_a_constant_alone_gets_all():
    assert goals([Told((), lacks=1)], 7) == [7]


@given(st.lists(st.none() | st.integers(1, 9), min_size=1), st.integers(1, 9))
def test_even_shares_are_even_but_for_spaces_of_few_points(points, trials):
    asked = even_goals([Told((), most) for most in points], trials)
    assert asked == [trials if most is None else min(most, trials) for most in points]
    assert sum(asked) == total(points, trials, even=True)


@given(st.floats(0.02, 4.9), st.floats(0.05, 2.0))
def test_the_lr_alone_is_bracketed_and_then_closed_in_on(optimum, first):
    lrs = [first, first / 2, first * 2]
    results = [(abs(lr - optimum), lr) for lr in lrs]
    while not settled(results, 0.01, 5.0):
        lr = next_lr(results, [], 0.01, 5.0)
        assert lr is not None
        assert 0.01 <= lr <= 5.0
        results.append((abs(lr - optimum), lr))
        assert len(results) < 20
    for _ in range(8):
        lr = next_lr(results, [], 0.01, 5.0)
        results.append((abs(lr - optimum), lr))
    assert min(results)[1] == pytest.approx(optimum, rel=0.3)


@given(st.floats(0.02, 4.9), st.floats(0.05, 2.0))
def test_the_constant_lr_is_settled_where_others_near_to_it_are_worse(optimum, first):
    lrs = [first, first / 2, first * 2]
    results = [(abs(math.log(lr / optimum)), lr) for lr in lrs]
    while count := lacking(results, 0.01, 5.0, FINE):
        asked: list[float] = []
        for _ in range(count):
            asked.append(next_lr(results, asked, 0.01, 5.0))
        results += [(abs(math.log(lr / optimum)), lr) for lr in asked]
        assert len(results) < 20
    assert settled(results, 0.01, 5.0)
    assert 1 / 1.5 < min(results)[1] / optimum < 1.5


def test_a_search_tries_constant_lrs_on_either_side_of_the_best_and_near_to_it():
    options = {"trials": 9, "seeds": [0], "even": False, "ask_size": 2, "together": 8}
    found = search(task(), [space("constant"), space("step"), space("cosine")], **options)
    trials = found[0].trials
    best = min(trials, key=lambda one: one.value).lr
    ratios = sorted(one.lr / best for one in trials)
    assert any(1 < ratio <= FINE for ratio in ratios) or len(trials) == 9 or max(ratios) == 1
    assert any(1 / FINE <= ratio < 1 for ratio in ratios) or len(trials) == 9 or min(ratios) == 1
    assert len(trials) >= 5


def test_an_lr_that_is_in_training_is_not_asked_again():
    results, asked = [(1.0, 0.1), (2.0, 0.05), (0.5, 0.2)], []
    for _ in range(4):
        asked.append(next_lr(results, asked, 0.01, 10.0))
    assert len({*asked, 0.1, 0.05, 0.2}) == 7


def test_a_best_lr_at_the_bound_is_settled():
    assert settled([(1.0, 0.1), (0.5, 0.2)], 0.01, 0.2)
    assert not settled([(1.0, 0.1), (0.5, 0.2)], 0.01, 0.3)
    assert not settled([(0.5, 0.1), (1.0, 0.2)], 0.01, 0.3)


@pytest.mark.parametrize("asked", [1, 4])
def test_a_search_that_shares_goes_on_to_as_many_trials(asked):
    names, storage = (
        ("constant", "step", "exponential", "cosine"),
        optuna.storages.InMemoryStorage(),
    )
    spaces = [space(name) for name in names]
    options = {"trials": 5, "seeds": [0], "storage": storage, "even": False, "together": 4}
    left = 3

    def interrupts(_family, _number, _history):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    for left in (6, 4, 3):  # noqa: B007 (counted down by the callback)
        with pytest.raises(KeyboardInterrupt):
            search(task(), spaces, trial_done=interrupts, ask_size=asked, **options)
    found = search(task(), spaces, ask_size=asked, **options)
    made = [len(result.trials) for result in found]
    assert sum(made) == 4 * 5
    assert min(made) >= 1
    ended = [t.state.name for name in names for t in trials_of(storage, name)]
    assert ended.count("COMPLETE") == 20
    again = search(task(), spaces, ask_size=asked, **options)
    assert [result.trials for result in again] == [result.trials for result in found]


@dataclass
class Counted:
    """Trains in this process, and counts the plans of each round."""

    workers = 1
    rounds: list[int] = field(default_factory=list[int])

    def fit(self, job):
        self.rounds.append(len(job.plans))
        AloneCrew(Setup(task())).fit(job)


@pytest.mark.parametrize(("even", "rounds"), [(True, [15, 15]), (False, [3, 1, 1, 12, 4, 9])])
def test_rounds_are_as_large_as_is_worth_it_within_a_halving(even, rounds):
    spaces = [space(name) for name in ("step", "exponential", "cosine", "polynomial", "wsd")]
    alone, joined = Counted(), Counted()
    options = {"trials": 6, "seeds": [0], "even": even, "ask_size": 1, "together": 64}
    search(task(), spaces, executor=alone, **options)
    search(task(), spaces, executor=joined, round_size=8, **options)
    assert joined.rounds == rounds
    assert sum(alone.rounds) == 30
    assert len(alone.rounds) > len(rounds)


def test_a_round_never_exceeds_what_is_trained_together():
    counted = Counted()
    options = {"trials": 6, "seeds": [0], "together": 4, "round_size": 9}
    search(task(), [space("step"), space("cosine")], executor=counted, **options)
    assert counted.rounds == [4, 4, 4]


def test_a_family_begins_with_its_defaults_at_the_lr_at_half_and_at_twice_of_it():
    [found] = search(task(), [space("step")], trials=3, seeds=[0])
    assert [trial.lr for trial in found.trials] == [0.05, 0.025, 0.1]
    assert len({str(trial.params) for trial in found.trials}) == 1


def test_no_lr_is_tried_beyond_the_range_or_twice():
    narrow = space("step", lr_low=0.04, lr_high=0.05)
    assert [first["lr"] for first in narrow.first_trials()] == [0.05, 0.04]
    low = space("step", lr_low=0.05, lr_high=0.06)
    assert [first["lr"] for first in low.first_trials()] == [0.05, 0.06]


@pytest.mark.parametrize("per", ["epoch", "batch"])
@pytest.mark.parametrize("name", ["constant", "step", "plateau", "stable_power"])
def test_a_warmup_that_is_searched_takes_at_most_a_fifth(name, per):
    one = space(name, per=per, epochs=10, warmup_searched=True)
    [found] = search(task(epochs=10), [one], trials=6, seeds=[0])
    steps = 40 if per == "batch" and name != "plateau" else 10
    warmups = [trial.schedule.warmup for trial in found.trials]
    assert one.longest_warmup == steps // 5
    assert warmups[:3] == [0, 0, steps // 10]
    assert all(0 <= warmup <= steps // 5 for warmup in warmups)
    assert warmups == [trial.params["warmup"] for trial in found.trials]


def test_a_budget_without_room_for_a_warmup_has_none():
    assert space("step", epochs=2, warmup_searched=True).longest_warmup == 0
    assert space("step", epochs=3, warmup_searched=True).longest_warmup == 1
