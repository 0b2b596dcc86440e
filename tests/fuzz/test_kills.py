"""A run that is killed at any moment, and resumed, loses nothing and repeats nothing.

A study that goes on draws other trials than one that was never killed; where it drew the same ones,
the whole answer is the same.

`LRFINDER_FUZZ=100` kills so often, at other moments each time.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from asking import same_answer
from small_tasks import linear_task

import lrfinder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ASKED = os.environ.get("LRFINDER_FUZZ")
MOST_KILLS = 6
"""Of one run; then it is left alone."""


def go(folder: Path) -> None:
    """Start a small run, or go on with it."""
    options = {"families": ["step"], "trials": 3, "trial_seeds": 1, "confirm_seeds": 2}
    cheap = {"find_seeds": 1, "steps": 20, "probes": 3, "engine": "sequential", "progress": False}
    if folder.exists() and not (folder / "config.toml").exists():  # nothing was begun
        shutil.rmtree(folder)
    if folder.exists():
        lrfinder.run(linear_task(), resume=folder, progress=False)
    else:
        lrfinder.run(linear_task(), out=folder, **options, **cheap)


def killed(work: Callable[[], None], seconds: float) -> bool:
    """Do the work in a process of its own, killed after so many seconds; whether it was."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    timer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "resuming failed"
    return False


def completed(folder: Path) -> list[float]:
    """Values of the COMPLETE trials in the storage, sorted."""
    asked = "select value from trials join trial_values using (trial_id) where state = 'COMPLETE'"
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True)) as db:
            return sorted(value for (value,) in db.execute(asked))
    except sqlite3.OperationalError:  # not made yet
        return []


def searched(folder: Path) -> str:
    """The trials of a run, but for their numbers: one that was killed keeps its own."""
    return lrfinder.open_run(folder).trials.drop(columns="trial").to_csv()


def said(folder: Path) -> dict:
    """The summary without what two runs never share: names, times and trial numbers."""
    facts = json.loads((folder / "summary.json").read_text())
    facts["range_test"].pop("wall_seconds")
    for family in facts["families"].values():
        for name in ("best_trial", "study", "failed"):
            family.pop(name, None)  # the start has none
    return facts


def test_a_killed_run_loses_nothing_and_repeats_nothing(tmp_path):
    go(tmp_path / "warm")
    began = time.monotonic()
    go(tmp_path / "whole")
    seconds = time.monotonic() - began
    draw, kills, number = random.Random(None if ASKED else 0), 0, 0
    while kills < int(ASKED or 10):
        folder, number, kept = tmp_path / f"r{number}", number + 1, []
        for _ in range(MOST_KILLS):
            if not killed(lambda of=folder: go(of), draw.uniform(0, seconds)):
                break
            kills += 1
            before, kept = kept, completed(folder)
            assert set(before) <= set(kept)
        assert not killed(lambda of=folder: go(of), 1e6)
        assert set(kept) <= set(completed(folder))
        check_whole(folder, tmp_path / "whole")


def check_whole(folder: Path, whole: Path) -> None:
    """Compare a run that was killed with one that was not."""
    assert (folder / "range_test.csv").read_bytes() == (whole / "range_test.csv").read_bytes()
    run = lrfinder.open_run(folder)
    assert run.trials.groupby("family").size().to_dict() == {"constant": 3, "step": 3}
    assert not run.trials.duplicated(["family", "lr", "schedule"]).any()
    assert not run.curves.duplicated(["act", "name", "trial", "seed", "update"]).any()
    assert run.incomplete_table is None
    if searched(folder) == searched(whole):
        assert (folder / "comparison.csv").read_bytes() == (whole / "comparison.csv").read_bytes()
        assert same_answer(said(folder), said(whole))
