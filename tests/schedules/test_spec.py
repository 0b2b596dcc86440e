"""Schedules as people write them: what is given counts, what is left out is the usual."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import DEFAULT_FAMILIES, FAMILIES, Budget, Family, Schedule
from lrfinder.schedules.spec import (
    default_schedules,
    filled,
    read_parts,
    read_schedule,
    schedule_of_training,
)

BUDGET = Budget(steps=40, steps_per_epoch=1, lowest_lr=1.0)
OWN = Family("own", lambda optimizer, p: None, lambda trial, _: {"a": trial.suggest_int("a", 1, 2)})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_name_alone_is_the_family_at_its_defaults(name):
    schedule = read_schedule(name, BUDGET)
    usual = FixedTrial((FAMILIES[name].defaults(BUDGET) or [{}])[0])
    assert schedule == Schedule(FAMILIES[name], FAMILIES[name].space(usual, BUDGET))


@given(
    name=st.sampled_from(list(FAMILIES)),
    per=st.sampled_from(["epoch", "batch"]),
    warmup=st.integers(0, 3),
    epochs=st.integers(8, 60),
)
def test_what_is_written_down_is_read_as_it_was(name, per, warmup, epochs):
    warmup = warmup if FAMILIES[name].warmup else 0
    lengths = {"epochs": epochs, "updates_per_epoch": 7}
    asked = schedule_of_training(name, per=per, warmup=warmup, **lengths)
    text = ",".join([name, *(f"{key}={value}" for key, value in asked.params.items())])
    again = schedule_of_training(text, per=per, warmup=warmup, **lengths)
    assert again == asked
    assert again.warmup == warmup * (1 if asked.stepped_per == "epoch" else 7)


def test_given_parameters_count_and_the_others_are_usual():
    assert read_schedule("step,gamma=0.5", BUDGET).params == {"step_size": 28, "gamma": 0.5}
    assert read_schedule("cosine, T_max = 7", BUDGET).params == {"T_max": 7, "eta_min": 0.0}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("CosineAnnealingLR,T_max=7", "cosine,T_max=7"),
        ("steplr", "step"),
        ("StepLR(optimizer, step_size=30, gamma=0.1)", "step,step_size=30,gamma=0.1"),
        ("torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.9)", "exponential,gamma=0.9"),
        ("MultiStepLR(o, milestones=[30, 60])", "multistep,milestones=30+60"),
        ("ConstantLR()", "constant"),
        ("StepLR(optimizer, 30, 0.1)", "step,step_size=30,gamma=0.1"),
        ("StepLR(self.optimizer, 30, gamma=0.1)", "step,step_size=30,gamma=0.1"),
        ("StepLR(30)", "step,step_size=30"),
        ("MultiStepLR(o, [30, 60], 0.2)", "multistep,milestones=30+60,gamma=0.2"),
        ("lr_scheduler.ExponentialLR(o, .95)", "exponential,gamma=0.95"),
        ("CosineAnnealingLR(optimizer, 10)", "cosine,T_max=10"),
        ("CosineAnnealingWarmRestarts(o, 10, 2)", "cosine_restarts,T_0=10,T_mult=2"),
        ("PolynomialLR(o, 90, 2.0)", "polynomial,total_iters=90,power=2.0"),
        ("ReduceLROnPlateau(o, 'min', 0.5, 3)", "plateau,mode=min,factor=0.5,patience=3"),
        ('ReduceLROnPlateau(o, mode="max")', "plateau,mode=max"),
    ],
)
def test_torch_s_own_words_are_read_too(written, read):
    assert read_parts(written) == read_parts(read)


def test_an_argument_too_many_is_refused():
    with pytest.raises(InvalidArgument, match="must look like"):
        read_parts("StepLR(optimizer, 30, 0.1, -1, 7)")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_schedule_prints_of_itself_is_read(name):
    schedule = read_schedule(name, BUDGET)
    if schedule.family.label and not schedule.family.by_measure:
        assert read_parts(str(schedule))[0] == schedule.family


@pytest.mark.parametrize(
    ("name", "meant"), [("cosin", "cosine"), ("linear", "polynomial,power=1"), ("StepL", "step")]
)
def test_a_name_that_there_is_not_gets_the_nearest(name, meant):
    with pytest.raises(InvalidArgument, match=f"did you mean '{meant}'"):
        read_parts(name)


@pytest.mark.parametrize("text", ["StepLR(optimizer, 30", "StepLR(T=3))", "MultiStepLR(o, [3, 6)"])
def test_brackets_that_do_not_match_are_told(text):
    with pytest.raises(InvalidArgument, match="the brackets of a schedule must match"):
        read_parts(text)


def test_warm_up_is_taken_off_the_decay():
    asked: dict = {"epochs": 20, "updates_per_epoch": 5, "warmup": 2.5}
    assert schedule_of_training("cosine", **asked).params["T_max"] == 18
    per_batch = schedule_of_training("cosine", per="batch", **asked)
    assert (per_batch.warmup, per_batch.params["T_max"]) == (12, 88)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("step,gamma", "must look like"),
        ("step,=3", "must look like"),
        ("step,gamma=", "must look like"),
        ("step,gama=0.1", "step has step_size, gamma, but got 'gama'"),
        ("constant,lr=0.1", "constant has no parameters, but got 'lr'"),
        ("step,gamma=0.1,gamma=0.2", "must be given once"),
        ("step,step_size=0", "step_size of step must be an integer >= 1, but got 0"),
        ("own", "own has no usual a; give it, as in own,a=VALUE"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text, said):
    with pytest.raises(InvalidArgument) as error:
        read_schedule(text, BUDGET, custom={"own": OWN})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_family_of_the_users_own_is_read_with_its_values():
    kind, params = read_parts("own,a=2", {"own": OWN})
    assert (kind, filled(kind, params, BUDGET)) == (OWN, {"a": 2})


def test_the_usual_schedules_are_those_that_fit_and_are_known_before():
    assert [s.family.name for s in default_schedules(1, 9)] == ["constant"]
    names = [s.family.name for s in default_schedules(20, 9)]
    assert names == [name for name in DEFAULT_FAMILIES if name != "plateau"]
    assert all(
        isinstance(s, Schedule) and s.per == "batch" for s in default_schedules(20, 9, "batch")
    )
