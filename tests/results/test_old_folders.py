"""Folders of earlier releases: finished ones are opened, reported and shown by every later one."""

import runpy
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import lrfinder
from lrfinder.commands import finished_run, go_on, write_again
from lrfinder.report.dashboard import stored, worth_opening
from lrfinder.report.dashboard_notes import Pages

FOLDERS = Path(__file__).parents[1] / "data" / "run_folders"
FINISHED = [path for path in sorted(FOLDERS.iterdir()) if path.name.endswith("finished")]
INTERRUPTED = [path for path in sorted(FOLDERS.iterdir()) if path.name.endswith("interrupted")]
RANGE_TESTS = [path for path in sorted(FOLDERS.iterdir()) if path.name.endswith("range-test")]


def name(path: Path) -> str:
    return path.name


@pytest.fixture
def copy(tmp_path):
    return lambda path: Path(shutil.copytree(path, tmp_path / path.name))


def test_there_are_folders_of_every_kind():
    assert FINISHED
    assert INTERRUPTED
    assert RANGE_TESTS


@pytest.mark.parametrize("path", FINISHED, ids=name)
def test_a_finished_folder_is_opened(path):
    run = lrfinder.open_run(path)
    assert run.summary["status"] == run.answers.status == "complete"
    assert run.suggestion.lr == pytest.approx(run.curve.suggest().lr, rel=1e-9)
    assert run.comparison.best.candidate == run.answers.winner.family
    assert set(run.mean_curves) == set(run.answers.families)
    assert len(run.trials) == sum(facts.trials for facts in run.answers.families.values())
    assert not run.curves.empty
    assert "Best: " in run._repr_html_()


@pytest.mark.parametrize("path", FINISHED, ids=name)
def test_a_finished_folder_is_reported(path, copy):
    folder = copy(path)
    (folder / "report.md").unlink()
    told = []

    class Told:
        say = staticmethod(told.append)

    write_again(finished_run(folder), Told())
    assert told == []
    assert (folder / "report.md").read_text().startswith("# Learning rate and decay for diabetes")
    for picture in ("range_test.png", "comparison.png", "schedules.png", "parameters.png"):
        assert (folder / picture).stat().st_size > 5000


@pytest.mark.parametrize("path", FINISHED, ids=name)
def test_a_finished_folder_is_shown_on_the_dashboard(path, copy):
    run = lrfinder.open_run(copy(path))
    storage = stored(run)
    studies = {family: k for k, family in enumerate(run.answers.families, start=1)}
    assert {"answer", "best trial"} <= set(worth_opening(run, Pages(studies)))
    assert storage.get_all_studies()


@pytest.mark.parametrize("path", FINISHED, ids=name)
def test_the_script_of_a_finished_folder_still_runs(path, copy):
    with redirect_stdout(StringIO()) as printed:
        runpy.run_path(str(copy(path) / "best_schedule.py"), run_name="__main__")
    assert printed.getvalue().count("valid_loss") == lrfinder.open_run(path).answers.epochs


@pytest.mark.parametrize("path", RANGE_TESTS, ids=name)
def test_a_range_test_alone_is_opened(path):
    run = lrfinder.open_run(path)
    assert run.suggestion.lr == run.summary["suggestion"]["lr"]  # as it was said then
    assert 0.5 < run.suggestion.lr / run.curve.suggest().lr < 2
    assert run.comparison is None
    with pytest.raises(lrfinder.RunFolderError, match="range test without studies"):
        _ = run.answers


@pytest.mark.parametrize("path", INTERRUPTED, ids=name)
def test_an_interrupted_folder_goes_on_to_its_end(path, copy):
    finished = go_on(copy(path), {"task": "diabetes"})
    assert finished.answers.status == "complete"
    assert all(f.trials in (0, 6) or f.exhausted for f in finished.answers.families.values())
