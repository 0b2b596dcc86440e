"""What does a study cost as a whole process, start-up and pictures included, and how does it grow?

    python studies/processes.py          about 25 minutes on one core; --quick: one round, small

Two tables. The first sets `lrfinder sweep` (one training seed, storage in SQLite, a comparison with
the constant lr on two fresh seeds, report and pictures) against the loop that everybody writes (see
studies/speed.py; storage in memory, no more), each in a process of its own, with as many trials
at one lr. The second one lets the trials, epochs and families of a sweep of a tiny task grow.

CPU seconds of processes, one intra-op thread, in turns, medians of the rounds. The machine and what
was found stand in studies/processes.md, which this script writes.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from markdown import markdown
from speed import CASES, loop, space, trials_of

from lrfinder import Task

HERE = Path(__file__).resolve()
STUDIES = {
    ("tiny MLP", "step"): "tiny_mlp",
    ("digits MLP", "step"): "digits_mlp",
    ("digits MLP", "cosine"): "digits_mlp",
    ("CNN", "step"): "small_cnn",
    ("CNN", "cosine"): "small_cnn",
}
GROWTH = {
    "trials": [{"trials": count} for count in (50, 200, 1000)],
    "epochs": [{"trials": 20, "epochs": count} for count in (20, 200, 2000)],
    "families": [
        {"trials": 20, "families": names}
        for names in ("step", "step,cosine,wsd", "step,cosine,wsd,polynomial,exponential,plateau")
    ],
}


def tiny_mlp() -> Task:
    """Two classes of 20 features, MLP 20-64-2."""
    return CASES["tiny MLP"].task()


def digits_mlp() -> Task:
    """Digits, MLP 64-128-10."""
    return CASES["digits MLP"].task()


def small_cnn() -> Task:
    """Digits, two convolutions with batch norm."""
    return CASES["CNN"].task()


def usual_loop(model: str, family: str) -> None:
    """Run the usual loop over all trials of a study, in this process."""
    torch.set_num_threads(1)
    case = CASES[model]
    task = case.task()
    loop(case, task, trials_of(case, space(case, task, family)), lean=False)


def seconds(*command: str) -> float:
    """CPU seconds of a process and its children."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def default_run() -> float:
    """CPU seconds of `lrfinder run`, all of it by default."""
    with TemporaryDirectory() as folder:
        return seconds("-m", "lrfinder", "run", "--quiet", "--out", str(Path(folder) / "run"))


def sweep(task: str, **options: object) -> float:
    """CPU seconds of `lrfinder sweep`."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    compared = len(str(options["families"]).split(",")) + 2  # the constant lr and the start
    fixed = ["--trial-seeds", "1", "--confirm-runs", str(2 * compared), "--quiet"]
    fixed.append("--even")  # or the family gets the trials that the constant lr does not use
    with TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        return seconds("-m", "lrfinder", "sweep", task, *words, *fixed, "--out", out)


def against_the_loop(rounds: int, most: int) -> list[list[str]]:
    """Rows of the first table."""
    rows = [["model", "family", "trials", "epochs", "usual s", "lrfinder s", "usual / lrfinder"]]
    for (model, family), function in list(STUDIES.items())[:most]:
        case = CASES[model]
        options = {"lr": case.lr, "families": family, "trials": case.trials}
        usual, ours = [], []
        for _ in range(rounds):
            usual.append(seconds(str(HERE), "--loop", model, family))
            ours.append(sweep(f"{HERE}:{function}", **options))
        ratio = statistics.median(u / o for u, o in zip(usual, ours, strict=True))
        numbers = [statistics.median(usual), statistics.median(ours), ratio]
        rows.append([model, family, str(case.trials), str(case.epochs)])
        rows[-1] += [f"{number:.3g}" for number in numbers]
        print(*rows[-1], flush=True)
    return rows


def growth(rounds: int, most: int) -> list[list[str]]:
    """Rows of the second table."""
    rows = [["grows", "trials", "epochs", "families", "trials in all", "s", "ms a trial"]]
    for what, steps in GROWTH.items():
        for step in steps[:most]:
            options: dict[str, object] = {"families": "step", "epochs": 20, "lr": 0.1, **step}
            spent = statistics.median(sweep("quadratic", **options) for _ in range(rounds))
            names = str(options["families"]).split(",")
            trials = int(str(options["trials"])) * len(names) + 1
            rows.append([what, str(options["trials"]), str(options["epochs"]), str(len(names))])
            rows[-1] += [str(trials), f"{spent:.3g}", f"{1000 * spent / trials:.3g}"]
            print(*rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description="What does a study cost as a whole process?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of the first of each")
    parser.add_argument("--loop", nargs=2, metavar=("MODEL", "FAMILY"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop is not None:
        usual_loop(*asked.loop)
        return
    rounds, most = (1, 1) if asked.quick else (asked.rounds, 99)
    tables = against_the_loop(rounds, most), growth(1 if asked.quick else rounds, most)
    if asked.quick:
        return
    start = seconds("-c", "import torch, optuna")
    default = statistics.median(default_run() for _ in range(rounds))
    lines = [
        "# What a study costs as a whole process",
        f"Made by `python studies/processes.py`: CPU seconds, medians of {rounds} rounds in turns, "
        f"one thread, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; "
        f"{', '.join(f'{name} {version(name)}' for name in ('torch', 'optuna', 'lrfinder'))}. "
        f"Importing torch and optuna alone takes {start:.1f} s, the default `lrfinder run` on "
        f"digits {default:.0f} s.",
        *(markdown(pd.DataFrame(rows, columns=head)) for head, *rows in tables),
    ]
    (HERE.parent / "processes.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
