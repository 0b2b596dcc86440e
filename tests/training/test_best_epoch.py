"""An objective of the best epoch: best_valid_loss and best_METRIC."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tasks import absolute_error, linear_task, plain_sgd, plan

import lrfinder
from lrfinder.errors import InvalidArgument
from lrfinder.experiment import training_seeds
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.fields.measures import measure_column, measure_name
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History, Plan

QUIET = {"progress": False, "engine": "sequential"}


def history(values) -> History:
    losses = np.array([values])
    count = losses.shape[1]
    return History(
        plans=(plan(),),
        lr=np.ones((1, count - 1, 1)),
        train_loss=np.ones((1, count - 1)),
        measures={"loss": losses},
        evaluated_at=np.arange(count),
        diverged_at=np.array([-1]),
        trained=np.array([count - 1]),
        updates_per_epoch=1,
    )


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_the_best_epoch_counts_and_no_weights_before_training(values):
    [lowest] = history(values).outcomes("best_loss", "minimize")
    [highest] = history(values).outcomes("best_loss", "maximize")
    assert (lowest.final, highest.final) == (min(values[1:]), max(values[1:]))
    assert (lowest.value, highest.value) == (min(values), max(values))
    assert lowest.start == values[0]
    [last] = history(values).outcomes("loss", "minimize")
    assert last.final == values[-1]


def test_an_epoch_that_was_not_finite_is_not_the_best():
    [outcome] = history([3.0, float("nan"), 1.0, 2.0]).outcomes("best_loss", "minimize")
    assert outcome.final == 1.0


def test_a_run_that_diverged_counts_what_was_there_before_it():
    found = fit(linear_task(), [plan(1e200)]).outcomes("best_loss")
    assert found[0].diverged
    assert found[0].value == found[0].start


def test_a_metric_of_that_very_name_is_itself():
    known = ["loss", "f1", "best_f1"]
    assert measure_name("best_f1", known) == "best_f1"
    [one] = history([1.0, 2.0, 3.0]).outcomes("loss")
    named = history([1.0, 2.0, 3.0])
    named.measures["best_loss"] = np.array([[9.0, 9.0, 8.0]])  # pyright: ignore[reportIndexIssue]
    assert named.outcomes("best_loss")[0].final == 8.0
    assert one.final == 3.0


@pytest.mark.parametrize("column", ["valid_loss", "best_valid_loss", "f1", "best_f1"])
def test_names_of_objectives_go_there_and_back(column):
    assert measure_column(measure_name(column, ["loss", "f1"])) == column


@pytest.mark.parametrize("column", ["loss", "best_loss", "best_", "best_best_f1", "f2", "best_f2"])
def test_an_objective_that_there_is_not_is_refused_in_one_line(column):
    with pytest.raises(InvalidArgument, match="one of valid_loss, f1, or best_ before one of them"):
        measure_name(column, ["loss", "f1"])


def test_plateau_follows_what_is_evaluated():
    plateau = Schedule(FAMILIES["plateau"], {"mode": "min", "factor": 0.5, "patience": 0})
    plans = [Plan(0.05, plateau, 0)]
    one, other = (fit(linear_task(epochs=6), plans, watch=w) for w in ("loss", "best_loss"))
    np.testing.assert_array_equal(one.lr, other.lr)


@pytest.mark.parametrize("objective", ["best_valid_loss", "best_error"])
def test_a_whole_run_of_the_best_epoch_is_read_back_and_says_so(tmp_path, objective):
    task = linear_task(metrics={"error": absolute_error}, optimizer=plain_sgd)
    asked = {"families": ["plateau"], "trials": 2, "confirm_seeds": 3, "lr_range": (0.01, 0.3)}
    run = lrfinder.run(
        task, out=tmp_path / "r", objective=objective, direction="minimize", **asked, **QUIET
    )
    column = objective.removeprefix("best_")
    facts = run.answers.objective
    assert (facts.name, facts.column, facts.of_best_epoch) == (objective, column, True)
    curves = run.curves[run.curves["act"] == "confirm"]
    best = curves[curves["epoch"] > 0].groupby(["name", "seed"])[column].min()
    for one in run.confirmed:
        assert one.value == pytest.approx(best[one.candidate, one.seed], rel=1e-9)
    [seed] = training_seeds("search", 0, 1)
    searched = run.curves[(run.curves["act"] == "search") & (run.curves["seed"] == seed)]
    by_trial = searched.groupby(["name", "trial", "seed"])[column].min()
    for row in run.trials.itertuples():
        mean = by_trial[row.family, row.trial].mean()
        assert row.value == pytest.approx(mean, rel=1e-5)
    report = (tmp_path / "r" / "report.md").read_text()
    assert (
        f"{objective} is the {column} of each run's best epoch, so keep that checkpoint" in report
    )
    assert "best_" not in run.answers.winner.code
