"""What a run works on: lr ranges, baselines, objectives, budgets."""

import inspect
from dataclasses import replace

import pytest
from optuna.trial import FixedTrial
from torch.optim.lr_scheduler import LambdaLR

from lrfinder.errors import InvalidArgument
from lrfinder.experiment import Experiment
from lrfinder.range_tests.range_test import range_test
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.schedules import Family
from lrfinder.schedules.recipe import Recipe
from lrfinder.settings import RangeTestSettings, RunSettings
from lrfinder.tuning.lr_ranges import from_range_test

SUGGESTED = Suggestion(0.01, 0.008, 0.0125, "suggested", "", diverged_at=1.0)
UNKNOWN = Suggestion(None, None, None, "inconclusive", "flat")


def problem(**options) -> Experiment:
    return Experiment(RunSettings(**{"task": "digits", **options}))


def ranges(asked: Experiment, suggestion):
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


@pytest.mark.parametrize(
    ("text", "per", "what"),
    [
        ("0.1,step,step_size=2", "epoch", "StepLR(step_size=2, gamma=0.1)"),
        ("0.1,cosine", "epoch", "CosineAnnealingLR(T_max=5, eta_min=0)"),
        ("0.1,cosine", "batch", "CosineAnnealingLR(T_max=115, eta_min=0)"),
    ],
)
def test_what_a_baseline_leaves_out_is_usual_for_the_length_of_the_training(text, per, what):
    assert str(problem(baseline=text, per=per, epochs=5).task.baseline.schedule) == what


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
    asked = problem(warmup=2, epochs=10, families=["step", "plateau"])
    budgets = {s.family.name: s.budget.steps for s in asked.spaces(SUGGESTED)[0]}
    assert budgets == {"constant": 8, "step": 8, "plateau": 8}


def test_a_family_that_rises_by_itself_refuses_a_warm_up():
    with pytest.raises(InvalidArgument, match="one_cycle rises by itself and takes no warm-up"):
        problem(warmup=2, families=["one_cycle"])


def test_a_usual_family_that_cannot_decay_in_the_budget_is_left_out_with_a_note():
    asked = problem(epochs=2)
    assert "inverse_time" not in [member.name for member in asked.families]
    assert any(note.startswith("inverse_time is left out: ") for note in asked.notes)
    with pytest.raises(InvalidArgument, match="inverse_time needs at least 3"):
        problem(epochs=2, families=["inverse_time"])


def test_a_family_without_defaults_is_searched_around_the_suggestion():
    own = Family(
        name="mine",
        build=lambda optimizer, p: LambdaLR(optimizer, lambda t: 1 / (1 + p["rate"] * t)),
        space=lambda trial, budget: {"rate": trial.suggest_float("rate", 0.01, 10, log=True)},
    )
    asked = problem()
    space = replace(asked.spaces(SUGGESTED)[0][0], family=own)
    [space], _ = from_range_test([space], asked.task, SUGGESTED)
    assert space.lr_low < 0.01 < space.lr_high


def test_defaults_of_settings_and_of_the_range_test_are_one():
    signature = inspect.signature(range_test).parameters
    fields = RangeTestSettings.model_fields
    for name in ("min_lr", "max_lr", "steps", "every", "growth"):
        assert fields[name].default == signature[name].default
    assert fields["find_seeds"].default == signature["seeds"].default


def test_the_start_is_the_suggested_lr_under_the_default_cosine():
    asked = problem(families=["step"])
    start = asked.start(SUGGESTED)
    assert str(start.schedule) == "CosineAnnealingLR(T_max=20, eta_min=0)"
    assert 2 < start.lr / 0.01 < 3.5
    cosine = next(s for s in problem().spaces(SUGGESTED)[0] if s.family.name == "cosine")
    assert start.recipe == Recipe(*cosine.ask(FixedTrial(cosine.first_trials()[0])))
    assert asked.candidate_names == ["constant", "step", "start"]


def test_the_start_takes_an_lr_that_is_given_and_there_is_none_without_one():
    assert problem(lr=0.3).start(None).lr == 0.3
    assert problem().start(UNKNOWN) is None
    ranged = problem(lr_range=(0.01, 0.1))
    assert ranged.start(None) is None
    assert "start" not in ranged.candidate_names


def test_runs_of_the_comparison_are_eight_for_each_candidate_unless_told():
    names = problem().candidate_names
    assert problem().confirm_runs == 8 * len(names)
    assert problem(confirm_runs=30).confirm_runs == 30
    told = problem(confirm_seeds=3)
    assert told.settings.confirm_runs == told.confirm_runs == 3 * len(names)
    assert told.settings.confirm_seeds is None
    assert problem().halving.kept == ("constant", "baseline")


@pytest.mark.parametrize("runs", [1, 8, 10**7])
def test_a_number_of_runs_that_cannot_be_made_is_refused(runs):
    with pytest.raises(InvalidArgument, match=r"confirm_runs must be from 9, .* to 9000, but got"):
        problem(confirm_runs=runs)


def test_a_family_that_is_called_like_another_candidate_is_refused():
    own = Family("start", lambda o, p: LambdaLR(o, lambda t: 1.0), lambda trial, budget: {})
    task = replace(problem().task, schedules={"start": own})
    with pytest.raises(InvalidArgument, match="no family may be called 'start'"):
        Experiment(RunSettings(), task)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, False),
        ({"families": ["step", "cosine"]}, True),
        ({"families": ["triangular"]}, True),
        ({"epochs": 2}, False),
    ],
)
def test_families_that_were_named_are_told_from_the_usual_ones_in_a_resumed_run_too(options, named):
    first = problem(**options)
    assert first.families_named is named
    assert Experiment(first.settings).families_named is named


def test_the_best_few_are_trained_on_a_seed_that_is_of_no_other_act():
    one, two = problem(trial_seeds=1), problem(trial_seeds=2)
    assert (one.search_seeds, one.second_seeds) == ([1000], list(range(1001, 1008)))
    assert (two.search_seeds, two.second_seeds) == ([1000, 1001], [])


def test_work_counts_what_is_asked():
    asked = problem(families=["step"], trials=5, trial_seeds=2, confirm_runs=21)
    assert asked.search_work().runs == 2 * 5 * 2
    assert asked.compare_work().runs == 21
    fixed = problem(families=["step"], trials=5, lr=0.1, even=True, trial_seeds=2).search_work()
    assert fixed.runs == (5 + 1) * 2
    shared = problem(families=["step"], trials=5, lr=0.1, trial_seeds=2).search_work()
    assert shared.runs == 2 * 5 * 2
    again = problem(families=["step"], trials=5).search_work()
    assert again.runs == 2 * 5 + 3 + (5 + 3)  # the constant: five lrs on a seed, three on another
    whole = problem(families=["step"], trials=10).search_work()
    assert whole.runs == 2 * 10 + 3 + (5 + 3 * 2 + 2 * 4)
    assert 0 < fixed.overhead < asked.search_work().overhead
