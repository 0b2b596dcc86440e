"""The best few trials of a family are trained on another seed, and the mean decides."""

import time

import optuna
import pytest
from test_search import space, task

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.schedules.recipe import Recipe
from lrfinder.training.fit import fit
from lrfinder.training.history import Plan
from lrfinder.tuning.search import search
from lrfinder.tuning.trials import FamilyResult, SecondLook, TrialResult, second_looks

OPTIONS = {"trials": 5, "seeds": [0], "again": [7]}


def spaces():
    return [space("step"), space("constant")]


def test_the_best_few_are_trained_on_the_other_seed_and_the_best_mean_is_the_best():
    for result in search(task(), spaces(), **OPTIONS):
        by_value = sorted(result.trials, key=lambda trial: trial.value)
        looked = [trial for trial in by_value if trial.again is not None]
        assert looked == by_value[:3]
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


def test_an_interrupt_loses_the_look_in_flight_and_no_other():
    storage, looks = optuna.storages.InMemoryStorage(), []

    def done(family, number, history):
        if history.plans[0].seed == 7:
            if len(looks) == 2:
                raise KeyboardInterrupt
            looks.append((family, number))

    with pytest.raises(KeyboardInterrupt):
        search(task(), spaces(), storage=storage, trial_done=done, **OPTIONS)
    before = list(looks)
    looks.clear()
    resumed = search(
        task(),
        spaces(),
        storage=storage,
        trial_done=lambda family, number, _: looks.append((family, number)),
        **OPTIONS,
    )
    assert len(before) == 2
    assert not set(before) & set(looks)
    assert len(looks) == 4
    whole = search(task(), spaces(), **OPTIONS)
    assert [one.best.recipe for one in resumed] == [one.best.recipe for one in whole]


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
    assert all(one.contenders for one in found)
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


def made(number, value, again=None, *, diverged=False, lost=False) -> TrialResult:
    look = None if again is None else SecondLook(again, diverged=lost, updates=1)
    recipe = Recipe(0.1, Schedule(FAMILIES["constant"], {}))
    return TrialResult(number, recipe, {}, value, diverged, 1, look)


def result(*trials, direction="minimize") -> FamilyResult:
    return FamilyResult(space("step", direction=direction), "x", trials, 0, exhausted=False)


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
    assert [second_looks("step", count) for count in range(8)] == [0, 0, 0, 2, 2, 3, 3, 3]
    assert [second_looks("constant", count) for count in range(6)] == [0, 0, 2, 3, 3, 3]
    diverged = [made(k, 0.0, diverged=True) for k in range(3)]
    found = result(*diverged, made(3, 3.0), made(4, 1.0), made(5, 2.0))
    assert [trial.number for trial in found.contenders] == [4, 5]
    turned = result(made(0, 3.0), made(1, 1.0), made(2, 2.0), direction="maximize")
    assert [trial.number for trial in turned.contenders] == [0, 2]
