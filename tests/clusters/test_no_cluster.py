"""What is said where no Ray cluster runs: before the tests that start one on this machine."""

import subprocess
import sys

import pytest

ray = pytest.importorskip("ray")


def test_a_cluster_that_does_not_run_is_one_line_and_leaves_no_folder(tmp_path):
    words = ["sweep", "quadratic", "--lr", "0.05", "--ray", "auto", "--out", "run", "-q"]
    line = [sys.executable, "-m", "lrfinder", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    [said] = done.stderr.splitlines()
    assert said.startswith("lrfinder: a Ray cluster must run on this machine, but ConnectionError")
    assert "`ray start --head`" in said
    assert not (tmp_path / "run").exists()
