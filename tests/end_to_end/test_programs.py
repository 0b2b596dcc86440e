"""Twelve small programs as people write them: `find` loses little, `run` ends, its script trains.

What each program can reach is known from a grid of five learning rates and two seeds, which is kept
in `programs/grids.json`; `python tests/end_to_end/test_programs.py [PROGRAM ...]` makes it again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark.structures import ParameterSet

import lrfinder
from lrfinder import FAMILIES, Plan, Schedule, Task, fit
from lrfinder.errors import TaskFailed

FOLDER = Path(__file__).parent / "programs"
GRIDS = FOLDER / "grids.json"
SEEDS = (1000, 1001)
"""Not among those of a range test."""
MOST_LOST = 0.05
CENTRES = {
    "contrastive": 0.03,
    "ctc": 0.03,
    "detection": 0.3,
    "ema": 0.03,
    "graphs": 0.01,
    "language_model": 1.0,
    "new_head": 0.03,
    "segmentation": 0.1,
    "solver": 0.1,
    "sparse_embeddings": 0.03,
    "time_first_rnn": 0.01,
    "vae": 0.01,
}
"""By program: the middle of its grid, about the best lr."""
MISSES = {"sparse_embeddings": "the suggested lr is about twice the best one, 0.03"}
STEPS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""The lrs of a grid, over its middle."""


def programs(expected: Mapping[str, str]) -> list[ParameterSet]:
    """All programs, of which these are expected to fail for a reason."""

    def marks(name: str) -> list[pytest.MarkDecorator]:
        known = expected.get(name)
        return [] if known is None else [pytest.mark.xfail(reason=known, strict=False)]

    return [pytest.param(name, marks=marks(name)) for name in CENTRES]


def program(name: str) -> Task:
    return lrfinder.load_task(str(FOLDER / f"{name}.py"))


def start_and_end(task: Task, lr: float) -> tuple[float, float]:
    """Mean validation loss before and after a training at this lr; nan where it broke down."""
    plans = [Plan(lr, Schedule(FAMILIES["constant"]), seed) for seed in SEEDS]
    updates = task.epochs * task.data().updates_per_epoch
    try:
        history = fit(task, plans, updates=updates, evaluate_every=updates)
    except TaskFailed:
        return np.nan, np.nan
    start, end = history.measures["loss"].mean(axis=0)
    return float(start), float(end)


def made_grid(name: str) -> dict[str, object]:
    """The loss at the start, and that after a training at each lr."""
    task, centre = program(name), CENTRES[name]
    pairs = {f"{centre * step:.3g}": start_and_end(task, centre * step) for step in STEPS}
    starts = [start for start, _ in pairs.values() if np.isfinite(start)]
    ends = {lr: round(end, 6) if np.isfinite(end) else None for lr, (_, end) in pairs.items()}
    return {"start": round(starts[0], 6), "loss": ends}


def lost(name: str, loss: float) -> float:
    """Share of the drop to the grid's best loss that is not reached; nothing is lost below it."""
    grid = json.loads(GRIDS.read_text())[name]
    best = min(end for end in grid["loss"].values() if end is not None)
    return max(0.0, (loss - best) / (grid["start"] - best))


@pytest.mark.slow
@pytest.mark.parametrize("name", programs(MISSES))
def test_little_of_the_drop_is_lost_at_the_suggested_lr(name):
    task = program(name)
    suggestion = lrfinder.range_test(task).suggest()
    assert suggestion.lr is not None, suggestion.reason
    _, loss = start_and_end(task, suggestion.lr)
    share = lost(name, loss)
    assert share <= MOST_LOST, f"lr {suggestion.lr:.3g} loses {share:.3f} of the drop"


@pytest.mark.slow
@pytest.mark.parametrize("name", programs({}))
def test_a_run_ends_and_its_script_trains(name, tmp_path):
    options = {"families": ["step"], "trials": 2, "trial_seeds": 1, "confirm_seeds": 2}
    cheap = {"find_seeds": 1, "steps": 30, "probes": 3, "engine": "sequential", "epochs": 3}
    file = str(FOLDER / f"{name}.py")
    run = lrfinder.run(file, out=tmp_path / "run", progress=False, **options, **cheap)
    assert run.summary["status"] == "complete"
    script = [sys.executable, str(tmp_path / "run" / "best_schedule.py")]
    env = {**os.environ, "PYTHONPATH": str(Path(lrfinder.__file__).parents[1])}
    done = subprocess.run(script, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    assert all(np.isfinite(float(line.split("valid_loss ")[1].split()[0])) for line in lines)


if __name__ == "__main__":
    grids = json.loads(GRIDS.read_text()) if GRIDS.exists() else {}
    for wanted in sys.argv[1:] or CENTRES:
        grids[wanted] = made_grid(wanted)
        GRIDS.write_text(json.dumps(grids, indent=2, sort_keys=True) + "\n")
