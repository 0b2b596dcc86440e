"""A suggestion that was not checked against noise says so wherever it is shown."""

import json
from pathlib import Path

import pytest
from small_tasks import linear_task
from typer.testing import CliRunner

import lrfinder
from lrfinder import cli, plots
from lrfinder.commands import go_on
from lrfinder.range_tests.chance.exchange import NO_TARGET
from lrfinder.range_tests.curve import UNCHECKED
from lrfinder.report.dashboard_notes import Pages, study_note
from lrfinder.report.markdown import markdown
from lrfinder.report.notebook import html
from lrfinder.report.progress import Silent

TASK = """
from small_tasks import linear_task, regression_rows
from torch import nn
from torch.utils.data import DataLoader, default_collate


def collate(rows):
    x, y = default_collate(rows)
    return x, y, len(x)


def make_task(**fields):
    def loss(model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    return linear_task(
        criterion=None,
        loss=loss,
        train=DataLoader(regression_rows(200), 16, shuffle=True, collate_fn=collate),
        valid=DataLoader(regression_rows(100, seed=1), 50, collate_fn=collate),
        **fields,
    )


def named():
    return make_task(target=1)
"""
OPTIONS = ["--families", "step", "--trials", "2", "--trial-seeds", "1", "--confirm-seeds", "2"]
OPTIONS += ["--find-seeds", "1", "--steps", "40", "--probes", "3", "--quiet"]
OPTIONS += ["--engine", "sequential", "--out", "r"]
SAID = f"({UNCHECKED}: {NO_TARGET})"


def called(*words: str) -> str:
    result = CliRunner().invoke(cli.app, list(words), terminal_width=300)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of a task whose target nothing tells."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("unchecked")
        patch.chdir(place)
        Path("my_task.py").write_text(TASK, encoding="utf-8")
        assert SAID in called("run", "my_task.py", *OPTIONS)
        yield place / "r"


def test_a_finished_run_says_it_on_every_page(folder):
    run = lrfinder.open_run(folder)
    assert run.suggestion.lr is not None
    assert SAID in run.suggestion.reason
    assert run.curve.unchecked == NO_TARGET
    assert run.curve.suggest().reason == run.suggestion.reason
    assert SAID in (folder / "report.md").read_text(encoding="utf-8")
    assert SAID in markdown(run)
    assert SAID in study_note(run, "step", Pages({"step": 1}), {})
    assert SAID in html(run.curve)
    assert SAID in html(run.suggestion)
    assert SAID in called("report", str(folder))
    figure = plots.range_test_figure(run.curve, run.suggestion)
    assert figure.axes[0].get_title(loc="left").endswith(f"\n{UNCHECKED}")
    facts = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert facts["range_test"]["unchecked"] == NO_TARGET
    assert SAID in facts["suggestion"]["reason"]


def test_a_run_that_goes_on_says_it_still(folder):
    (folder / "range_test.csv").unlink()  # the range test is made again
    go_on(folder, {}, Silent())
    run = lrfinder.open_run(folder)
    assert SAID in run.suggestion.reason
    assert run.curve.unchecked == NO_TARGET


@pytest.mark.parametrize("name", ["make_task", "named"])
def test_find_says_it_in_words_and_as_json_and_the_advice_helps(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("my_task.py").write_text(TASK, encoding="utf-8")
    options = ["--steps", "40", "--probes", "3", "--seeds", "1", "--quiet", "--engine"]
    words = ["find", f"my_task.py:{name}", *options, "sequential", "--out", "r"]
    facts = json.loads(called(*words, "--json"))
    known = name == "named"
    assert facts["lr"] is not None
    assert facts["unchecked"] == (None if known else NO_TARGET)
    assert (SAID in facts["reason"]) is not known
    assert (UNCHECKED in called(*words[:-2])) is not known
    assert lrfinder.open_run(tmp_path / "r").curve.unchecked == facts["unchecked"]


def test_where_a_check_was_made_nothing_is_said_of_it():
    curve = lrfinder.range_test(linear_task(), seeds=1, steps=40)
    assert curve.unchecked is None
    figure = plots.range_test_figure(curve, curve.suggest())
    assert UNCHECKED not in figure.axes[0].get_title(loc="left") + html(curve)
