"""Is anything of a run lost or doubled where its processes are killed at random moments?

    python -m studies.kills --kills 100                        a journal file; about 12 minutes
    python -m studies.kills --kills 100 --storage postgresql+psycopg://ME:WORD@127.0.0.1:5432/DB \\
        --restart 'pg_ctl -D DATA -m immediate restart'

A run (`lrfinder sweep` of a small CNN, three families) works in a shared storage with two workers.
At random moments SIGKILL ends its parent, which is resumed, or a worker, which is started again;
every tenth time the server is restarted, too. Where the run has ended before enough were killed,
another one begins. Then each run is looked at:

    lost       trials of a family's study that are missing, and runs of the comparison
    doubled    trials, and runs of the comparison, that stand in the record twice
    other      values that are not those which the same lr, schedule and seed give in one process,
               to the last bit of a comparison's and to the six digits of a trial's
    by itself  how often the parent ended otherwise than by a kill or at its end; it is resumed

What was found stands in studies/kills.md.
"""

import argparse
import os
import random
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.trial import FixedTrial, TrialState

from lrfinder import Plan, fit, open_run
from lrfinder.experiment import Experiment
from lrfinder.results.saved_run import Run
from lrfinder.schedules.recipe import Recipe
from lrfinder.tuning.space import asked_now
from lrfinder.tuning.storages.facts import is_own, rounded
from lrfinder.tuning.storages.storage import close, open_existing, study_name

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from lrfinder import Task


def make_task():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 1, 12, 12, generator=generator)
    y = (x.mean((1, 2, 3)) > 0).long()
    return Task(
        model=lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 2)
        ),
        train=TensorDataset(x[:500], y[:500]),
        valid=TensorDataset(x[500:], y[500:]),
        criterion=nn.CrossEntropyLoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        batch_size=20,
        epochs=12,
    )
"""
FAMILIES, TRIALS, CONFIRM = ("step", "cosine"), 8, 18
OPTIONS = [
    *("--families", ",".join(FAMILIES), "--trials", str(TRIALS), "--trial-seeds", "1"),
    *("--confirm-runs", str(CONFIRM), "--engine", "sequential", "--lr-range", "0.01", "0.3"),
]
PARENT_SHARE, LONGEST_WAIT = 0.15, 9.0
"""Share of kills that hit the parent, and most seconds between two."""


@dataclass
class Shared:
    """A run with workers in a shared storage, whose processes are killed."""

    folder: Path
    storage: str
    workers: int = 2
    kills: Counter[str] = field(default_factory=Counter[str])
    runs: int = 0
    said: list[str] = field(default_factory=list[str])
    """What parents said last that ended by themselves."""

    def __post_init__(self) -> None:
        (self.folder / "cnn.py").write_text(TASK)
        self.parent: subprocess.Popen[bytes] | None = None
        self.helpers: list[subprocess.Popen[bytes]] = []

    @property
    def name(self) -> str:
        """Of the run, and of its folder."""
        return f"run{self.runs}"

    def process(self, *words: str) -> subprocess.Popen[bytes]:
        """One of the run's processes; what it says is kept."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if "://" in self.storage:
            environment["LRFINDER_STORAGE"] = self.storage
        command = [sys.executable, "-m", "lrfinder", *words]
        with (self.folder / f"{words[0]}.log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log
            )

    def _log(self, name: str) -> list[str]:
        path = self.folder / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    def begin(self) -> None:
        """Begin a run."""
        self.runs += 1
        words = ("--storage", self.storage, "--out", self.name, *OPTIONS)
        self.parent = self.process("sweep", "cnn.py", *words)

    def go_on(self) -> bool:
        """Resume a parent that has ended before its end; whether the run is at work."""
        if self.parent is None or self.parent.poll() is None:
            return self.parent is not None
        if self.parent.returncode == 0:
            return False
        if self.parent.returncode != -9:
            self.kills["by itself"] += 1
            said = [line for log in ("sweep", "run") for line in self._log(log)]
            self.said.append(next((x for x in reversed(said) if x.startswith("lrfinder:")), ""))
        if (self.folder / self.name / "config.toml").exists():
            self.parent = self.process("run", "--resume", self.name)
        else:
            words = ("--storage", self.storage, "--out", self.name, *OPTIONS)
            self.parent = self.process("sweep", "cnn.py", *words)
        return True

    def join(self) -> None:
        """Start workers in place of those that have ended."""
        self.helpers = [one for one in self.helpers if one.poll() is None]
        while len(self.helpers) < self.workers:
            self.helpers.append(self.process("worker", "cnn.py", self.storage, self.name))

    def kill(self, draws: random.Random) -> None:
        """Kill the parent or a worker."""
        hits_parent = draws.random() < PARENT_SHARE
        victim = self.parent if hits_parent else draws.choice(self.helpers)
        if victim is not None and victim.poll() is None:
            victim.kill()
            victim.wait()
            self.kills["parent" if hits_parent else "worker"] += 1

    def end(self) -> None:
        """End all processes."""
        for one in [*self.helpers, *([self.parent] if self.parent else [])]:
            if one.poll() is None:
                one.kill()
            one.wait()


