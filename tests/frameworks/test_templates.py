"""The files that `lrfinder init` writes for the frameworks run, and their answers are printed."""

import os
import subprocess
import sys

import pytest

ARGUMENTS = "--families step --trials 2 --confirm-seeds 2 --epochs 2 --steps 20 --probes 3"


@pytest.mark.parametrize("kind", ["lightning", "transformers", "skorch"])
def test_template_runs_and_is_answered_in_the_words_of_its_framework(kind, tmp_path):
    pytest.importorskip(kind)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}

    def lrfinder(*words):
        command = [sys.executable, "-m", "lrfinder", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    lrfinder("init", "mine.py", "--kind", kind)
    shown = lrfinder("run", "mine.py", *ARGUMENTS.split(), "--out", "run")
    code = lrfinder("report", "run", "--code", kind)
    compile(code, kind, "exec")
    words = {"lightning": "configure_optimizers", "transformers": "train", "skorch": "set_params"}
    assert words[kind] in code
    assert words[kind] in shown
    assert code.strip() in (tmp_path / "run" / "report.md").read_text()
