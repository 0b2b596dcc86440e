"""The best few trials of a family are trained on another seed, and the mean decides."""

import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import space, task

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.tuning.search import search
from lrfinder.tuning.second_looks import SecondLook, stages
from lrfinder.tuning.trials import FamilyResult, TrialResult

OPTIONS = {"trials": 5, "seeds": [0], "again": [7]}


def spaces():
    return [space("step"), space("constant")]


def test_the_best_few_are_trained_on_the_other_seed_and_the_best_mean_is_the_best():
    for result in search(task(), spaces(), **OPTIONS):
        by_value = sorted(result.trials, key=lambda trial: trial.value)
        looked = [trial for trial in by_value if trial.again is not None]
        assert looked == by_value[: {"step": 3, "constant": 5}[result.space.family.name]]
        for trial in looked:
            alone = fit(task(), [Plan(trial.lr, trial.schedule, 7)]).outcomes()[0]
            assert trial.again.value == pytest.approx(alone.value, rel=1e-5)
            assert trial.mean == (trial.value + trial.again.value) / 2
            assert trial.again.updates > 0
        assert result.best == min(looked, key=lambda trial: trial.mean)


def test_a_search_that_goes_on_looks_at_none_twice():
    storage, seen = optuna.storages.InMemoryStorage(), []
    first = search(task(), spaces(), storage=storage, **OPTIONS)
    again = search(
        task(), spaces(), storage=storage, trial_done=lambda *done: seen.append(done), **OPTIONS
    )
    assert not seen
    assert [one.trials for one in again] == [one.trials for one in first]


MANY = {**OPTIONS, "again": [7, 8, 9, 10]}
"""With all stages of the constant lr: five trials on 7, three on 8 and 9 too, two on 10 too."""


