"""What a run works on: lr ranges, baselines, objectives, budgets."""

import pytest

from lrfinder.errors import InvalidArgument
from lrfinder.problem import RunProblem
from lrfinder.study_file import RunSettings
from lrfinder.suggest import Suggestion

SUGGESTED = Suggestion(0.01, 0.008, 0.0125, "suggested", "", diverged_at=1.0)
UNKNOWN = Suggestion(None, None, None, "inconclusive", "flat")


def problem(**options) -> RunProblem:
    return RunProblem(RunSettings(**{"task": "digits", **options}))


def ranges(asked: RunProblem, suggestion):
    spaces, why = asked.spaces(suggestion)
    return {space.family.name: (space.lr_low, space.lr_high) for space in spaces}, why


def test_every_range_holds_the_suggestion_moved_to_its_family():
    spaces, _ = problem().spaces(SUGGESTED)
    for space in spaces:
        assert space.lr_low < space.lr_default < space.lr_high
    by_name = {space.family.name: space for space in spaces}
    assert by_name["constant"].lr_default == pytest.approx(0.01)
    assert 2 < by_name["cosine"].lr_default / 0.01 < 3.5  # as predicted for a cosine
    assert by_name["plateau"].lr_default == pytest.approx(0.01)  # its shape is not known


def test_no_range_reaches_beyond_the_divergence_edge():
    edge = Suggestion(0.3, 0.2, 0.45, "suggested", "", diverged_at=1.0)
    found, _ = ranges(problem(), edge)
    assert found["constant"][1] == 1.0


def test_without_a_suggestion_two_decades_below_the_edge_are_searched():
    edge = Suggestion(None, None, None, "inconclusive", "flat", diverged_at=0.5)
    found, why = ranges(problem(), edge)
    assert set(found.values()) == {(0.005, 0.5)}
    assert "two decades below 0.5" in why


def test_without_an_edge_the_baseline_is_the_centre():
    found, why = ranges(problem(baseline="0.2"), UNKNOWN)
    assert found["step"] == (pytest.approx(0.02), pytest.approx(2.0))
    assert "baseline" in why


def test_without_anything_the_optimizers_usual_lr_is_the_centre():
    found, why = ranges(problem(), UNKNOWN)
    assert found["step"] == (pytest.approx(1e-4), pytest.approx(1e-2))
    assert "usual lr" in why


def test_a_constant_lr_is_always_compared():
    assert [f.name for f in problem(families=["step"]).families] == ["constant", "step"]


def test_a_metric_is_maximised_unless_told():
    assert problem(objective="accuracy").direction == "maximize"
    assert problem(objective="accuracy", direction="minimize").direction == "minimize"
    assert problem().direction == "minimize"


def test_a_baseline_is_read_with_its_schedule():
    baseline = problem(baseline="0.1, step, step_size=30, gamma=0.1").task.baseline
    assert (baseline.lr, str(baseline.schedule)) == (0.1, "StepLR(step_size=30, gamma=0.1)")
    staircase = problem(
        baseline="0.1,inverse_time,decay_rate=0.5,decay_steps=2,staircase=True"
    ).task.baseline
    assert staircase.schedule.params["staircase"] is True


@pytest.mark.parametrize("text", ["", "fast", "0.1,step,step_size", "-1", "0.1,steep", "nan"])
def test_an_unreadable_baseline_is_told(text):
    with pytest.raises(InvalidArgument):
        problem(baseline=text)


def test_per_batch_searches_in_updates():
    asked = problem(per="batch", epochs=2, families=["cosine"])
    spaces, _ = asked.spaces(SUGGESTED)
    cosine = next(space for space in spaces if space.family.name == "cosine")
    assert cosine.budget.steps == 2 * asked.updates_per_epoch


def test_warm_up_is_taken_off_the_budget():
    asked = problem(warmup=2, epochs=10, families=["step", "one_cycle", "plateau"])
    budgets = {s.family.name: s.budget.steps for s in asked.spaces(SUGGESTED)[0]}
    assert budgets == {"constant": 8, "step": 8, "one_cycle": 10, "plateau": 8}


def test_work_counts_what_is_asked():
    asked = problem(families=["step"], trials=5, trial_seeds=2, confirm_seeds=3)
    assert asked.search_work().runs == 2 * 5 * 2
    assert asked.compare_work().runs == 2 * 3
    assert problem(families=["step"], trials=5, lr=0.1).search_work().trials == 5 + 1
