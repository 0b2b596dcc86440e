"""Laws that every decay family keeps, and the worked numbers of the documents they come from."""

import copy
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedulers

import lrfinder.schedules as schedules
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import (
    DEFAULT_FAMILIES,
    FAMILIES,
    GROWTHS,
    Budget,
    Family,
    Params,
    Schedule,
    family,
)
from lrfinder.tuning.space import Space, asked_now

DATA = Path(__file__).parents[1] / "data"
STEPS = 12
LRS = [0.8, 0.1]


class Example(NamedTuple):
    """Parameters of a family, and lr(t) / lr(peak) by its formula."""

    params: Params
    share: Callable[[int], float]


def cosine(phase: float) -> float:
    return (1 + math.cos(math.pi * phase)) / 2


def restarted(t: int) -> float:
    return cosine(t / 3) if t < 3 else cosine((t - 3) / 6) if t < 9 else cosine((t - 9) / 12)


def one_cycle(t: int) -> float:
    low = 1 / 25
    if t <= 5:
        return 1 + (low - 1) * cosine(t / 5)
    return low / 1e4 + (1 - low / 1e4) * cosine((t - 5) / 6)


EXAMPLES = {
    "constant": Example({}, lambda t: 1),
    "step": Example({"step_size": 4, "gamma": 0.3}, lambda t: 0.3 ** (t // 4)),
    "multistep": Example(
        {"milestones": "3+7", "gamma": 0.5}, lambda t: 0.5 ** ((t >= 3) + (t >= 7))
    ),
    "exponential": Example({"gamma": 0.9}, lambda t: 0.9**t),
    "exponential_steps": Example(
        {"decay_rate": 0.5, "decay_steps": 4, "staircase": False}, lambda t: 0.5 ** (t / 4)
    ),
    "inverse_time": Example(
        {"decay_rate": 0.5, "decay_steps": 5, "staircase": True}, lambda t: 1 / (1 + t // 5 / 2)
    ),
    "cosine": Example({"T_max": 8, "eta_min": 0.0}, lambda t: cosine(t / 8)),
    "cosine_restarts": Example({"T_0": 3, "T_mult": 2, "eta_min": 0.0}, restarted),
    "polynomial": Example({"total_iters": 10, "power": 2.0}, lambda t: (1 - min(t, 10) / 10) ** 2),
    "plateau": Example(  # where the measure never gets better
        {"mode": "min", "factor": 0.5, "patience": 2}, lambda t: 0.5 ** max(0, (t - 1) // 3)
    ),
    "one_cycle": Example({"total_steps": 12, "pct_start": 0.5}, one_cycle),
    "triangular": Example({"step_size_up": 4}, lambda t: 0.25 + 0.75 * (1 - abs((t % 8) / 4 - 1))),
    "wsd": Example(
        {"cooldown": 0.5, "shape": "1-sqrt", "steps": 12},
        lambda t: 1 - math.sqrt(max(0, t - 6) / 6),
    ),
    "stable_power": Example(
        {"stable": 0.25, "power": 2.0, "steps": 12}, lambda t: min(1, max(0, 12 - t) / 9) ** 2
    ),
}
GROWTH_EXAMPLES = {
    "exponential": Example({"factor": 1e4, "steps": 9}, lambda t: 1e4 ** min(1, t / 8)),
    "linear": Example({"factor": 1e4, "steps": 9}, lambda t: 1 + 9999 * min(1, t / 8)),
}

NAMES = list(FAMILIES)
SEARCHED = [name for name in NAMES if name != "constant"]
KNOWN_AHEAD = [name for name in NAMES if not FAMILIES[name].by_measure]
WARMABLE = [name for name in NAMES if FAMILIES[name].warmup]
RISING = [name for name in NAMES if not FAMILIES[name].warmup]


def example(name: str, **fields: object) -> Schedule:
    return Schedule(FAMILIES[name], EXAMPLES[name].params, **fields)  # pyright: ignore


def growth(name: str) -> Schedule:
    return Schedule(GROWTHS[name], GROWTH_EXAMPLES[name].params)


def stalled_rows(schedule: Schedule, lrs=LRS, steps=STEPS) -> np.ndarray:
    """One row a scheduler step; the measure gets better once, then stays."""
    live = schedule.start(lrs)
    measures = [None, 2.0] + [1.0] * steps
    return np.concatenate([live.epoch(1, measures[t]) for t in range(steps)])


def ask(name: str, budget: Budget, seed: int, enqueue: Params | None = None) -> optuna.Trial:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    if enqueue is not None:
        study.enqueue_trial(dict(enqueue))
    return study.ask()


def stepped(scheduler, optimizer, steps: int) -> np.ndarray:
    """Learning rates by a training loop: optimizer.step(), then scheduler.step()."""
    rows = []
    for _ in range(steps):
        rows.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return np.array(rows)


def real_optimizer(lrs=LRS, kind=torch.optim.SGD, **options) -> torch.optim.Optimizer:
    return kind([{"params": [torch.zeros(2)], "lr": lr} for lr in lrs], **options)


@pytest.fixture(autouse=True)
def quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def test_every_family_has_an_example():
    assert set(EXAMPLES) == set(FAMILIES)
    assert set(GROWTH_EXAMPLES) == set(GROWTHS)
    assert set(DEFAULT_FAMILIES) <= set(FAMILIES)


def test_public_names():
    concepts = {"Budget", "Family", "LiveSchedule", "Params", "Rule", "Schedule", "Value"}
    registry = {"DEFAULT_FAMILIES", "FAMILIES", "GROWTHS", "family"}
    assert set(schedules.__all__) == concepts | registry


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_complete(name):
    row = FAMILIES[name]
    assert row.name == name
    assert row.code
    assert row.params is not None
    assert row.formula.isascii()
    assert row.source


@pytest.mark.parametrize("name", NAMES)
def test_rows_follow_the_formula(name):
    live = example(name).start(LRS)
    rows = np.concatenate([live.epoch(1, measure=1.0) for _ in range(STEPS)])
    expected = [[lr * EXAMPLES[name].share(t) for lr in LRS] for t in range(STEPS)]
    np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", GROWTHS)
def test_a_growth_starts_exactly_ends_high_and_stays(name):
    rows = growth(name).rows([1e-5], 12)
    expected = [1e-5 * GROWTH_EXAMPLES[name].share(t) for t in range(12)]
    np.testing.assert_allclose(rows[:, 0], expected, rtol=1e-12)
    assert rows[0, 0] == 1e-5
    np.testing.assert_allclose(rows[8:, 0], 0.1, rtol=1e-12)


@pytest.mark.parametrize("name", GROWTHS)
def test_a_growth_of_one_step_stays_where_it_starts(name):
    schedule = Schedule(GROWTHS[name], {"factor": 100.0, "steps": 1})
    assert schedule.rows([1e-5], 3).tolist() == [[1e-5]] * 3


def test_step_decay_by_ten_every_thirty_epochs():
    rows = Schedule(family("step"), {"step_size": 30, "gamma": 0.1}).rows([0.1], 90).ravel()
    np.testing.assert_allclose(rows, np.repeat([0.1, 0.01, 0.001], 30), rtol=1e-12)


def test_step_decay_halves_every_five_epochs():
    rows = Schedule(family("step"), {"step_size": 5, "gamma": 0.5}).rows([0.8], 15).ravel()
    np.testing.assert_allclose(rows, np.repeat([0.8, 0.4, 0.2], 5), rtol=1e-12)


def test_equal_milestones_decay_twice():
    params = {"milestones": "2+2", "gamma": 0.1}
    rows = Schedule(family("multistep"), params).rows([1.0], 4).ravel()
    np.testing.assert_allclose(rows, [1, 1, 0.01, 0.01])


@pytest.mark.parametrize(
    "given",
    [
        {"milestones": "60+30"},
        {"milestones": " 30 + 60"},
        {"milestones": [60, 30]},
        {"milestones": (30, 60)},
        {"milestone_1": 60, "milestone_2": 30},  # as earlier releases had them
    ],
)
def test_milestones_are_kept_in_one_form(given):
    schedule = Schedule(family("multistep"), {**given, "gamma": 0.1})
    assert schedule.params == {"milestones": "30+60", "gamma": 0.1}
    assert "milestones=[30, 60]" in schedule.code()
    assert str(schedule) == "MultiStepLR(milestones=30+60, gamma=0.1)"


@pytest.mark.parametrize("given", ["", "30+", "0+3", "a", [], [1.5], True, 2.0, [True]])
def test_what_are_no_milestones_is_refused(given):
    with pytest.raises(InvalidArgument, match=r"milestones of multistep must be|must be an int"):
        Schedule(family("multistep"), {"milestones": given, "gamma": 0.1})


def test_multistep_is_first_tried_with_one_late_drop_and_searched_with_up_to_four():
    budget = Budget(steps=100, steps_per_epoch=1, lowest_lr=1.0)
    first = ask("multistep", budget, 0, FAMILIES["multistep"].defaults(budget)[0])
    assert FAMILIES["multistep"].space(first, budget) == {"milestones": "70", "gamma": 0.1}
    drops: set[int] = set()
    for seed in range(30):
        asked = FAMILIES["multistep"].space(ask("multistep", budget, seed), budget)
        drops.add(len(str(asked["milestones"]).split("+")))
    assert drops == {1, 2, 3, 4}


def test_a_trial_of_an_earlier_release_has_its_two_drops():
    space = Space(family("multistep"), 0.01, 1.0, 0.1, epochs=20, updates_per_epoch=5)
    stored = {"schedule": "multistep", "lr": 0.1, "milestone_1": 9, "milestone_2": 4, "gamma": 0.5}
    lr, schedule = space.ask(optuna.trial.FixedTrial(asked_now(stored)))
    assert (lr, schedule.params) == (0.1, {"milestones": "4+9", "gamma": 0.5})


def test_cosine_gives_the_published_trace():
    trace = pd.read_csv(DATA / "cosine_classifier_trace.csv")
    rows = Schedule(family("cosine"), {"T_max": 10, "eta_min": 0.0}).rows([0.01], 11)
    np.testing.assert_allclose(rows[1:, 0], trace["lr_after_step"], atol=1e-8)


def test_exponential_steps_gives_the_published_trace():
    trace = pd.read_csv(DATA / "exponential_quadratic_trace.csv")
    params = {"decay_rate": 0.99, "decay_steps": 1, "staircase": True}
    rows = Schedule(family("exponential_steps"), params).rows([0.1], 41)
    np.testing.assert_allclose(rows[trace["step"] + 1, 0], trace["lr"], rtol=1e-6)


def test_exponential_steps_floors_the_exponent_in_a_staircase():
    params = {"decay_rate": 0.96, "decay_steps": 100_000, "staircase": True}
    rows = Schedule(family("exponential_steps"), params).rows([0.1], 100_001).ravel()
    assert (rows[:-1] == 0.1).all()
    assert rows[-1] == pytest.approx(0.096)


def test_cosine_rises_again_after_T_max():
    rows = Schedule(family("cosine"), {"T_max": 5, "eta_min": 0.001}).rows([0.1], 11).ravel()
    assert (np.diff(rows[:6]) < 0).all()
    assert (np.diff(rows[5:]) > 0).all()
    assert rows[10] == pytest.approx(0.1)


@pytest.mark.parametrize("shape", ["linear", "1-sqrt"])
def test_wsd_is_exactly_the_lr_until_its_cooldown_and_zero_at_the_end(shape):
    lr = 0.1 + 0.2
    wsd = Schedule(family("wsd"), {"cooldown": 0.25, "shape": shape, "steps": 40})
    rows = wsd.rows([lr], 45).ravel()
    assert (rows[:31] == lr).all()
    assert (np.diff(rows[30:41]) < 0).all()
    assert (rows[40:] == 0).all()


@pytest.mark.parametrize("name", KNOWN_AHEAD)
@pytest.mark.parametrize("ratio", [1e-6, 3.0])
def test_parameter_groups_keep_their_ratio(name, ratio):
    first, second = example(name).rows([0.1, 0.1 * ratio], STEPS).T
    np.testing.assert_allclose(second, ratio * first, rtol=1e-12)


def test_plateau_keeps_the_ratio_of_groups_with_tiny_learning_rates():
    first, second = stalled_rows(example("plateau"), [0.1, 1e-9]).T
    assert second[-1] < 0.3e-9
    np.testing.assert_allclose(second, 1e-8 * first, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_per_epoch_a_row_is_repeated_for_every_update(name):
    live = example(name).start(LRS)
    epochs = [live.epoch(updates, 1.0) for updates in (3, 1, 4, 2, 5)]
    one_a_row = example(name).start(LRS)
    for epoch in epochs:
        assert epoch.dtype == np.float64
        assert (epoch == one_a_row.epoch(1, 1.0)).all()


@pytest.mark.parametrize("name", KNOWN_AHEAD)
def test_per_batch_epochs_are_pieces_of_the_rows(name):
    live = example(name, per="batch").start(LRS)
    epochs = [live.epoch(updates) for updates in (3, 1, 6, 2)]
    assert (np.concatenate(epochs) == example(name).rows(LRS, 12)).all()


def test_one_cycle_may_be_read_to_its_last_step():
    params = {"total_steps": 10, "pct_start": 0.3}
    live = Schedule(family("one_cycle"), params, per="batch").start([0.1])
    live.epoch(5)
    assert live.epoch(5)[-1, 0] == pytest.approx(0.1 / 25 / 1e4)


BY_HAND = {
    "step": lambda o: torch_schedulers.StepLR(o, 4, 0.3),
    "multistep": lambda o: torch_schedulers.MultiStepLR(o, [3, 7], 0.5),
    "exponential": lambda o: torch_schedulers.ExponentialLR(o, 0.9),
    "cosine": lambda o: torch_schedulers.CosineAnnealingLR(o, 8),
    "cosine_restarts": lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, 3, 2),
    "polynomial": lambda o: torch_schedulers.PolynomialLR(o, 10, 2.0),
    "one_cycle": lambda o: torch_schedulers.OneCycleLR(o, LRS, 12, pct_start=0.5),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rows_equal_the_torch_scheduler_stepped_by_hand(name):
    optimizer = real_optimizer(momentum=0.9)
    by_hand = stepped(BY_HAND[name](optimizer), optimizer, 12)
    assert (example(name).rows(LRS, 12) == by_hand).all()


@pytest.mark.parametrize("name", [name for name in WARMABLE if name != "plateau"])
@pytest.mark.parametrize("warmup", [1, 4])
def test_warmup_climbs_to_the_peak_where_the_decay_begins(name, warmup):
    rows = example(name, warmup=warmup).rows(LRS, warmup + STEPS)
    climb = np.arange(1, warmup + 1)[:, None] / (warmup + 1) * LRS
    np.testing.assert_allclose(rows[:warmup], climb, rtol=1e-12)
    np.testing.assert_allclose(
        rows[warmup:], example(name).rows(LRS, STEPS), rtol=1e-11, atol=1e-16
    )


MEMBERS_OF_STABLE_POWER = {
    "linear": ((0.0, 1.0), "polynomial", {"total_iters": 40, "power": 1.0}),
    "polynomial": ((0.0, 2.5), "polynomial", {"total_iters": 40, "power": 2.5}),
    "wsd": ((0.7, 1.0), "wsd", {"cooldown": 0.3, "shape": "linear", "steps": 40}),
}


@pytest.mark.parametrize("member", MEMBERS_OF_STABLE_POWER)
def test_stable_power_contains(member):
    (stable, power), name, params = MEMBERS_OF_STABLE_POWER[member]
    one = Schedule(family("stable_power"), {"stable": stable, "power": power, "steps": 40})
    other = Schedule(family(name), params)
    np.testing.assert_allclose(one.rows(LRS, 45), other.rows(LRS, 45), rtol=1e-9, atol=1e-15)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_cosine_that_is_searched_never_climbs_back(data):
    budget = data.draw(budgets("cosine"))
    params = FAMILIES["cosine"].space(ask("cosine", budget, data.draw(st.integers(0, 99))), budget)
    rows = Schedule(FAMILIES["cosine"], params).rows([budget.lowest_lr], budget.steps).ravel()
    assert (np.diff(rows) <= 1e-15).all()


def test_warmup_of_wsd_ends_exactly_at_the_lr():
    assert (example("wsd", warmup=3).rows(LRS, 10)[3:] == LRS).all()


def test_plateau_does_not_see_the_measures_of_the_warmup():
    params = {"mode": "min", "factor": 0.5, "patience": 0}
    live = Schedule(family("plateau"), params, warmup=2).start([0.3])
    measures = [None, 0.1, 0.1, 5.0, 4.0, 4.0]
    rows = [live.epoch(2, measure)[0, 0] for measure in measures]
    np.testing.assert_allclose(rows, [0.1, 0.2, 0.3, 0.3, 0.3, 0.15])


@pytest.mark.parametrize("name", RISING)
def test_rising_families_refuse_a_warmup(name):
    with pytest.raises(InvalidArgument, match=rf"{name} .* got warmup=2; leave the warm-up out"):
        example(name, warmup=2)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_follows_the_measure_as_torch_does(mode):
    params = {"mode": mode, "factor": 0.3, "patience": 1}
    measures = np.random.default_rng(0).normal(1, 0.3, 40).tolist() + [math.nan] * 4
    live = Schedule(family("plateau"), params, per="batch").start(LRS)
    optimizer = real_optimizer()
    by_hand = torch_schedulers.ReduceLROnPlateau(optimizer, mode, factor=0.3, patience=1, eps=0)
    assert (live.epoch(3) == LRS).all()
    for measure in measures:
        by_hand.step(measure)
        assert (live.epoch(3, measure) == [group["lr"] for group in optimizer.param_groups]).all()
    assert optimizer.param_groups[0]["lr"] < 0.01


@pytest.mark.parametrize(("direction", "mode"), [("minimize", "min"), ("maximize", "max")])
def test_plateau_searches_in_the_direction_of_the_measure(direction, mode):
    budget = Budget(10, 1, 0.1, direction)
    trial = ask("plateau", budget, seed=0)
    assert FAMILIES["plateau"].space(trial, budget)["mode"] == mode


def test_plateau_needs_a_measure_from_its_second_epoch_on():
    live = example("plateau").start(LRS)
    live.epoch(1)
    with pytest.raises(InvalidArgument, match="plateau needs the last epoch's measure"):
        live.epoch(1)


def test_rows_refuses_a_family_that_follows_the_measure():
    with pytest.raises(InvalidArgument, match="plateau"):
        example("plateau").rows(LRS, 3)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_copies_go_on_independently(name, before, warmup):
    if warmup and name in RISING:
        return
    schedule = example(name, warmup=warmup)
    live = schedule.start(LRS)
    for _ in range(before):
        live.epoch(1, 1.0)
    fork = copy.deepcopy(live)
    alone = [fork.epoch(1, 1.0) for _ in range(5)]
    assert (np.array([live.epoch(1, 1.0) for _ in range(5)]) == alone).all()


def test_a_schedule_is_an_immutable_value():
    params = {"step_size": 3, "gamma": 0.5}
    schedule = Schedule(family("step"), params)
    params["gamma"] = 0.9
    assert schedule.params["gamma"] == 0.5
    with pytest.raises(TypeError):
        schedule.params["gamma"] = 0.9  # pyright: ignore
    assert copy.deepcopy(schedule) == schedule
    assert len({schedule, copy.deepcopy(schedule), example("step")}) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (torch.optim.SGD, {"momentum": 0.7}),
        (torch.optim.Adam, {"betas": (0.7, 0.8)}),
    ],
)
def test_no_family_changes_momentum(name, kind, option):
    optimizer = real_optimizer(kind=kind, **option)
    scheduler = FAMILIES[name].build(optimizer, EXAMPLES[name].params)
    for _ in range(5):
        optimizer.step()
        scheduler.step(*[1.0] * FAMILIES[name].by_measure)
        ((key, value),) = option.items()
        assert [group[key] for group in optimizer.param_groups] == [value, value]


def rows_of_code(schedule: Schedule, steps: int, **names: object) -> np.ndarray:
    """Learning rates of a training loop that runs the schedule's own code."""
    scope = {"torch": torch, "optimizer": real_optimizer(momentum=0.9), **names}
    exec(schedule.code(), scope)
    rows = []
    for epoch in range(steps):
        rows.append([float(group["lr"]) for group in scope["optimizer"].param_groups])
        scope["optimizer"].step()
        scope |= {"epoch": epoch, "valid_loss": 2.0 if epoch == 0 else 1.0}
        exec(schedule.step_code, scope)
    return np.array(rows)


@pytest.mark.parametrize("per", ["epoch", "batch"])
@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_code_gives_the_same_learning_rates(name, warmup, per):
    if warmup and name in RISING:
        return
    schedule = example(name, warmup=warmup, per=per)
    np.testing.assert_allclose(
        rows_of_code(schedule, STEPS), stalled_rows(schedule), rtol=1e-12, atol=1e-17
    )


def double(lr: float) -> torch.Tensor:
    return torch.tensor(lr, dtype=torch.float64)


TENSOR_LRS = {
    "one group": lambda: torch.optim.Adam([torch.zeros(2)], double(0.1)),
    "one each": lambda: real_optimizer([double(lr) for lr in LRS], torch.optim.Adam),
    "one for both groups": lambda: torch.optim.Adam(
        [{"params": [torch.zeros(2)]}, {"params": [torch.zeros(2)]}], double(0.1)
    ),
}


@pytest.mark.parametrize("lrs", TENSOR_LRS)
@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_code_gives_the_same_learning_rates_where_they_are_tensors(name, warmup, lrs):
    if warmup and name in RISING:
        return
    schedule, optimizer = example(name, warmup=warmup), TENSOR_LRS[lrs]()
    expected = stalled_rows(schedule, optimizer)
    found = rows_of_code(schedule, STEPS, optimizer=optimizer)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-17)
    if lrs != "one for both groups":  # torch's plateau reduces a shared tensor once a group
        peaks = [float(group["lr"]) for group in TENSOR_LRS[lrs]().param_groups]
        floats = stalled_rows(schedule, peaks)
        np.testing.assert_allclose(found, floats, rtol=1e-12, atol=1e-17)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NAMES), st.integers(4, 30), st.integers(0, 2**31))
