"""Whatever value an error speaks of, it is one line that a terminal can show."""

import pickle
import re

import pytest
from small_tasks import linear_task
from typer.testing import CliRunner

import lrfinder
from lrfinder import errors
from lrfinder.cli import app
from lrfinder.errors import InvalidArgument, LRFinderError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LRFinderError)
]
ODD = ["a\nb", "a\r\nb", "\x1b[31m", "\x00", "\udcff", "\u2028", "x" * 5000, "\t"]


def is_one_line(message: str) -> bool:
    return message.isprintable() and len(message) < 1000 and message.encode() != b""


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:20])
@pytest.mark.parametrize("kind", KINDS)
def test_any_error_is_one_line(kind, value):
    error = kind(f"steps must be a number, but got {value}; give one")
    assert is_one_line(str(error))
    assert str(error).startswith("steps must be a number, but got ")
    assert str(error).endswith("; give one")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_message_that_is_one_line_stays_as_it_is():
    message = "ünï: 'a' \\n [bold] must be < 3"
    assert str(LRFinderError(message)) == message


WORDS = [
    *("find {}.py", "find {}", "find --growth {}", "run --objective {}", "run --families {}"),
    *("run --baseline {}", "run --resume {}", "run --storage {}", "report {}", "init {}"),
    "dashboard {}",
]


def refusal(*words: str) -> str:
    """The one line that a call ends in."""
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code in (2, 3)
    *notes, line = result.stderr.splitlines()
    assert line.startswith("lrfinder: ")
    assert is_one_line(line)
    assert all(note.startswith("note: ") for note in notes)
    return line


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "x" * 5000], ids=["lines", "colour", "long"])
@pytest.mark.parametrize("words", WORDS)
def test_any_value_is_refused_in_one_line(words, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(*(word.format(value) for word in words.split()))


PATHS = {
    "missing.py": "no such file; `lrfinder init missing.py` writes one",
    "sub/missing.py": r"no such file; `lrfinder init .*/sub/missing.py` writes one",
    "no/missing.py": "no such file$",
    "file.py/missing.py": "ot a directory",
    "loop.py": "it is no file",
    "to_nothing.py": "no such file|it is no file",
    "folder.py": "it is no file",
    "~no_such_user/task.py": "no such file$",
    f"{'x' * 300}.py": "ame too long",
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[-24:])
def test_a_path_without_a_task_is_refused_with_its_reason(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.py").touch()
    for folder in ("sub", "folder.py"):
        (tmp_path / folder).mkdir()
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "to_nothing.py").symlink_to("nothing.py")
    assert re.search(PATHS[path], refusal("find", path))
    assert refusal("run", "--resume", path.removesuffix(".py"))


@pytest.mark.parametrize("where", ["--out", "--storage"])
def test_a_loop_of_links_is_no_place_for_a_run(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    value = "loop" if where == "--out" else "sqlite:///loop"
    refusal("sweep", "quadratic", "--lr", "0.1", "-q", where, value)


CONSTANT = lrfinder.Schedule(lrfinder.FAMILIES["constant"])
OF_ANOTHER_KIND = {
    "a name for a task": (
        lambda: lrfinder.range_test("digits"),
        r"'digits'; .*load_task\('digits'\)",
    ),
    "what makes a task": (
        lambda: lrfinder.fit(linear_task, []),
        "got a function; call what makes it",
    ),
    "a number for a task": (lambda: lrfinder.run(3), "must be a Task or a Loop, but got 3"),
    "no task to search": (
        lambda: lrfinder.search(None, [], trials=1, seeds=[0]),
        "must be a Task or a Loop, but got None",
    ),
    "no task to compare": (lambda: lrfinder.compare({}, [], seeds=[0]), "but got a dict"),
    "a name for a family": (
        lambda: lrfinder.Schedule("cosine"),
        r"as lrfinder.FAMILIES\[.*'cosine'",
    ),
    "a name for a schedule": (lambda: lrfinder.Plan(0.1, "cosine", 0), "be a Schedule, .*'cosine'"),
    "a family for a schedule": (
        lambda: lrfinder.Candidate("a", 0.1, lrfinder.FAMILIES["step"]),
        "must be a Schedule, .* but got a Family",
    ),
    "a text for an lr": (lambda: lrfinder.Plan("0.1", CONSTANT, 0), "lr must be .* but got '0.1'"),
    "a text for a seed": (lambda: lrfinder.Plan(0.1, CONSTANT, "0"), "whole number, but got '0'"),
    "one plan": (
        lambda: lrfinder.fit(linear_task(), lrfinder.Plan(0.1, CONSTANT, 0)),
        "must be a list of them, but got a Plan",
    ),
    "names for plans": (lambda: lrfinder.fit(linear_task(), ["a"]), "every plan must be a Plan"),
    "a name for a trainer": (
        lambda: lrfinder.range_test(linear_task(), trainer="batched"),
        r"as SequentialTrainer\(\) is, but got 'batched'",
    ),
}


@pytest.mark.parametrize("case", OF_ANOTHER_KIND)
def test_what_is_of_another_kind_is_told_in_one_line(case):
    call, says = OF_ANOTHER_KIND[case]
    with pytest.raises(InvalidArgument, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
