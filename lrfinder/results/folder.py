"""The run folder: the files that a run leaves on disk.

    config.toml          what was asked, resolved, with the hash of the task's file
    summary.json         the answers, by the schema of `results.summary`; written after each act
    range_test.csv       one row per seed and step of the sweep; step -1 is before the first
    trials.csv           one row per COMPLETE trial
    curves.csv           one row per run and epoch: lr, training loss, validation measures
    comparison.csv       one row per candidate and fresh seed
    report.md, *.png     for people, made from the above
    best_schedule.py     a plain PyTorch loop with the winner
    study.db, artifacts/ Optuna's storage and the dashboard's pictures

`lrfinder find` leaves the first three and range_test.png, with the status "range test".

A file is replaced whole or not at all, except curves.csv, to which each finished run is appended;
`RunFolder.keep_curves` drops what is damaged. Nothing is pickled, and reading a folder runs no code
from it.
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
from filelock import FileLock, Timeout

from lrfinder.comparison.candidates import ConfirmedRun
from lrfinder.errors import RunFolderError
from lrfinder.range_tests.curve import Curve
from lrfinder.results.summary import RangeTestSummary
from lrfinder.results.tables import cut_to_whole_lines, parsed, undamaged_lines
from lrfinder.tasks.fields.measures import measure_column
from lrfinder.training.records.history import History
from lrfinder.tuning.storages.storage_urls import file_url
from lrfinder.tuning.trials import FamilyResult

if TYPE_CHECKING:
    import pandas as pd

_WITHOUT_RESULTS = {"config.toml", "summary.json", ".lock"}
_RUN_KEYS = ("act", "name", "trial", "seed")
RUN_COLUMNS = (
    *("candidate", "lr", "schedule", "seed", "value", "diverged", "updates"),
    *("best", "lrs"),
)


class RunFolder:
    """Writes the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """Make a new folder; RunFolderError where it exists or cannot be made."""
        try:
            path.mkdir(parents=True)
        except FileExistsError as error:
            raise RunFolderError(f"run folder {path} exists already; give another --out") from error
        except OSError as error:
            raise RunFolderError(f"run folder {path} cannot be made: {error.strerror}") from error
        return cls(path)

    @classmethod
    def create_numbered(cls, path: Path) -> "RunFolder":
        """Make a new folder; one of this name and a number where another run was faster."""
        taken: RunFolderError | None = None
        for end in ("", *(f"-{number}" for number in range(2, 100))):
            try:
                return cls.create(path.with_name(path.name + end))
            except RunFolderError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise
                taken = error
        raise taken or RunFolderError(f"run folder {path} cannot be made")

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the folder for this process alone; RunFolderError where another one works on it."""
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunFolderError(
                f"run folder {self.path} is in use by another process; wait for it, or end it"
            ) from error
        except OSError as error:
            raise RunFolderError(f"run folder {self.path} cannot be written: {error}") from error
        try:
            yield
        finally:
            lock.release()

    def discard(self) -> None:
        """Remove a folder in which no result was written."""
        if {file.name for file in self.path.iterdir()} <= _WITHOUT_RESULTS:
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def storage(self) -> str:
        """URL of the run's own SQLite storage."""
        return own_storage(self.path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.toml; keys without a value are left out."""
        present = {key: value for key, value in config.items() if value is not None}
        self.write_text("config.toml", tomli_w.dumps(present))

    def write_summary(self, summary: RangeTestSummary) -> None:
        """Write summary.json."""
        self.write_text("summary.json", json.dumps(summary.facts(), indent=2) + "\n")

    def write_curve(self, curve: Curve) -> None:
        """Write range_test.csv."""
        self._write_frame("range_test.csv", curve.frame())

    def write_trials(self, results: Sequence[FamilyResult]) -> None:
        """Write trials.csv."""
        import pandas as pd

        rows = [
            {
                "family": result.space.family.name,
                "trial": trial.number,
                "lr": trial.lr,
                **trial.params,
                "value": trial.value,
                "diverged": trial.diverged,
                "updates": trial.updates,
                **({} if trial.again is None else {"value_again": trial.again.value}),
                "schedule": str(trial.schedule),
            }
            for result in results
            for trial in result.trials
        ]
        frame = pd.DataFrame(rows)
        again = ["value_again"] if "value_again" in frame else []
        first = ["family", "trial", "value", *again, "diverged", "updates", "schedule", "lr"]
        others = [column for column in frame.columns if column not in first]
        self._write_frame("trials.csv", frame.reindex(columns=first + others))

    def append_curves(self, act: str, name: str, trial: int | None, history: History) -> None:
        """Append the runs of a trial (act "search") or a confirmation (act "confirm")."""
        frame = history.frame().drop(columns=["run", "schedule"])
        frame.insert(0, "act", act)
        frame.insert(1, "name", name)
        frame.insert(2, "trial", -1 if trial is None else trial)
        path = self.path / "curves.csv"
        try:
            with path.open("a+b") as file:
                empty = cut_to_whole_lines(file, ",".join(frame.columns)) == 0
                file.write(frame.to_csv(index=False, header=empty, lineterminator="\n").encode())
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error

    def keep_curves(self, wanted: Callable[[str, str, int, int, float], bool]) -> None:
        """Keep runs that count, each once: wanted(act, name, trial, seed, peak_lr).

        A row that is damaged is dropped.
        """
        path = self.path / "curves.csv"
        if not path.exists():
            return
        table = undamaged_lines(path, text=("act", "name"))
        if not {*_RUN_KEYS, "peak_lr"} <= set(table.partition("\n")[0].split(",")):
            path.unlink()
            return
        frame = parsed(table.encode())
        keys = zip(*(frame[k] for k in (*_RUN_KEYS, "peak_lr")), strict=True)
        kept = frame.take(np.flatnonzero([wanted(*key) for key in keys]).tolist())
        once = kept.drop_duplicates([*_RUN_KEYS, "update"], keep="last")
        self._write_frame("curves.csv", once)

    def write_confirmed(self, runs: Sequence[ConfirmedRun]) -> None:
        """Write comparison.csv."""
        import pandas as pd

        rows = [
            {name: getattr(run, name) for name in RUN_COLUMNS}
            | {measure_column(name): value for name, value in run.measures.items()}
            for run in runs
        ]
        self._write_frame("comparison.csv", pd.DataFrame(rows))

    def write_text(self, name: str, text: str) -> None:
        """Replace a text file as a whole."""
        self.replace(name, lambda path: path.write_text(text, encoding="utf-8"))

    def replace(self, name: str, write: Callable[[Path], object]) -> None:
        """Let `write` make a new file beside the old one, then put it in its place."""
        path = self.path / name
        beside = path.with_name(f".{path.name}.new{path.suffix}")
        try:
            write(beside)
            os.replace(beside, path)  # noqa: PTH105 (one name for "atomic")
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            with suppress(OSError):  # of a file system that takes no changes
                beside.unlink(missing_ok=True)

    def _write_frame(self, name: str, frame: "pd.DataFrame") -> None:
        self.write_text(name, frame.to_csv(index=False, lineterminator="\n"))


def command_to_resume(path: Path) -> str:
    """What to type to go on with an interrupted run."""
    return f"lrfinder run --resume {shlex.quote(str(path))}"


def own_storage(path: Path) -> str:
    """URL of the SQLite storage in a run folder."""
    return file_url(path / "study.db")