def test_code_of_any_trial_gives_the_same_learning_rates(name, steps, seed):
    budget = Budget(steps, 1, 0.1)
    schedule = Schedule(FAMILIES[name], FAMILIES[name].space(ask(name, budget, seed), budget))
    np.testing.assert_allclose(
        rows_of_code(schedule, steps), stalled_rows(schedule, steps=steps), rtol=1e-12, atol=1e-17
    )


@pytest.mark.parametrize("name", GROWTHS)
def test_code_of_a_growth_gives_the_same_learning_rates(name):
    schedule = growth(name)
    np.testing.assert_allclose(rows_of_code(schedule, 12), schedule.rows(LRS, 12), rtol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "comment"),
    [
        (example("step"), "# after every epoch: scheduler.step()"),
        (example("step", per="batch"), "# after every optimizer.step(): scheduler.step()"),
        (example("plateau", per="batch"), "# after every epoch: scheduler.step(valid_loss)"),
        (
            example("plateau", warmup=2),
            "# after every epoch: warmup.step() if epoch < 2 else scheduler.step(valid_loss)",
        ),
    ],
)
def test_code_says_where_to_step(schedule, comment):
    assert schedule.code().splitlines()[-1] == comment


@pytest.mark.parametrize("name", NAMES)
def test_code_fits_the_page(name):
    assert max(map(len, example(name).code().splitlines())) <= 100


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (example("constant"), "ConstantLR()"),
        (
            Schedule(FAMILIES["step"], {"step_size": 7, "gamma": 0.3141592}),
            "StepLR(step_size=7, gamma=0.3142)",
        ),
        (
            example("inverse_time", warmup=2),
            "warmup 2 + inverse_time(decay_rate=0.5, decay_steps=5, staircase=True)",
        ),
        (example("plateau"), "ReduceLROnPlateau(mode='min', factor=0.5, patience=2)"),
        (growth("linear"), "linear_growth(factor=1e+04, steps=9)"),
    ],
)
def test_a_schedule_prints_on_one_short_line(schedule, text):
    assert str(schedule) == text


