"""Plans and Histories come back from plain values as they were."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import linear_task, noisy_task

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.records.sent import packed, packed_plans, unpacked, unpacked_plans

PLANS = [
    Plan(0.01, Schedule(FAMILIES["constant"]), 0),
    Plan(0.02, Schedule(FAMILIES["step"], {"step_size": 1, "gamma": 0.1}), 3),
    Plan(1e30, Schedule(FAMILIES["cosine"], {"T_max": 2, "eta_min": 0.0}, "batch", warmup=2), 1),
]


def through_json(values):
    return json.loads(json.dumps(values))


def test_plans_come_back_as_they_were():
    again = unpacked_plans(through_json(packed_plans(PLANS)), linear_task())
    assert again == PLANS
    assert [str(plan.schedule) for plan in again] == [str(plan.schedule) for plan in PLANS]


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(0, 2**62))
@settings(max_examples=25)
def test_an_lr_and_a_seed_come_back_bit_for_bit(lr, seed):
    plan = Plan(lr, Schedule(FAMILIES["constant"]), seed)
    assert unpacked_plans(through_json(packed_plans([plan])), linear_task()) == [plan]


def test_a_history_comes_back_bit_for_bit_where_a_run_diverged_too():
    history = fit(noisy_task(), PLANS)
    assert history.diverged_at[2] >= 0
    again = unpacked(through_json(packed(history)), PLANS)
    for name in ("lr", "train_loss", "evaluated_at", "diverged_at", "trained"):
        before, after = getattr(history, name), getattr(again, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(history.measures["loss"], again.measures["loss"])
    assert (again.plans, again.raised, again.stopped) == (
        history.plans,
        history.raised,
        history.stopped,
    )


def test_an_array_of_another_kind_is_refused():
    values = through_json(packed(fit(linear_task(), PLANS[:1])))
    values["lr"]["kind"] = "O"
    with pytest.raises(ValueError, match="an array must be one of"):
        unpacked(values, PLANS[:1])