def killed(
    shared: Shared,
    kills: int,
    draws: random.Random,
    restart: Callable[[], object] | None = None,
    every: int = 10,
) -> None:
    """Kill so many processes at random moments, then let the last run come to its end.

    The server is restarted after every so many.
    """
    shared.begin()
    restarts = 0
    while True:
        made = shared.kills["parent"] + shared.kills["worker"]
        if not shared.go_on():
            if made >= kills:
                return
            shared.begin()
        shared.join()
        if made >= kills:
            time.sleep(0.5)
            continue
        time.sleep(draws.uniform(0, LONGEST_WAIT))
        shared.kill(draws)
        if restart is not None and made // every > restarts:
            restarts += 1
            restart()
            shared.kills["server"] += 1


def faults(run: Run, storage: str) -> Counter[str]:
    """What is lost, doubled, or other than in one process."""
    found: Counter[str] = Counter()
    experiment = Experiment(run.settings.model_copy(update={"storage": None}))
    opened = open_existing(storage)
    recipes: dict[str, Recipe] = {}
    trials = 0
    for space in experiment.spaces(None)[0]:
        name = study_name(run.name, space.family.name)
        study = optuna.load_study(study_name=name, storage=opened)
        ended = [t for t in study.get_trials(states=[TrialState.COMPLETE]) if is_own(t)]
        trials += len(ended)
        asked = [Recipe(*space.ask(FixedTrial(asked_now(t.params)))) for t in ended]
        plans = [Plan(r.lr, r.schedule, experiment.search_seeds[0]) for r in asked]
        values = [one.value for one in fit(experiment.task, plans).outcomes()]
        found["other"] += sum(rounded(v) != t.value for v, t in zip(values, ended, strict=True))
        found["doubled"] += len(asked) - len(set(asked))
        best = run.answers.families[space.family.name].best_trial
        numbers = [trial.number for trial in ended]
        recipes[space.family.name] = asked[numbers.index(best)]
    close(opened)
    found["lost"] += TRIALS * (1 + len(FAMILIES)) - trials
    made = run.comparison.runs
    found["doubled"] += len(made) - len({(one.candidate, one.seed) for one in made})
    facts = run.answers.confirm
    found["lost"] += sum(len(k.candidates) * len(k.seeds) for k in facts.looks) - len(made)
    own = [recipes[one.candidate] for one in made]
    plans = [Plan(r.lr, r.schedule, one.seed) for r, one in zip(own, made, strict=True)]
    values = [one.value for one in fit(experiment.task, plans).outcomes()]
    found["other"] += sum(v != one.value for v, one in zip(values, made, strict=True))
    found["trials"], found["runs"] = trials, len(made)
    return found


def main() -> None:
    """Kill, look, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--storage", default="journal", help="URL; by default a journal file")
    parser.add_argument("--restart", help="command that restarts the server")
    parser.add_argument("--every", type=int, default=10, help="kills for each restart")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    words = shlex.split(asked.restart or "")
    with TemporaryDirectory() as name:
        folder = Path(name)
        storage = asked.storage if "://" in asked.storage else str(folder / "run.journal")
        shared, began = Shared(folder, storage, asked.workers), time.monotonic()
        restart = (lambda: subprocess.run(words, check=True)) if words else None
        try:
            killed(shared, asked.kills, random.Random(asked.seed), restart, asked.every)
        finally:
            shared.end()
        for line in shared.said:
            print("a parent ended by itself:", line)
        total = Counter[str]()
        for number in range(1, shared.runs + 1):
            total += faults(open_run(folder / f"run{number}"), storage)
        print(dict(shared.kills), f"in {shared.runs} runs, {time.monotonic() - began:.0f} s")
        print({what: total[what] for what in ("trials", "runs", "lost", "doubled", "other")})


if __name__ == "__main__":
    main()
