"""Which trainer is taken for programs as people write them, and what is it worth?

    python studies/programs.py           about a minute on one core

The twelve small programs of tests/end_to_end/programs (detection, segmentation, CTC, graphs, a
language model, a VAE, ...), for the studies of a default run: the trainer that `lrfinder run` would
take, and an update of a run by the batched trainer over one by the sequential trainer, in CPU time,
at the population in which it is fastest. What cannot be batched says why.

These programs are small. Twelve larger ones, mostly examples of libraries (an MNIST CNN with
Adadelta, a word language model, a graph network, a VAE, a small GPT, Lightning, Hugging Face,
skorch, a neural ODE, a U-Net, TabNet, CTC), were tried by hand before: one became 1.4 times as fast
by batching, six would have become slower, five could not be batched.

What was found stands in studies/programs.md, which this script writes.
"""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from markdown import markdown

import lrfinder
from lrfinder.tasks.task import Task
from lrfinder.training.engine import Timing, choose
from lrfinder.training.speed import Work

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "end_to_end" / "programs"
RUNS, EVALUATIONS = 80, 100
UPDATES = 10**5
"""So many that both trainers are timed, however quick the program is."""


def seconds(timing: Timing) -> float:
    """CPU seconds of an update of one run."""
    speed = timing.speed if timing.cpu is None else timing.cpu
    return speed.seconds_per_update


def row(name: str, task: Task) -> dict[str, object]:
    """What is chosen for a program, and how the other trainer would do."""
    chosen = choose(task, None, Work(RUNS, UPDATES, EVALUATIONS))
    alone = min(seconds(one) for one in chosen.timings if one.trainer == "sequential")
    together = [one for one in chosen.timings if one.trainer == "batched"]
    best = min(together, key=seconds, default=None)
    return {
        "program": name,
        "ms an update": 1000 * alone,
        "batched, times as fast": "-" if best is None else f"{alone / seconds(best):.2f}",
        "runs": "-" if best is None else best.runs,
        "taken": chosen.chosen.trainer,
        "why": chosen.reason.partition(" (")[0],
    }


def main() -> None:
    """Time every program, print and write the table."""
    argparse.ArgumentParser(description="Which trainer is taken for real programs?").parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for path in sorted(FOLDER.glob("*.py")):
        rows.append(row(path.stem, lrfinder.load_task(str(path))))
        print(*rows[-1].values(), sep=" | ", flush=True)
    head = (
        "# Which trainer is taken for programs as people write them?\n\nMade by `python "
        f"studies/programs.py`: CPU time of an update of one run, one thread, {os.cpu_count()} "
        f"cores, {platform.machine()}; torch {version('torch')}, lrfinder {version('lrfinder')}. "
        "What the columns are stands at the top of the script.\n\n"
    )
    text = head + markdown(pd.DataFrame(rows)) + "\n"
    (Path(__file__).parent / "programs.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
