"""Every study file runs as its header says, and every header says what was found."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrfinder.cli import app
from lrfinder.results.opening import open_run

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.toml"))
QUICK = {"cosine_against_step_and_exponential"}
LEAST = [
    *("--epochs", "4", "--trials", "1", "--trial-seeds", "1"),
    *("--confirm-runs", "20", "--find-seeds", "1", "-q"),
]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in STUDIES
    ],
)
def test_a_study_runs_end_to_end_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["run", str(path), *LEAST, "--out", "r"])
    assert result.exit_code == 0, result.output
    run = open_run("r")
    asked = tomllib.loads(path.read_text(encoding="utf-8"))
    compared = {*asked["families"], "constant"}
    if "lr_range" not in asked:
        compared.add("start")
    if "baseline" in run.summary["families"]:
        compared.add("baseline")
    assert set(run.summary["families"]) == compared
    for note in run.summary["notes"]:  # so short a run, and a task without noise
        assert note.startswith(("the baseline's schedule", "all seeds train alike"))
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_says_its_question_command_conditions_and_finding(path):
    header = path.read_text(encoding="utf-8").partition("\ntask = ")[0]
    assert all(line.startswith("#") for line in header.splitlines() if line)
    for word in ("Question: ", f"lrfinder run studies/{path.name} ", "Found on ", "seeds", "torch"):
        assert word in header
    assert f"studies/{path.name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_studies():
    assert len(STUDIES) >= 6
