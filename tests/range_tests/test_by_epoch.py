"""A sweep per epoch read as it is taught: lr, loss and metric of each, and the best of them."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up_values import curve

from lrfinder import plots
from lrfinder.range_tests.by_epoch import best_steps, compared, facts_by_epoch
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report.tables import steps_of

SUGGESTED = Suggestion(0.01, 0.005, 0.02, "suggested", "", budget=460)


@pytest.fixture
def swept():
    """A curve of two seeds over 20 epochs, whose accuracy rises as the loss falls."""
    made = curve(seeds=2, steps=20)
    return replace(made, every="epoch", metrics={"accuracy": 2 - made.loss, "error": made.loss})


def test_each_measure_is_best_where_its_mean_is(swept):
    loss, accuracy, error = best_steps(swept)
    lowest = int(np.nanargmin(swept.mean))
    for best in (loss, accuracy, error):
        assert (best.step, best.lr) == (lowest, swept.lr[lowest])
    assert (loss.extreme, accuracy.extreme, error.extreme) == ("lowest", "highest", "lowest")
    assert accuracy.value == pytest.approx(2 - loss.value)


def test_the_suggestion_is_set_beside_it_with_the_reason(swept):
    best = best_steps(swept)[1].lr
    where = f"accuracy is highest at {best:.2g}"
    for lr, why in (
        (best / 10, "the suggestion is lower because one epoch"),
        (best * 10, "the suggestion is higher because the sweep"),
        (best * 1.1, "the suggestion is about the same"),
    ):
        said = compared(swept, replace(SUGGESTED, lr=lr))[1]
        assert said.startswith(where)
        assert why in said
    moved = replace(SUGGESTED, schedule="CosineAnnealingLR(T_max=20)")
    assert "is the peak of Cosine" in compared(swept, moved)[1]
    nothing = replace(SUGGESTED, lr=None, verdict="inconclusive")
    assert "nothing is suggested: inconclusive" in compared(swept, nothing)[1]


def test_per_batch_there_is_no_table(swept):
    per_batch = replace(swept, every="batch")
    assert compared(per_batch, SUGGESTED) == []
    assert facts_by_epoch(per_batch, SUGGESTED) == {}


def test_the_table_has_a_row_for_every_epoch_and_says_where_it_diverged(swept):
    table = steps_of(swept)
    assert table.header == ("lr", "loss", "accuracy", "error")
    assert len(table.rows) == 20
    assert table.rows[-1][1:] == ("diverged",) * 3
    facts = facts_by_epoch(swept, SUGGESTED)
    assert [row["lr"] for row in facts["steps"]] == swept.lr.tolist()
    assert math.isnan(facts["steps"][-1]["accuracy"])
    assert facts["best_steps"][1]["measure"] == "accuracy"


def test_the_metric_is_drawn_with_a_ring_where_it_is_best(swept):
    figure, axes = plt.subplots()
    plots.range_test(axes, swept, SUGGESTED)
    beside = figure.axes[1]
    assert beside.get_ylabel().startswith("accuracy, highest at")
    assert beside.lines[1].get_xdata()[0] == best_steps(swept)[1].lr
    plt.close(figure)


def test_a_sweep_without_a_finite_loss_has_no_best(swept):
    lost = replace(swept, loss=np.full_like(swept.loss, np.nan))
    assert best_steps(lost) == []
