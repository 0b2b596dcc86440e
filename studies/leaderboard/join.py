"""Any learning-rate finder joins the leaderboard from a program of its own, in any environment.

The program hands its finder to `serve`, which is all that it needs of this package:

    from studies.leaderboard.join import serve

    def find(model, optimizer, criterion, loader, epochs):
        ...  # loader is a shuffled DataLoader of (inputs, targets), optimizer has its default lr
        return 0.01  # or None, or {"lr": 0.01, "low": 0.003, "high": 0.03, "updates": 100}

    serve(find)

and is measured beside the others, for a table as of everybody, by

    python -m studies.leaderboard --join "mine=python my_finder.py"

or from Python by ``score(["python", "my_finder.py"])``. What it prints goes to stderr. An
exception, an answer that is no positive number and the end of the program count as refusals.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lrfinder import Task
from studies.leaderboard.finders import Answer, Finder, default_lr, pieces
from studies.leaderboard.tasks import TASKS, task

Find = Callable[..., float | Mapping[str, float | None] | None]
"""Takes a model, its optimizer, the criterion, a training loader and the number of epochs."""
_TOP = Path(__file__).parents[2]


def serve(find: Find) -> None:
    """Answer requests on stdin, a line of JSON each, by lines of JSON on stdout, to their end."""
    answers = sys.stdout
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):
        for line in sys.stdin:
            request = json.loads(line)
            said = _answered(find, task(request["task"]), request["seeds"][0])
            answers.write(json.dumps(said) + "\n")
            answers.flush()


def _answered(find: Find, made: Task, seed: int) -> dict[str, Any]:
    live = pieces(made, seed, default_lr(made))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what a finder of others may draw from)
    before = time.process_time()
    try:
        said = find(live.model, live.optimizer, live.criterion, live.loader, made.epochs)
        facts = dict(said) if isinstance(said, Mapping) else {"lr": said}
        facts = {name: None if value is None else float(value) for name, value in facts.items()}
    except Exception as error:
        facts = {"lr": None, "reason": f"{type(error).__name__}: {error}"}
    return {**facts, "seconds": time.process_time() - before}


@contextmanager
def joined(command: Sequence[str]) -> Generator[Finder]:
    """A finder from the command of a program that serves one, started anew where it has ended."""
    running: list[subprocess.Popen[str]] = []

    def finder(made: Task, seeds: Sequence[int]) -> Answer:
        if not running or running[-1].poll() is not None:
            running.append(_started(command))
        request = {"task": _name(made), "seeds": list(seeds)}
        line = _asked(running[-1], json.dumps(request))
        if not line:
            return Answer(None, reason=f"the program ended with status {running[-1].wait()}")
        return _answer(json.loads(line))

    try:
        yield finder
    finally:
        for program in running:
            with program:  # closes its stdin, which ends it
                pass


def _asked(program: subprocess.Popen[str], line: str) -> str:
    """What a program answers to a line; nothing where it has ended."""
    assert program.stdin is not None
    assert program.stdout is not None
    with suppress(BrokenPipeError):
        program.stdin.write(f"{line}\n")
        program.stdin.flush()
    return program.stdout.readline()


def score(
    command: Sequence[str],
    names: Sequence[str] | None = None,
    repeats: int = 5,
    progress: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measure the finder of a program: a row for each task and repeat, as in results.csv.

    Args:
        command: what starts the program, which calls `serve`.
        names: tasks; by default all.
        repeats: of each task, under other seeds.
        progress: called with a line after each task.
    """
    from studies.leaderboard.results import collect

    with joined(command) as finder:
        return collect({" ".join(command): finder}, names or list(TASKS), repeats, progress)


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    paths = [str(_TOP), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    pipe = subprocess.PIPE
    return subprocess.Popen(list(command), stdin=pipe, stdout=pipe, text=True, env=env)


def _name(made: Task) -> str:
    """Name of a task of the leaderboard, of which there is one object each."""
    return next(name for name in TASKS if task(name) is made)


def _answer(said: Mapping[str, Any]) -> Answer:
    lr, low, high = said.get("lr"), said.get("low"), said.get("high")
    return Answer(
        lr,
        int(said.get("updates") or 0),
        float(said["seconds"]),
        str(said.get("reason") or ("" if lr is not None else "refused")),
        cosine_lr=said.get("cosine_lr"),
        interval=None if low is None or high is None else (low, high),
    )
