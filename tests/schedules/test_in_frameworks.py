"""Code for a framework makes the learning rates that a schedule was trained with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import FAMILIES, Budget, Family, Schedule
from lrfinder.schedules.as_function import function_code
from lrfinder.schedules.in_frameworks import KINDS, Answer, codes
from lrfinder.schedules.recipe import Recipe

EPOCHS, PER_EPOCH, LR = 6, 5, 0.3
KNOWN = [name for name, one in FAMILIES.items() if not one.by_measure]
OWN = Family(
    name="own",
    build=lambda optimizer, p: LambdaLR(optimizer, lambda t: 1 / (1 + p["rate"] * t)),
    space=lambda trial, budget: {"rate": trial.suggest_float("rate", 0.1, 10)},
)


class Drawn:
    """A trial whose values hypothesis chooses."""

    def __init__(self, data):
        self.data = data

    def suggest_float(self, name, low, high, *, step=None, log=False):
        return self.data.draw(st.floats(low, high), name)

    def suggest_int(self, name, low, high, *, step=1, log=False):
        return self.data.draw(st.integers(low, high), name)

    def suggest_categorical(self, name, choices):
        return self.data.draw(st.sampled_from(list(choices)), name)


def drawn(data, family, per):
    """A schedule of the family for the whole budget, with and without a warm-up."""
    warmup = data.draw(st.sampled_from([0, 2])) if family.warmup else 0
    per_epoch = 1 if per == "epoch" else PER_EPOCH
    budget = Budget(EPOCHS * per_epoch - warmup, per_epoch, LR)
    return Schedule(family, family.space(Drawn(data), budget), per, warmup)


def answer_of(schedule):
    return Answer(Recipe(LR, schedule), EPOCHS, PER_EPOCH, "SGD")


def executed(text, **names):
    exec(text, names)
    return names


@pytest.mark.parametrize("name", [*KNOWN, "own"])
@given(data=st.data(), per=st.sampled_from(["epoch", "batch"]))
@settings(max_examples=10)
def test_function_is_the_schedule(name, per, data):
    schedule = drawn(data, FAMILIES.get(name, OWN), per)
    answer = answer_of(schedule)
    get_lr = executed(codes(answer)["function"])["get_lr"]
    found = [get_lr(t) for t in range(answer.steps)]
    expected = schedule.rows([LR], answer.steps)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", [*KNOWN, "own"])
@given(data=st.data(), per=st.sampled_from(["epoch", "batch"]))
@settings(max_examples=5)
def test_configure_optimizers_is_the_schedule(name, per, data):
    schedule = drawn(data, FAMILIES.get(name, OWN), per)
    answer = answer_of(schedule)
    made = executed(codes(answer)["lightning"])["configure_optimizers"](nn.Linear(2, 2))
    config, optimizer = made["lr_scheduler"], made["optimizer"]
    assert config["interval"] == ("epoch" if per == "epoch" else "step")
    found = []
    for _ in range(answer.steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config["scheduler"].step()
    expected = schedule.rows([LR], answer.steps)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


def test_every_kind_is_written_for_what_is_known_ahead():
    schedule = Schedule(FAMILIES["step"], {"step_size": 2, "gamma": 0.1}, warmup=1)
    assert list(codes(answer_of(schedule))) == list(KINDS)


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_plateau_is_no_function_and_has_one_step(warmup):
    params = {"mode": "min", "factor": 0.5, "patience": 1}
    schedule = Schedule(FAMILIES["plateau"], params, warmup=warmup)
    kinds = {"torch"} if warmup else {"torch", "lightning", "transformers", "skorch"}
    assert set(codes(answer_of(schedule))) == kinds
    with pytest.raises(InvalidArgument, match="no function of the step"):
        function_code(Recipe(LR, schedule), 5)


def test_code_for_torch_holds_the_lr():
    schedule = Schedule(FAMILIES["exponential"], {"gamma": 0.5})
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), LR)
    made = executed(codes(answer_of(schedule))["torch"], optimizer=optimizer)
    assert made["LR"] == LR
    optimizer.step()
    made["scheduler"].step()
    assert optimizer.param_groups[0]["lr"] == LR / 2


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [
        (Schedule(FAMILIES["constant"], {}), "constant"),
        (Schedule(FAMILIES["cosine"], {"T_max": 30, "eta_min": 0.0}, "batch"), "cosine"),
        (Schedule(FAMILIES["cosine"], {"T_max": 29, "eta_min": 0.0}, "batch"), None),
        (Schedule(FAMILIES["cosine"], {"T_max": 30, "eta_min": 0.1}, "batch"), "with_min_lr"),
        (Schedule(FAMILIES["cosine"], {"T_max": 6, "eta_min": 0.0}), None),
        (Schedule(FAMILIES["polynomial"], {"total_iters": 30, "power": 1.0}, "batch"), "linear"),
        (Schedule(FAMILIES["polynomial"], {"total_iters": 30, "power": 2.0}, "batch"), None),
    ],
)
def test_transformers_names_only_what_is_the_same(schedule, kind):
    text = codes(answer_of(schedule))["transformers"]
    assert ("TrainingArguments(  #" in text) == (kind is not None)
    assert kind is None or kind in text


EXPONENTIAL = Schedule(FAMILIES["exponential"], {"gamma": 0.5})


def test_the_lr_is_the_optimizers_own_where_it_is_made_of_another():
    answer = replace(answer_of(EXPONENTIAL), group_lrs=(2 * LR, 2 * LR))
    found = codes(answer)
    assert (
        f"LR = {2 * LR!r}  # lr of your SGD, which optimizer(model, {LR}) makes" in found["torch"]
    )
    assert f"SGD(self.parameters(), lr={2 * LR!r})" in found["lightning"]
    assert executed(found["function"])["get_lr"](1) == LR
    for kind in ("transformers", "skorch"):
        assert repr(2 * LR) in found[kind]


def test_groups_at_other_lrs_are_named():
    found = codes(replace(answer_of(EXPONENTIAL), group_lrs=(LR, LR / 10)))
    for kind in ("torch", "lightning"):
        assert "the groups of your SGD are at 0.3 and 0.03" in found[kind]
    made = executed(found["lightning"])["configure_optimizers"](nn.Linear(2, 2))
    assert made["optimizer"].param_groups[0]["lr"] == LR


def test_an_optimizer_that_torch_does_not_have_is_not_called_torchs():
    text = codes(replace(answer_of(EXPONENTIAL), optimizer="Lion"))["lightning"]
    made = executed(text, Lion=torch.optim.SGD)["configure_optimizers"](nn.Linear(2, 2))
    assert made["optimizer"].param_groups[0]["lr"] == LR


def test_several_optimizers_are_no_configure_optimizers():
    answer = replace(answer_of(EXPONENTIAL), optimizer="Adam and SGD", optimizers=2)
    assert list(codes(answer)) == [kind for kind in KINDS if kind != "lightning"]