@pytest.mark.parametrize(
    ("options", "after"),
    [
        (OPTIONS, 2),
        (MANY, 9),
        pytest.param(MANY, 2, marks=pytest.mark.slow),
        pytest.param(MANY, 14, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_loses_the_look_in_flight_and_no_other(options, after):
    storage, looks = optuna.storages.InMemoryStorage(), []

    def done(family, number, history):
        own = [(family, number, plan.seed) for plan in history.plans if plan.seed > 6]
        if own and len(looks) >= after:
            raise KeyboardInterrupt
        looks.extend(own)

    whole = search(task(), spaces(), **options)
    expected = sum(one.again.runs for found in whole for one in found.trials if one.again)
    with pytest.raises(KeyboardInterrupt):
        search(task(), spaces(), storage=storage, trial_done=done, **options)
    after_all = search(
        task(),
        spaces(),
        storage=storage,
        trial_done=lambda family, number, history: looks.extend(
            (family, number, plan.seed) for plan in history.plans if plan.seed > 6
        ),
        **options,
    )
    assert len(looks) == len(set(looks)) == expected
    assert expected == {1: 3 + 5, 4: 3 + 5 + 3 * 2 + 2}[len(options["again"])]
    assert [one.best.recipe for one in after_all] == [one.best.recipe for one in whole]
    assert [one.trials for one in after_all] == [one.trials for one in whole]


def test_what_was_trained_on_another_seed_counts_as_progress_of_a_search_that_goes_on():
    storage, counted = optuna.storages.InMemoryStorage(), []
    search(task(), [space("step")], storage=storage, progress=counted.append, **OPTIONS)
    made = sum(counted)
    counted.clear()
    search(task(), [space("step")], storage=storage, progress=counted.append, **OPTIONS)
    assert sum(counted) == made == (5 + 3) * 24


def test_after_the_deadline_there_is_no_second_look():
    storage = optuna.storages.InMemoryStorage()
    search(task(), spaces(), storage=storage, **{**OPTIONS, "again": []})
    found = search(task(), spaces(), storage=storage, deadline=time.monotonic() - 1, **OPTIONS)
    assert all(one.contenders(1) for one in found)
    assert all(trial.again is None for one in found for trial in one.trials)


def test_the_constant_lr_is_chosen_on_all_of_the_other_seeds():
    options = {**OPTIONS, "trials": 3, "again": [7, 8, 9]}
    storage = optuna.storages.InMemoryStorage()
    counted: list[int] = []
    step, constant = search(task(), spaces(), storage=storage, progress=counted.append, **options)
    assert [trial.again.runs for trial in constant.trials] == [3, 3, 3]
    assert sorted(trial.again.runs for trial in step.trials if trial.again) == [1, 1]
    for trial in constant.trials:
        plans = [Plan(trial.lr, trial.schedule, seed) for seed in (7, 8, 9)]
        values = [outcome.value for outcome in fit(task(), plans).outcomes()]
        assert trial.again.value == pytest.approx(sum(values) / 3, rel=1e-5)
        assert trial.mean == pytest.approx((trial.value + sum(values)) / 4, rel=1e-5)
    assert constant.best == min(constant.trials, key=lambda trial: trial.mean)
    made = sum(counted)
    counted.clear()
    search(task(), spaces(), storage=storage, progress=counted.append, **options)
    assert sum(counted) == made == (6 + 2 + 9) * 24


def made(number, value, again=(), *, diverged=False, lost=False) -> TrialResult:
    values = again if isinstance(again, tuple) else (again,)
    look = SecondLook(values, (lost,) * len(values), updates=1) if values else None
    recipe = Recipe(0.1, Schedule(FAMILIES["constant"], {}))
    return TrialResult(number, recipe, {}, value, diverged, 1, look)


def result(*trials, direction="minimize", family="step") -> FamilyResult:
    return FamilyResult(space(family, direction=direction), "x", trials, 0, exhausted=False)


def numbers(contenders) -> list[tuple[int, int]]:
    return [(trial.number, seeds) for trial, seeds in contenders]


def test_luck_on_one_seed_does_not_decide():
    found = result(made(0, 1.0, 9.0), made(1, 2.0, 2.0), made(2, 3.0))
    assert found.best.number == 1
    turned = result(made(0, 9.0, 1.0), made(1, 8.0, 8.0), made(2, 3.0), direction="maximize")
    assert turned.best.number == 1


def test_one_that_diverged_on_the_other_seed_is_not_the_best():
    assert result(made(0, 1.0, 1.0, lost=True), made(1, 2.0, 2.0)).best.number == 1
    lost = [made(k, 1.0, 1.0, lost=True) for k in range(2)]
    assert result(*lost, made(2, 3.0), made(3, 2.5)).best.number == 3
    assert result(*lost).best is None


def test_half_of_the_trials_are_looked_at_again_three_at_most_and_none_alone():
    counts = [stages("step", count, 7) for count in range(8)]
    assert [sum(stage.trials for stage in own) for own in counts] == [0, 0, 0, 2, 2, 3, 3, 3]
    diverged = [made(k, 0.0, diverged=True) for k in range(3)]
    found = result(*diverged, made(3, 3.0), made(4, 1.0), made(5, 2.0))
    assert numbers(found.contenders(7)) == [(4, 1), (5, 1)]
    turned = result(made(0, 3.0), made(1, 1.0), made(2, 2.0), direction="maximize")
    assert numbers(turned.contenders(7)) == [(0, 1), (2, 1)]


@given(st.sampled_from(["constant", "step"]), st.integers(0, 30), st.integers(0, 10))
def test_stages_are_of_fewer_trials_on_more_seeds_and_none_of_one_trial(family, trials, seeds):
    found = stages(family, trials, seeds)
    assert all(2 <= stage.trials <= trials and 1 <= stage.seeds <= seeds for stage in found)
    for before, after in pairwise(found):
        assert before.seeds < after.seeds
        assert before.trials >= after.trials
    if family == "constant" and trials > 1 and seeds:
        assert found[-1].seeds == min(seeds, 7)
    if trials > 4 and seeds >= 7:
        assert len(found) == (3 if family == "constant" else 1)


def on(random, lrs, deviation):
    """Values of these lrs on eight seeds, the best of which is 0.1."""
    return {
        number: tuple(math.log(lr / 0.1) ** 2 + deviation * random.standard_normal(8))
        for number, lr in enumerate(lrs)
    }


def gone_through(values, seeds=7, direction="minimize", lost=()) -> list[FamilyResult]:
    """The constant's trials before any second look, and after each stage."""
    looks = dict.fromkeys(values, 0)
    found: list[FamilyResult] = []
    while True:
        trials = [
            replace(
                made(number, own[0], own[1 : 1 + looks[number]]),
                again=None
                if not looks[number]
                else SecondLook(
                    own[1 : 1 + looks[number]],
                    tuple((number, k) in lost for k in range(looks[number])),
                    1,
                ),
            )
            for number, own in values.items()
        ]
        found.append(result(*trials, direction=direction, family="constant"))
        waiting = found[-1].contenders(seeds)
        if not waiting:
            return found
        looks |= {trial.number: count for trial, count in waiting}


@given(st.integers(0, 999), st.integers(2, 9), st.integers(1, 7), st.booleans())
def test_the_better_ones_of_each_stage_go_on_and_the_best_of_the_last_is_the_best(
    seed, count, seeds, turned
):
    sign = -1 if turned else 1
    lrs = 0.1 * 2.0 ** (np.arange(count) - 2)
    values = on(np.random.default_rng(seed), lrs, 3.0)
    told = {k: tuple(sign * v for v in own) for k, own in values.items()}
    found = gone_through(told, seeds, "maximize" if turned else "minimize")
    left, before = set(values), 0
    for stage, after in zip(stages("constant", count, seeds), found[1:], strict=True):
        means = {k: np.mean(values[k][: 1 + before]) for k in left}
        went = {one.number for one in after.trials if one.looks >= stage.seeds}
        assert went == set(sorted(left, key=means.__getitem__)[: stage.trials])
        left, before = went, stage.seeds
    best = min(left, key=lambda k: np.mean(values[k][: 1 + before]))
    assert found[-1].best.number == best
    assert found[-1].best.mean == pytest.approx(sign * np.mean(values[best][: 1 + before]))


def test_one_that_did_not_go_on_is_not_the_best_by_the_luck_of_its_few_seeds():
    values = {0: (0.0,) * 4 + (9.0,) * 4, 1: (0.5,) * 4 + (9.0,) * 4, 2: (1.0,) * 8}
    last = gone_through(values)[-1]
    assert [one.looks for one in last.trials] == [7, 7, 3]
    assert last.best.number == 0


def test_a_constant_that_diverges_on_a_later_seed_does_not_go_on_and_is_not_the_best():
    values = {k: (float(k),) * 8 for k in range(5)}
    found = gone_through(values, lost={(0, 2)})
    assert [sorted(one.number for one in one_of.trials if one.looks > 3) for one_of in found][
        -1
    ] == [
        1,
        2,
    ]
    assert found[-1].best.number == 1
    assert gone_through(values, lost={(0, 5)})[-1].best.number == 1
    assert gone_through(values, lost={(0, 5), (1, 6)})[-1].best.number == 2  # of fewer seeds
    assert gone_through(values)[-1].best.number == 0


def test_the_constant_lr_that_is_chosen_costs_little():
    """Less than the best on five seeds of the three that are best on one: of nine, root 2 apart."""
    lrs = 0.1 * 2.0 ** ((np.arange(9) - 4) / 2)
    costs = [math.log(lr / 0.1) ** 2 for lr in lrs]
    draws = [on(np.random.default_rng(seed), lrs, 0.5) for seed in range(300)]
    three = [sorted(draw, key=lambda k: draw[k][0])[:3] for draw in draws]
    of_three = [min(t, key=lambda k: sum(d[k][:5])) for t, d in zip(three, draws, strict=True)]
    of_one_run = [min(draw, key=lambda k: draw[k][0]) for draw in draws]
    chosen = [gone_through(draw)[-1].best.number for draw in draws]
    mean, few, one = (np.mean([costs[k] for k in own]) for own in (chosen, of_three, of_one_run))
    assert mean < 0.55 * one
    assert mean < 0.9 * few


def test_what_an_older_study_holds_of_a_second_look_is_read():
    older = {"seeds": [7, 8], "value": 0.5, "diverged": False, "updates": 48}
    assert SecondLook.read(older) == SecondLook((0.5, 0.5), (False, False), 48)
    assert SecondLook.read({**older, "diverged": True}).diverged
    newer = SecondLook((0.5, 0.25), (False, True), 48)
    assert SecondLook.read(newer.facts([7, 8])) == newer
