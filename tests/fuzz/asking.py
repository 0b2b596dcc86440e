"""Ask the command in this process, and judge whatever it answers."""

import contextlib
import io
import json
import math
import os
import re
import runpy
import signal
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from lrfinder.cli import app

MOST_SECONDS = 180.0
"""For one call, many times what it takes."""
LONGEST_LINE = 1000


@dataclass(frozen=True)
class Answer:
    """What a call has printed, and how it ended."""

    words: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def refusal(self) -> str:
        """The line that says why there is no answer."""
        return self.stderr.splitlines()[-1].removeprefix("lrfinder: ")


class Hangs(BaseException):
    """A call took longer than any should."""


@contextmanager
def limited(seconds: float = MOST_SECONDS) -> Generator[None]:
    """Fail where the block hangs, whatever catches exceptions in it."""
    end = time.monotonic() + seconds

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() >= end:
        raise AssertionError(f"took more than {seconds:g} s")


@contextmanager
def process_put_back() -> Generator[None]:
    """Whatever a task does to the process is undone."""
    path, modules, here = sys.path.copy(), set(sys.modules), Path.cwd()
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None)
        torch.autograd.set_detect_anomaly(False)
        torch.set_grad_enabled(True)
        torch.set_rng_state(state)
        os.chdir(here)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(here)):
                del sys.modules[name]


def ask(*words: str) -> Answer:
    """Call the command; an answer, or one clear line and a status that is not zero."""
    with limited(), process_put_back():
        result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"lrfinder {' '.join(words)} ended in") from result.exception
    answer = Answer(words, result.exit_code, result.stdout, result.stderr)
    assert "Traceback" not in answer.stderr, answer.stderr
    assert answer.status in (0, 1, 2, 3, 4), answer
    if answer.status in (1, 2, 3) and not answer.stderr.startswith("Usage:"):
        lines = [line for line in answer.stderr.splitlines() if line.startswith("lrfinder: ")]
        assert len(lines) == 1, answer.stderr
        assert answer.stderr.splitlines()[-1] == lines[0], answer.stderr
        assert 20 < len(lines[0]) < LONGEST_LINE, lines[0]
        assert answer.stdout.strip() == "" or "--json" not in words, answer.stdout
    return answer


def strict_json(text: str) -> Any:
    """The object of a JSON text that holds neither NaN nor Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def check_found(answer: Answer) -> dict[str, Any]:
    """The facts of `find --json`: an lr within its interval within the range, or a reason."""
    facts = strict_json(answer.stdout)
    if answer.status == 4:
        assert facts["lr"] is None, facts
        assert facts["verdict"] == "inconclusive"
        assert facts["reason"]
        return facts
    assert facts["verdict"] == "suggested"
    lr, low, high = facts["lr"], facts["low"], facts["high"]
    assert math.isfinite(lr)
    assert lr > 0
    if low is not None:
        assert 0 < low <= lr <= high < math.inf, (low, lr, high)
    return facts


def check_run(folder: Path, answer: Answer) -> dict[str, Any]:
    """The facts of a finished run; asked for again, it says the same and changes nothing."""
    facts = strict_json(answer.stdout)
    assert facts == strict_json((folder / "summary.json").read_text())
    assert facts["status"] == "complete"
    assert facts["best"]["family"] in {*facts["families"], "baseline"}
    tables = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    again = ask("run", "--resume", str(folder), "-q", "--json")
    assert again.status == 0, again.stderr
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == tables
    assert same_answer(strict_json(again.stdout), facts)
    assert ask("report", str(folder)).status == 0
    return facts


def same_answer(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two summaries say the same, but for what it has cost."""
    return {k: v for k, v in a.items() if k not in ("cost", "engine", "notes")} == {
        k: v for k, v in b.items() if k not in ("cost", "engine", "notes")
    }


def run_script(folder: Path) -> list[str]:
    """What best_schedule.py prints, line by line."""
    out = io.StringIO()
    with limited(), process_put_back(), contextlib.redirect_stdout(out):
        runpy.run_path(str(folder / "best_schedule.py"))
    return [line for line in out.getvalue().splitlines() if re.match(r"epoch +\d", line)]
