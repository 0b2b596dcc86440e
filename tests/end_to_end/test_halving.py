"""A run that compares by halving: interrupted, resumed, continued, and what it says."""

import json
import shutil
from pathlib import Path

import pytest
from small_tasks import linear_task, noisy_model
from torch import nn

import lrfinder
from lrfinder.commands import finished_run
from lrfinder.errors import InvalidArgument, RunFolderError
from lrfinder.report.dashboard_notes import Pages, study_note
from lrfinder.report.markdown import markdown
from lrfinder.report.tables import ranking
from lrfinder.report.wording import conclusions

OPTIONS = {
    "families": ["exponential", "cosine", "polynomial"],
    "trials": 1,
    "trial_seeds": 1,
    "lr": 0.02,
    "engine": "sequential",
    "progress": False,
    "confirm_runs": 30,
}


class Stops(nn.Module):
    """A network with noise that interrupts the run after some forward passes."""

    left = 10**9

    def __init__(self):
        super().__init__()
        self.inner = noisy_model()

    def forward(self, x):
        Stops.left -= 1
        if Stops.left < 0:
            raise KeyboardInterrupt
        return self.inner(x)


def task() -> lrfinder.Task:
    return linear_task(model=Stops, epochs=2, baseline=1e-4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, int]:
    """Folder of a finished run, never to be changed, and how many forward passes it made."""
    folder = tmp_path_factory.mktemp("halved") / "r"
    Stops.left = enough = 10**9
    lrfinder.run(task(), out=folder, **OPTIONS)
    passes, Stops.left = enough - Stops.left, enough
    return folder, passes


@pytest.fixture
def finished(whole) -> Path:
    return whole[0]


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def resumed(folder: Path, **options) -> lrfinder.Run:
    return lrfinder.run(task(), resume=folder, progress=False, **options)


def runs_of(run: lrfinder.Run) -> set[tuple[str, int]]:
    return {(one.candidate, one.seed) for one in run.confirmed}


def test_a_run_is_compared_by_halving(finished):
    run = finished_run(finished)
    looks = run.comparison.looks
    assert len(looks[0].candidates) == 6
    assert len(looks) >= 2
    assert runs_of(run) == {(n, s) for look in looks for n in look.candidates for s in look.seeds}
    assert len(run.confirmed) <= 30
    facts = json.loads((finished / "summary.json").read_text())
    assert facts["confirm"]["runs"] == 30
    assert facts["verdict"]["recommended"] == facts["recommended"]["family"]
    assert {"start", "baseline"} <= set(facts["families"])
    assert facts["seeds"]["confirm"] == list(run.comparison.seeds)
    assert run.config["confirm_runs"] == 30


@pytest.mark.parametrize("share", [pytest.param(0.5, marks=pytest.mark.slow), 0.85])
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path, whole, share):
    finished, passes = whole
    Stops.left = round(share * passes)
    with pytest.raises(KeyboardInterrupt):
        lrfinder.run(task(), out=tmp_path / "r", **OPTIONS)
    Stops.left = 10**9
    run, other = resumed(tmp_path / "r"), lrfinder.open_run(finished)
    assert run.comparison.looks == other.comparison.looks
    assert run.comparison.values.equals(other.comparison.values)
    assert run.summary["verdict"] == other.summary["verdict"]


def test_a_comparison_is_continued_once(copy):
    before = lrfinder.open_run(copy)
    made, looks = runs_of(before), before.comparison.looks
    run = resumed(copy, confirm_runs=40)
    assert run.comparison.looks[:-1] == looks
    assert run.comparison.looks[-1].continues
    assert made < runs_of(run)
    assert len(run.confirmed) <= 40
    assert resumed(copy).comparison.looks == run.comparison.looks  # nothing to do
    assert resumed(copy, confirm_runs=40).summary["status"] == "complete"
    with pytest.raises(RunFolderError, match="must stay 40, for a comparison is continued once"):
        resumed(copy, confirm_runs=50)
    assert not any("--resume" in sentence for sentence in conclusions(run))


def test_a_continuation_that_was_interrupted_goes_on(copy):
    Stops.left = 60
    with pytest.raises(KeyboardInterrupt):
        resumed(copy, confirm_runs=60)
    Stops.left = 10**9
    run = resumed(copy)
    assert run.answers.confirm.continued == 60
    assert run.comparison.looks[-1].continues
    finished_run(copy)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"confirm_runs": 20}, "confirm_runs must only grow"),
        ({"confirm_runs": 31}, r"confirm_runs must be from 3\d to 6000"),
        ({"confirm_seeds": 2}, "confirm_runs must only grow"),
    ],
)
def test_a_number_of_runs_that_cannot_be_continued_by_is_refused(copy, options, says):
    with pytest.raises(InvalidArgument, match=says) as told:
        resumed(copy, **options)
    assert "\n" not in str(told.value)
    assert lrfinder.open_run(copy).summary["status"] == "complete"
    resumed(copy, confirm_runs=30)


def test_the_old_name_of_the_option_is_taken_with_a_warning(tmp_path, capsys):
    options = {**OPTIONS, "confirm_runs": None, "confirm_seeds": 2, "progress": True}
    run = lrfinder.run(task(), out=tmp_path / "r", **options)
    assert "confirm_seeds goes with the next release; it is now confirm_runs 12" in (
        capsys.readouterr().err
    )
    assert run.config["confirm_runs"] == 12
    assert len(run.confirmed) == 12
    with pytest.raises(InvalidArgument, match="exclude each other"):
        lrfinder.run(task(), out=tmp_path / "s", **{**options, "confirm_runs": 12})


def test_what_is_said_stands_wherever_a_run_is_told(finished):
    run = lrfinder.open_run(finished)
    said, shown = conclusions(run), run._repr_html_()
    for begins in ("Use ", "Best: ", "Against the baseline in use today: ", "Dropped on the way: "):
        assert sum(sentence.startswith(begins) for sentence in said) == 1
    pages = Pages(dict.fromkeys(run.answers.families, 1))
    note = study_note(run, "cosine", pages, {})
    for sentence in said:
        assert f"- {sentence}" in markdown(run)
        assert f"- {sentence}" in note
    assert "Dropped on the way" in shown
    table = ranking(run)
    assert table.header[-1] == "seeds"
    assert {int(row[-1]) for row in table.rows} == {s.seeds for s in run.comparison.ranking}
