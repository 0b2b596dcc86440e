"""A notebook shows values as escaped, well-formed HTML, whatever they hold."""

from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import made_up_values as values
import pandas as pd
import pytest

from lrfinder.commands import start
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.opening import open_run
from lrfinder.results.saved_run import Run
from lrfinder.settings import RunSettings

UNFINISHED = Run(Path("runs") / values.MARKUP, {}, values.summary("running"))
INCONCLUSIVE = Suggestion(
    None, None, None, "inconclusive", values.MARKUP, optimizer=values.MARKUP, batch_size=64
)
SHOWN = [
    values.curve(),
    replace(values.curve(1), optimizer=values.MARKUP),
    values.curve(steps=2),
    values.lost_curve(),
    values.curve().suggest(),
    values.curve(1).suggest(),
    INCONCLUSIVE,
    values.comparison(),
    values.comparison(1, 1),
    values.comparison(14, 1),
    values.comparison(diverged=(0, 1, 2, 3)),
    values.comparison(0, 0),
    UNFINISHED,
]


class Checker(HTMLParser):
    """Follows the tags of a page: all are closed in order; pictures and words are kept."""

    def __init__(self, html):
        super().__init__()
        self.open, self.sources, self.words, self.tags = [], [], "", set()
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run with a range test."""
    settings = RunSettings(
        task="classifier",
        epochs=2,
        families=["step"],
        trials=2,
        confirm_seeds=2,
        find_seeds=2,
        steps=40,
        probes=3,
    )
    return start(settings, tmp_path_factory.mktemp("runs") / "r")


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: type(shown).__name__)
def test_every_value_shows_a_table_of_escaped_text(shown):
    page = Checker(shown._repr_html_())
    assert "table" in page.tags
    assert page.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p", "img"}


@pytest.mark.parametrize("shown", [replace(values.curve(), optimizer=values.MARKUP), INCONCLUSIVE])
def test_names_are_shown_as_they_are_written(shown):
    assert values.MARKUP in Checker(shown._repr_html_()).words


@pytest.mark.parametrize("shown", [values.curve(), values.curve(1), values.comparison()])
def test_the_picture_is_a_png_inside_the_page(shown):
    (source,) = Checker(shown._repr_html_()).sources
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64"
    assert b64decode(data).startswith(b"\x89PNG")


@pytest.mark.parametrize("shown", [values.lost_curve(), values.comparison(0, 0), UNFINISHED])
def test_what_cannot_be_drawn_shows_its_table_alone(shown):
    assert not Checker(shown._repr_html_()).sources


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: type(shown).__name__)
def test_the_plain_form_is_one_short_line(shown):
    assert len(repr(shown)) < 250
    assert "\n" not in repr(shown)


def test_a_finished_run_shows_its_answer_and_the_comparison(run):
    page = Checker(run._repr_html_())
    assert len(page.sources) == 1
    assert f"Best: {run.summary['best']['schedule']}" in page.words
    assert all(family in page.words for family in run.summary["families"])
    assert len(repr(run)) < 250


def test_a_run_without_a_comparison_shows_its_range_test(run):
    early = replace(run, summary={**run.summary, "best": None, "status": "interrupted"})
    early.__dict__["comparison"] = None
    page = Checker(early._repr_html_())
    assert len(page.sources) == 1
    assert "Range test" in page.words


def test_a_run_whose_confirmation_was_cut_off_shows_what_there_is(run, tmp_path):
    for name in ("config.toml", "range_test.csv"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    frame = pd.read_csv(run.path / "comparison.csv")
    frame.head(1).to_csv(tmp_path / "comparison.csv", index=False)
    nothing = {"best": None, "recommended": None, "families": {}}
    cut = replace(run, path=tmp_path, summary={**run.summary, **nothing})
    assert "Comparison" in Checker(cut._repr_html_()).words


def test_a_damaged_run_shows_what_is_damaged(run, tmp_path):
    for name in ("config.toml", "summary.json"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    (tmp_path / "comparison.csv").write_text("candidate\nstep\n")
    page = Checker(open_run(tmp_path)._repr_html_())
    assert "comparison.csv is missing or damaged" in page.words


def test_a_run_leaves_a_map_of_its_parameters(run):
    assert (run.path / "parameters.png").stat().st_size > 5000
    assert "](parameters.png)" in (run.path / "report.md").read_text()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0123456, "0.012 s"), (3.14159, "3.1 s"), (5400.0, "1.5 h")]
)
def test_a_range_test_says_its_time_in_a_unit_that_suits(seconds, said):
    shown = replace(values.curve(), wall_seconds=seconds)
    assert f" in {said}" in Checker(shown._repr_html_()).words
