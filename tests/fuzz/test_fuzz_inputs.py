"""Any words, any settings file, any damaged run folder: an answer, or one clear line.

`LRFINDER_FUZZ=500` tries so many of each, other ones each time.
"""

import random
from pathlib import Path

import pytest
from any_input import (
    ENDLESS,
    FILES,
    OPTIONS,
    TASKS,
    copied,
    damage,
    settings_file,
)
from asking import Answer, ask, check_found, same_answer, strict_json
from fuzzing import fuzzed
from hypothesis import given, strategies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SEEDS = strategies.integers(0, 2**32)
TASK = "from small_tasks import linear_task as make_task\n"
SMALL = {
    "find": {"--steps": "12", "--seeds": "1", "--probes": "3"},
    "run": {
        "--steps": "12", "--find-seeds": "1", "--probes": "3", "--families": "step",
        "--trials": "2", "--trial-seeds": "1", "--confirm-seeds": "2", "--epochs": "2",
    },
    "sweep": {
        "--lr": "0.05", "--families": "step", "--trials": "2", "--trial-seeds": "1",
        "--confirm-seeds": "2", "--epochs": "2",
    },
}  # fmt: skip


def write_files() -> None:
    """Task files, fine and broken, and a settings file in the current folder."""
    Path("t.py").write_text(TASK)
    for name, data in FILES.items():
        Path(name).write_bytes(data)
    Path("folder.py").mkdir(exist_ok=True)
    Path("s.toml").write_text('task = "t.py"\nseed = 1\n')


def check_words(seed: int) -> Answer:
    """Call a command with a few odd options beside those that keep it small."""
    draw = random.Random(seed)
    command = draw.choice(("find", "find", "find", "run", "sweep"))
    given = dict(SMALL[command])
    for option in draw.sample(sorted(OPTIONS), draw.choice((1, 1, 2, 3))):
        if command == "find" or draw.random() < 0.7:
            value = draw.choice(OPTIONS[option])
            counted = option in ("--trials", "--epochs", "--workers", "--confirm-seeds")
            many = ENDLESS | ({"8", "9", "12"} if option == "--workers" else set())
            given[option] = "2" if value in many and counted else value
    words = [command, "t.py" if draw.random() < 0.7 else draw.choice(TASKS), "-q", "--json"]
    for option, value in given.items():
        words += [option, value]
        if option == "--lr-range":
            words.append(draw.choice(OPTIONS["--lr-range"]))
    answer = ask(*words)
    if command == "find" and answer.status in (0, 4):
        check_found(answer)
    elif answer.status == 0 and "--help" not in words:
        assert strict_json(answer.stdout)["status"] == "complete"
    return answer


def check_settings_file(seed: int) -> Answer:
    Path("any.toml").write_bytes(settings_file(random.Random(seed)))
    small = [word for pair in SMALL["find"].items() for word in pair]
    answer = ask("find", "any.toml", "-q", "--json", *small)
    if answer.status in (0, 4):
        check_found(answer)
    return answer


def finished_folder(path: Path) -> Path:
    """A whole small run."""
    small = [word for pair in SMALL["run"].items() for word in pair]
    assert ask("run", "t.py", "-q", "--json", "--out", str(path), *small).status == 0
    return path


def check_damaged(whole: Path, seed: int) -> str:
    """Read, report and resume a damaged copy; where it is resumed, nothing of it has changed."""
    folder, draw = copied(whole, whole.parent / "damaged"), random.Random(seed)
    said = damage(folder, draw)
    before = strict_json((whole / "summary.json").read_text())
    reported = ask("report", str(folder))
    if reported.status == 0:
        assert reported.stdout
    resumed = ask("run", "--resume", str(folder), "-q", "--json")
    if resumed.status == 0:
        facts = strict_json(resumed.stdout)
        assert facts["status"] == "complete"
        assert ask("report", str(folder)).status == 0, "resuming did not mend it"
        if only_loses(said):
            assert same_answer(facts, before), said
    return f"{said} | {reported.status} {resumed.status} {resumed.stderr[:300]}"


def only_loses(said: str) -> bool:
    """Whether a damage has only taken something from the tables, which is trained again."""
    mild = ("missing", "_cut", "_line_twice", "_windows_lines", "_with_mark")
    tables = ("comparison.csv", "curves.csv", "trials.csv", "report.md", ".png", "schedule.py")
    parts = [part.split(": ") for part in said.split("; ")]
    return all(name.endswith(tables) and how in mild for name, how in parts)


@pytest.fixture(autouse=True)
def here(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("fuzz"))
    write_files()


@fuzzed(40)
@given(seed=SEEDS)
def test_any_words_are_answered_or_refused(seed):
    check_words(seed)


@fuzzed(40)
@given(seed=SEEDS)
def test_any_settings_file_is_read_or_refused(seed):
    check_settings_file(seed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_files()
        return finished_folder(folder / "r")


@fuzzed(6)
@given(seed=SEEDS)
def test_any_damaged_folder_is_mended_or_refused(whole, seed):
    check_damaged(whole, seed)
