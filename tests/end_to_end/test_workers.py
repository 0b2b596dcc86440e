"""Workers join a run by its storage: nothing is lost, doubled or other than in one process."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lrfinder
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan

sys.path.insert(0, str(Path(__file__).parents[2]))
from studies.kills import TASK as SMALL_CNN
from studies.kills import Shared, faults, killed

TASK = SMALL_CNN.replace("epochs=12", "epochs=6")
TRIALS = 6


def lrfinder_process(folder, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lrfinder", *words]
    with (folder / f"{words[0]}-{time.monotonic_ns()}.log").open("w") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def until(what, seconds=120.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_a_run_with_workers_one_of_which_is_killed_is_that_of_one_process(kind, tmp_path, request):
    (tmp_path / "cnn.py").write_text(TASK)
    begin = end = None
    storage = str(tmp_path / "run.journal")
    if kind == "postgresql":
        storage, begin, end = request.getfixturevalue("server")
    words = ["--families", "step,cosine", "--trials", str(TRIALS), "--trial-seeds", "1"]
    words += ["--confirm-runs", "16", "--engine", "sequential", "--lr-range", "0.01", "0.3"]
    parent = lrfinder_process(
        tmp_path, "sweep", "cnn.py", "--storage", storage, "--out", "shared", *words
    )
    log = next(tmp_path.glob("sweep-*.log"))
    until(lambda: "sequential trainer" in log.read_text() or parent.poll() is not None)
    workers = [lrfinder_process(tmp_path, "worker", "cnn.py", storage, "shared") for _ in "ab"]
    until(lambda: "beside this process" in log.read_text() or parent.poll() is not None)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    if begin is not None:
        end()
        begin()
    assert parent.wait(300) == 0, log.read_text()
    assert workers[1].wait(60) == 0, [p.read_text() for p in tmp_path.glob("worker-*.log")]
    run = lrfinder.open_run(tmp_path / "shared")
    assert run.answers.status == "complete"
    assert len(run.trials) == 3 * TRIALS
    assert not run.trials.duplicated(["family", "trial"]).any()
    runs = run.comparison.runs
    assert len({(one.candidate, one.seed) for one in runs}) == len(runs)
    task = lrfinder.load_task(str(tmp_path / "cnn.py"))
    constant = [one for one in runs if one.candidate == "constant"]
    plans = [
        Plan(one.lr, lrfinder.Schedule(lrfinder.FAMILIES["constant"]), one.seed) for one in constant
    ]
    again = fit(task, plans).measures["loss"][:, -1]
    np.testing.assert_array_equal(again, [one.value for one in constant])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "workers"), [("journal", 4), ("postgresql", 2)])
def test_nothing_is_lost_or_doubled_where_processes_are_killed(kind, workers, tmp_path, request):
    storage, restart = str(tmp_path / "run.journal"), None
    if kind == "postgresql":
        storage, begin, end = request.getfixturevalue("server")

        def restart():
            end()
            begin()

    shared = Shared(tmp_path, storage, workers)
    try:
        killed(shared, 8, random.Random(0), restart, every=4)
    finally:
        shared.end()
    assert shared.kills["parent"] + shared.kills["worker"] == 8
    assert all("storage" in said for said in shared.said)  # it was down for too long
    for number in range(1, shared.runs + 1):
        found = faults(lrfinder.open_run(tmp_path / f"run{number}"), storage)
        assert (found["lost"], found["doubled"], found["other"]) == (0, 0, 0)
