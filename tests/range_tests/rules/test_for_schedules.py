"""A range test asked for what it is for: a schedule, a length, a warm-up."""

from dataclasses import replace

import pytest
from small_tasks import PER_EPOCH, linear_task

from lrfinder import range_test
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.schedules.transfer import peak_multiplier


@pytest.fixture(scope="module")
def curve():
    return range_test(linear_task(epochs=40), steps=50)


def test_the_answer_names_the_schedule_and_moves_the_lr(curve):
    constant, cosine = curve.suggest(), curve.suggest("cosine")
    schedule = Schedule(FAMILIES["cosine"], {"T_max": 40, "eta_min": 0.0})
    assert cosine == replace(
        constant.for_schedule(schedule, 160, PER_EPOCH), by_schedule=constant.by_schedule
    )
    assert cosine == curve.suggest(schedule)
    assert cosine.lr > constant.lr
    assert f", times {cosine.lr / constant.lr:.2g} for cosine" in cosine.reason
    assert (cosine.stepped_per, constant.stepped_per) == ("epoch", None)


def test_the_other_schedules_are_what_each_would_be_asked_for(curve):
    by_schedule = curve.suggest().by_schedule
    assert list(by_schedule)[:2] == ["constant", "step"]
    for name, lr in by_schedule.items():
        assert lr == pytest.approx(curve.suggest(name).lr)


def test_a_longer_training_is_asked_of_the_same_curve(curve):
    longer = curve.suggest(epochs=4000)
    assert longer.budget == 4000 * PER_EPOCH
    assert longer.lr < curve.suggest(epochs=40).lr
    assert longer.lr == replace(curve, budget=4000 * PER_EPOCH).suggest().lr
    assert "T_max=4000" in curve.suggest("cosine", epochs=4000).schedule


def test_a_warm_up_makes_room_for_itself(curve):
    assert curve.suggest("cosine", warmup=4).schedule.startswith("warmup 4 + ")
    assert "T_max=36" in curve.suggest("cosine", warmup=4).schedule
    assert curve.suggest(warmup=4).schedule == "warmup 4 + ConstantLR()"
    per_batch = curve.suggest("cosine", warmup=4, per="batch")
    assert "warmup 16 + CosineAnnealingLR(T_max=144" in per_batch.schedule


@pytest.mark.parametrize("lr", [0.01, 0.1, 10.0])
def test_a_floor_counts_by_what_it_is_to_the_peak(lr):
    """eta_min is an lr, not a share: the peak found is the best for its own shape."""
    constant = Suggestion(lr, lr / 2, lr * 2, "suggested", "")
    schedule = Schedule(FAMILIES["cosine"], {"T_max": 400, "eta_min": 0.01}, "batch")
    moved = constant.for_schedule(schedule, 400, 10)
    assert moved.lr is not None
    shape = schedule.rows([moved.lr], 400)[:, 0] / moved.lr
    assert moved.lr / lr == pytest.approx(peak_multiplier(shape), rel=0.01)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"warmup": 40}, "warmup must be at least 0 and less than the 40 epochs"),
        ({"schedule": Schedule(FAMILIES["constant"]), "warmup": 2}, "but got both"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_what_cannot_be_asked_is_refused(curve, asked, said):
    with pytest.raises(InvalidArgument, match=said):
        curve.suggest(**asked)


@pytest.mark.parametrize("asked", [{"epochs": 5}, {"schedule": "cosine"}])
def test_a_curve_of_an_unknown_epoch_says_so(curve, asked):
    with pytest.raises(InvalidArgument, match="does not know"):
        replace(curve, updates_per_epoch=None).suggest(**asked)
