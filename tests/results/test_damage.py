"""A damaged run folder is refused in one line, whatever is wrong with it and whoever reads it."""

import json
import shutil
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import lrfinder
from lrfinder.errors import RunFolderError
from lrfinder.report.dashboard_notes import Pages, answer, study_note, trial_note
from lrfinder.report.markdown import markdown
from lrfinder.report.tables import ranking
from lrfinder.report.wording import conclusions

WHOLE = Path(__file__).parents[1] / "data" / "run_folders" / "schema-3-finished"
TABLES = ("range_test.csv", "trials.csv", "curves.csv", "comparison.csv")
OPTIONAL_TABLES = ("trials.csv",)


def read_everything(folder: Path) -> None:
    """All that a person can ask of a folder; what is damaged is a RunFolderError."""
    run = lrfinder.open_run(folder)
    if run.curve is not None:
        run.curve.suggest()
    _ = run.comparison, run.trials, run.curves, run.mean_curves, run.name, repr(run)
    assert run._repr_html_()
    conclusions(run), ranking(run), markdown(run)
    pages = Pages(dict.fromkeys(run.answers.families, 1))
    answer(run)
    for family, facts in run.answers.families.items():
        study_note(run, family, pages, {})
        if facts.best_trial is not None:
            trial_note(run, family, pages, {})
            run.trial_curve(family, facts.best_trial)


def survives_or_is_refused(folder: Path) -> bool:
    """Whether everything could be read; fails where the refusal is not one line."""
    try:
        read_everything(folder)
    except RunFolderError as error:
        refusal = str(error)
    else:
        return True
    assert "\n" not in refusal
    assert len(refusal) < 400
    return False


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(WHOLE, tmp_path / "run"))


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where each value of a nested object stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items)[:40]:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))


def changed(facts: Any, path: tuple[str | int, ...], value: Any) -> Any:
    twin = deepcopy(facts)
    place = twin
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return twin


SUMMARY = json.loads((WHOLE / "summary.json").read_text())
CONFIG = tomllib.loads((WHOLE / "config.toml").read_text())


def test_the_whole_folder_is_read():
    read_everything(WHOLE)


SLOW = [pytest.param(value, marks=pytest.mark.slow) for value in ([], {}, -1)]


@pytest.mark.parametrize("value", [KeyError, None, "x", *SLOW], ids=repr)
@pytest.mark.slow
def test_any_value_of_the_summary_may_be_wrong(folder, value):
    refused = 0
    for path in paths(SUMMARY):
        (folder / "summary.json").write_text(json.dumps(changed(SUMMARY, path, value)))
        refused += not survives_or_is_refused(folder)
    assert refused > 20


@pytest.mark.parametrize("value", [KeyError, "x", [], {}, -1], ids=repr)
@pytest.mark.slow
def test_any_value_of_the_config_may_be_wrong(folder, value):
    for path in paths(CONFIG):
        (folder / "config.toml").write_text(tomli_w.dumps(changed(CONFIG, path, value)))
        survives_or_is_refused(folder)
    (folder / "config.toml").write_text(tomli_w.dumps({**CONFIG, "trials": "many"}))
    assert not survives_or_is_refused(folder)


DAMAGES = {
    "empty": lambda data: b"",
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut in a line": lambda data: data[: data.rstrip().rfind(b"\n") + 8],
    "no UTF-8": lambda data: data[:60] + b"\xff\xfe" + data[60:],
    "zeros": lambda data: b"\x00" * len(data),
    "a last line twice": lambda data: data + data.splitlines(keepends=True)[-1],
    "a first line alone": lambda data: data.splitlines(keepends=True)[0],
    "words for numbers": lambda data: data.replace(b"0.", b"word"),
    "a further column": lambda data: data.replace(b"\n", b",1\n"),
    "another header": lambda data: b"a,b,c\n" + data.partition(b"\n")[2],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*TABLES, "summary.json", "config.toml"])
def test_any_file_may_be_damaged(folder, name, damage):
    file = folder / name
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    survives_or_is_refused(folder)


@pytest.mark.parametrize("name", [*TABLES, "summary.json", "config.toml"])
def test_any_file_may_be_missing(folder, name):
    (folder / name).unlink()
    assert survives_or_is_refused(folder) == (name in OPTIONAL_TABLES)


def test_a_run_that_stands_twice_in_the_comparison_is_refused(folder):
    file = folder / "comparison.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[1]]))
    with pytest.raises(RunFolderError, match=r"comparison\.csv is missing or damaged"):
        _ = lrfinder.open_run(folder).comparison
