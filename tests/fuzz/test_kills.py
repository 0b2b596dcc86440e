"""A run that is killed at any moment, and resumed, ends as if nothing had happened.

`LRFINDER_FUZZ=100` kills so often, at other moments each time.
"""

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
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
    cheap = {"find_seeds": 1, "steps": 20, "probes": 2, "engine": "sequential", "progress": False}
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


def answers(folder: Path) -> dict[str, str]:
    """The tables of a run, but for the numbers of its trials: a killed one keeps its number."""
    frame = lrfinder.open_run(folder).trials.drop(columns="trial")
    names = ("range_test.csv", "comparison.csv")
    return {name: (folder / name).read_text() for name in names} | {"trials": frame.to_csv()}


def said(folder: Path) -> dict:
    """The summary without what two runs never share: names, times and the numbers of trials."""
    facts = json.loads((folder / "summary.json").read_text())
    facts["range_test"].pop("wall_seconds")
    for family in facts["families"].values():
        del family["best_trial"], family["study"]
    return facts


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path):
    go(tmp_path / "warm")
    began = time.monotonic()
    go(tmp_path / "whole")
    seconds = time.monotonic() - began
    draw, kills, number = random.Random(None if ASKED else 0), 0, 0
    while kills < int(ASKED or 10):
        folder, number = tmp_path / f"r{number}", number + 1
        for _ in range(MOST_KILLS):
            if not killed(lambda of=folder: go(of), draw.uniform(0, seconds)):
                break
            kills += 1
        assert not killed(lambda of=folder: go(of), 1e6)
        assert answers(folder) == answers(tmp_path / "whole")
        assert same_answer(said(folder), said(tmp_path / "whole"))
        keys = ["act", "name", "trial", "seed", "update"]
        assert not lrfinder.open_run(folder).curves.duplicated(keys).any()
