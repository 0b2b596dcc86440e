"""What the notes of the studies say."""

import pytest
from small_tasks import linear_task

import lrfinder
from lrfinder.report.dashboard_notes import Pages, study_note
from lrfinder.report.markdown import markdown

SMALL = {"families": ["step"], "trials": 1, "confirm_runs": 4, "steps": 12}


@pytest.mark.parametrize("every", ["epoch", "batch"])
def test_a_sweep_that_grew_per_epoch_has_its_table_in_report_and_notes(tmp_path, every):
    run = lrfinder.run(linear_task(), out=tmp_path / "run", progress=False, every=every, **SMALL)
    note = study_note(run, "step", Pages({"step": 1}), {})
    for text in (markdown(run), note):
        assert ("After each epoch of the sweep:" in text) is (every == "epoch")