def budgets(name: str) -> st.SearchStrategy[Budget]:
    """From the smallest budget of the family on, stepped per epoch or per batch."""

    def budget(steps_per_epoch: int, extra: int, lowest_lr: float) -> Budget:
        least = FAMILIES[name].min_steps
        steps = least * steps_per_epoch if FAMILIES[name].by_measure else least
        return Budget(steps + extra, steps_per_epoch, lowest_lr)

    return st.builds(
        budget, st.sampled_from([1, 2, 7]), st.integers(0, 40), st.sampled_from([1e-5, 0.1])
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_trial_gives_a_complete_json_able_schedule(name, data):
    budget = data.draw(budgets(name))
    params = FAMILIES[name].space(ask(name, budget, data.draw(st.integers(0, 999))), budget)
    assert json.loads(json.dumps(params)) == params
    rows = stalled_rows(Schedule(FAMILIES[name], params), [budget.lowest_lr], budget.steps)
    assert np.isfinite(rows).all()
    assert (rows >= 0).all()
    assert (rows <= budget.lowest_lr * (1 + 1e-9)).all()


def never_better_rows(name: str, params: Params, budget: Budget) -> np.ndarray:
    live = Schedule(FAMILIES[name], params).start([budget.lowest_lr])
    steps = budget.epochs if FAMILIES[name].by_measure else budget.steps
    return np.concatenate([live.epoch(1, 1.0) for _ in range(steps)])


@pytest.mark.parametrize("name", SEARCHED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.slow
def test_every_searched_parameter_is_live(name, data):
    """Changing one alone, to another point of its range, changes the learning rates."""
    budget, seed = data.draw(budgets(name)), data.draw(st.integers(0, 9999))
    space = FAMILIES[name].space
    trial, other = ask(name, budget, seed), ask(name, budget, seed + 10_000)
    params = space(trial, budget)
    space(other, budget)
    before = never_better_rows(name, params, budget)
    for parameter, value in other.params.items():
        if parameter not in trial.params or trial.params[parameter] == value:
            continue
        changed = optuna.trial.FixedTrial({**other.params, **trial.params, parameter: value})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the value may leave a dynamic range
            after = never_better_rows(name, space(changed, budget), budget)
        assert not np.array_equal(before, after), (parameter, trial.params, value)


@pytest.mark.parametrize("name", SEARCHED)
def test_every_parameter_has_a_choice_in_a_budget_of_ten_epochs(name):
    budget = Budget(10, 1, 0.1)
    trial = ask(name, budget, seed=0)
    FAMILIES[name].space(trial, budget)
    assert trial.params
    assert not any(distribution.single() for distribution in trial.distributions.values())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_defaults_are_inside_the_space(name, data):
    budget = data.draw(budgets(name))
    for values in FAMILIES[name].defaults(budget):
        trial = ask(name, budget, 0, enqueue=values)
        FAMILIES[name].space(trial, budget)  # optuna warns, thus raises here, if one is outside
        assert trial.params == values


@pytest.mark.parametrize("name", SEARCHED)
def test_searched_families_have_a_default(name):
    assert FAMILIES[name].defaults(Budget(20, 1, 0.1))


def test_defaults_are_those_of_torch_where_they_fit():
    budget = Budget(90, 1, 0.1)
    assert FAMILIES["cosine"].defaults(budget) == [{"T_max": 90, "eta_min": 0.0}]
    assert FAMILIES["plateau"].defaults(budget) == [{"factor": 0.1, "patience": 10}]
    assert FAMILIES["one_cycle"].defaults(budget) == [{"pct_start": 0.3}]


@pytest.mark.parametrize("steps", [2, 3, 10, 90])
def test_the_default_of_step_drops_once_and_late(steps):
    [params] = FAMILIES["step"].defaults(Budget(steps, 1, 0.1))
    rows = Schedule(FAMILIES["step"], params).rows([1.0], steps).ravel()
    assert np.count_nonzero(np.diff(rows)) == 1
    assert steps / 2 <= np.argmax(rows < 1) <= max(steps - 1, 0.85 * steps)


@pytest.mark.parametrize("name", ["exponential", "exponential_steps"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_final_lr_is_searched_over_four_decades(name, data):
    budget = data.draw(budgets(name))
    params = FAMILIES[name].space(ask(name, budget, data.draw(st.integers(0, 999))), budget)
    final = Schedule(FAMILIES[name], params).rows([1.0], budget.steps)[-1, 0]
    assert 0.99e-4 <= final <= 1


def test_continuous_decay_counts_in_epochs():
    for name in ("inverse_time", "exponential_steps"):
        trial = optuna.trial.FixedTrial({"staircase": False, "decay_rate": 0.5})
        assert FAMILIES[name].space(trial, Budget(70, 7, 0.1))["decay_steps"] == 7


@pytest.mark.parametrize("name", [name for name in NAMES if FAMILIES[name].min_steps > 1])
def test_space_and_defaults_refuse_a_budget_in_which_a_parameter_is_dead(name):
    least = FAMILIES[name].min_steps
    budget = Budget(least - 1, 1, 0.1)
    message = rf"{name} needs at least {least} .* but got {least - 1}; train more epochs"
    with pytest.raises(InvalidArgument, match=message):
        FAMILIES[name].space(ask(name, budget, 0), budget)
    with pytest.raises(InvalidArgument, match=message):
        FAMILIES[name].defaults(budget)


def test_plateau_counts_its_budget_in_epochs():
    budget = Budget(steps=200, steps_per_epoch=100, lowest_lr=0.1)
    with pytest.raises(InvalidArgument, match="at least 3 epochs after warm-up, but got 2"):
        FAMILIES["plateau"].space(ask("plateau", budget, 0), budget)


@pytest.mark.parametrize("name", GROWTHS)
def test_a_growth_is_not_searched(name):
    with pytest.raises(InvalidArgument, match="not searched"):
        GROWTHS[name].space(ask("step", Budget(9, 1, 0.1), 0), Budget(9, 1, 0.1))


def hyperbola(**fields: object) -> Family:
    return Family(
        name="hyperbola",
        build=lambda optimizer, p: torch_schedulers.LambdaLR(
            optimizer, lambda t: 1 / (1 + p["rate"] * t)
        ),
        space=lambda trial, budget: {"rate": trial.suggest_float("rate", 0.1, 1)},
        **fields,
    )


def custom(build: Callable[..., object], **fields: object) -> Family:
    return Family("mine", lambda optimizer, _: build(optimizer), lambda *_: {}, **fields)


@pytest.mark.parametrize("warmup", [0, 2])
def test_three_fields_make_a_family(warmup):
    schedule = Schedule(hyperbola(), {"rate": 0.5}, warmup=warmup)
    assert str(Schedule(hyperbola(), {"rate": 0.5})) == "hyperbola(rate=0.5)"
    rows = schedule.rows(LRS, 8)
    expected = [[lr / (1 + 0.5 * t) for lr in LRS] for t in range(8 - warmup)]
    np.testing.assert_allclose(rows[warmup:], expected)
    task = SimpleNamespace(schedules={"hyperbola": hyperbola()})
    np.testing.assert_allclose(rows_of_code(schedule, 8, task=task), rows, rtol=1e-12)


def test_a_family_may_have_a_rule_for_each_parameter_group():
    rules = custom(
        lambda optimizer: torch_schedulers.LambdaLR(optimizer, [lambda t: 1, lambda t: 0.5**t])
    )
    rows = Schedule(rules, {}).rows([0.1, 0.8], 3)
    np.testing.assert_allclose(rows, [[0.1, 0.8], [0.1, 0.4], [0.1, 0.2]])


def test_family_looks_up_custom_names_too():
    mine = hyperbola()
    assert family("hyperbola", {"hyperbola": mine}) is mine
    assert family("step", {"hyperbola": mine}) is FAMILIES["step"]
    with pytest.raises(InvalidArgument, match="'hyperbol'; did you mean 'hyperbola'"):
        family("hyperbol", {"hyperbola": mine})
    with pytest.raises(InvalidArgument, match="names are constant, step"):
        family("zzz")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: None, "must return .*LRScheduler, but got None"),
        (lambda o: torch_schedulers.OneCycleLR(o, 0.1, 10), "pass cycle_momentum=False"),
        (torch_schedulers.ReduceLROnPlateau, "set by_measure=True"),
    ],
)
def test_what_a_users_build_can_get_wrong_is_said(build, message):
    with pytest.raises(InvalidArgument, match=f"mine .*{message}"):
        Schedule(custom(build), {}).start([0.1])


@pytest.mark.parametrize(
    "build",
    [
        lambda o: torch_schedulers.OneCycleLR(o, 0.1, 10, cycle_momentum=False),
        lambda o: torch_schedulers.CyclicLR(o, 0.1, 0.2, cycle_momentum=False),
        lambda o: torch_schedulers.MultiplicativeLR(o, lambda t: 0.5),
        lambda o: torch_schedulers.SequentialLR(o, [torch_schedulers.ExponentialLR(o, 0.5)], []),
        lambda o: torch_schedulers.ChainedScheduler([torch_schedulers.ExponentialLR(o, 0.5)]),
    ],
)
def test_a_warmup_is_refused_where_torch_would_start_from_the_wrong_lr(build):
    assert Schedule(custom(build), {}).rows([0.1], 4).shape == (4, 1)
    with pytest.raises(InvalidArgument, match=r"mine builds .* but got warmup=2"):
        Schedule(custom(build), {}, warmup=2).start([0.1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule(family("step"), {"gamma": 0.1}), "step takes .* step_size, gamma, but"),
        (lambda: Schedule(family("constant"), {"gamma": 0.1}), "no parameters, but got .* gamma"),
        (lambda: Schedule(family("step")), "but got no parameters"),
        (lambda: Schedule(family("step"), {"step_size": 0, "gamma": 0.1}), "step_size .* got 0"),
        (lambda: Schedule(family("step"), {"step_size": 2.5, "gamma": 0.1}), "integer .* 2.5"),
        (lambda: Schedule(family("step"), {"step_size": True, "gamma": 0.1}), "got True"),
        (lambda: Schedule(family("exponential"), {"gamma": math.nan}), "> 0, but got nan"),
        (lambda: Schedule(family("exponential"), {"gamma": math.inf}), "got inf"),
        (lambda: Schedule(family("exponential"), {"gamma": "0.9"}), "got '0.9'"),
        (lambda: Schedule(hyperbola(), {"rate": [1]}), r"int, float, bool or str, .* \[1\]"),
        (lambda: example("step", per="step"), "per must be 'epoch' or 'batch', but got 'step'"),
        (lambda: example("step", warmup=-1), "warmup must be an integer >= 0, but got -1"),
        (lambda: example("step", warmup=0.5), "warmup .* 0.5"),
        (lambda: example("step").rows(LRS, 0), "steps must be an integer >= 1, but got 0"),
        (lambda: example("step").start([]), r"one finite number .* got \[\]"),
        (lambda: example("step").start([-0.1]), "-0.1"),
        (lambda: example("step").start([math.nan]), "nan"),
        (
            lambda: Schedule(family("one_cycle"), {"total_steps": 10, "pct_start": 0.1}).start(LRS),
            r"pct_start \* total_steps must be > 1, but got 0.1 \* 10",
        ),
        (lambda: Budget(0, 1, 0.1), "steps .*warm-up.* must be an integer >= 1, but got 0"),
        (lambda: Budget(5, 1, math.nan), "lowest_lr must be a number > 0, but got nan"),
        (lambda: Budget(5, 1, 0.1, "min"), "'minimize' or 'maximize', but got 'min'"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(make, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_numpy_values_become_python_values():
    schedule = Schedule(family("step"), {"step_size": np.int64(3), "gamma": np.float64(0.5)})
    assert schedule == Schedule(family("step"), {"step_size": 3, "gamma": 0.5})
    assert "gamma=0.5)" in schedule.code()


def test_the_variable_of_the_measure_can_be_named():
    plateau, warm = example("plateau"), example("plateau", warmup=2)
    assert plateau.steps_by("accuracy") == "scheduler.step(accuracy)"
    assert warm.steps_by("accuracy").endswith("if epoch < 2 else scheduler.step(accuracy)")
    assert plateau.code("accuracy").endswith("# after every epoch: scheduler.step(accuracy)")
    assert example("step").code("accuracy") == example("step").code()
    assert plateau.step_code == plateau.steps_by("valid_loss")


@pytest.mark.parametrize("name", ["top-5", "", "lambda"])
def test_a_measure_that_cannot_be_a_variable_is_refused(name):
    with pytest.raises(InvalidArgument, match=f"name of a variable, but got '{name}'"):
        example("plateau").steps_by(name)
