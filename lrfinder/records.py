"""The run folder: what a run leaves on disk, and how it is read back.

    config.toml          what was asked, resolved, with the hash of the task's file
    summary.json         the answers (schema below); written after each act
    range_test.csv       one row per seed and step of the sweep; step -1 is before the first
    trials.csv           one row per COMPLETE trial
    curves.csv           one row per run and epoch: lr, training loss, validation measures
    comparison.csv       one row per candidate and fresh seed
    report.md, *.png     for people, made from the above
    best_schedule.py     a plain PyTorch loop with the winner
    study.db, artifacts/ Optuna's storage and the dashboard's pictures

`lrfinder find` leaves the first three and range_test.png, with the status "range test".

summary.json's "range_test" holds what range_test.csv does not: "probes", the runs at a constant lr
(seed, lr, updates, loss, null where it diverged, and mean and deviation of the loss with exchanged
targets), "updates_per_step", "budget", the updates of a whole training, and "asked", the range of
lrs that was asked for where it was widened, else null.

Only this module knows the names of files and columns. A file is replaced whole or not at all,
except curves.csv, to which each finished run is appended; `RunFolder.keep_curves` drops what was
cut off. Nothing here is pickled, and reading a folder runs no code from it.
"""

import json
import os
import shutil
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
import tomli_w
from filelock import FileLock, Timeout

from lrfinder.comparing import Comparison, ConfirmedRun
from lrfinder.curve import Curve
from lrfinder.errors import RunFolderError
from lrfinder.family_study import FamilyResult
from lrfinder.probes import Probe
from lrfinder.suggest import Suggestion
from lrfinder.training.history import History, measure_column

SCHEMA = 3
"""Version of summary.json; raised when a key changes its meaning."""
RANGE_TEST = "range test"
"""Status of a folder that holds a range test alone."""

_CURVE_FACTS = (
    *("seeds", "every", "growth", "optimizer", "batch_size", "updates", "wall_seconds"),
    *("probes", "updates_per_step", "budget", "asked"),
)
_WITHOUT_RESULTS = {"config.toml", "summary.json", ".lock"}
_RUN_KEYS = ("act", "name", "trial", "seed")
_RUN_COLUMNS = ("candidate", "lr", "schedule", "seed", "value", "diverged", "updates")


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

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the folder for this process alone; RunFolderError where another one works on it."""
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            with lock:
                yield
        except Timeout as error:
            raise RunFolderError(
                f"run folder {self.path} is in use by another process; wait for it, or end it"
            ) from error

    def discard(self) -> None:
        """Remove a folder in which no result was written."""
        if {file.name for file in self.path.iterdir()} <= _WITHOUT_RESULTS:
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def storage(self) -> str:
        """URL of the run's own SQLite storage."""
        return storage_url(self.path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.toml; keys without a value are left out."""
        present = {key: value for key, value in config.items() if value is not None}
        self.write_text("config.toml", tomli_w.dumps(present))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json; nan becomes null."""
        self.write_text("summary.json", json.dumps(jsonable(summary), indent=2) + "\n")

    def write_curve(self, curve: Curve) -> None:
        """Write range_test.csv."""
        self._write_frame("range_test.csv", curve.frame())

    def write_trials(self, results: Sequence[FamilyResult]) -> None:
        """Write trials.csv."""
        rows = [
            {
                "family": result.space.family.name,
                "trial": trial.number,
                "lr": trial.lr,
                **trial.params,
                "value": trial.value,
                "diverged": trial.diverged,
                "updates": trial.updates,
                "schedule": str(trial.schedule),
            }
            for result in results
            for trial in result.trials
        ]
        first = ["family", "trial", "value", "diverged", "updates", "schedule", "lr"]
        frame = pd.DataFrame(rows)
        others = [column for column in frame.columns if column not in first]
        self._write_frame("trials.csv", frame.reindex(columns=first + others))

    def append_curves(self, act: str, name: str, trial: int | None, history: History) -> None:
        """Append the runs of a trial (act "search") or a confirmation (act "confirm")."""
        frame = history.frame().drop(columns=["run", "schedule"])
        frame.insert(0, "act", act)
        frame.insert(1, "name", name)
        frame.insert(2, "trial", -1 if trial is None else trial)
        with (self.path / "curves.csv").open("a+b") as file:
            empty = _cut_at_last_line(file) == 0
            file.write(frame.to_csv(index=False, header=empty, lineterminator="\n").encode())

    def keep_curves(self, wanted: Callable[[str, str, int, int, float], bool]) -> None:
        """Keep runs that count, each once: wanted(act, name, trial, seed, peak_lr)."""
        path = self.path / "curves.csv"
        if not path.exists():
            return
        frame = pd.read_csv(path, on_bad_lines="skip")
        keys = zip(*(frame[k] for k in (*_RUN_KEYS, "peak_lr")), strict=True)
        kept = frame.take(np.flatnonzero([wanted(*key) for key in keys]).tolist())
        once = kept.drop_duplicates([*_RUN_KEYS, "update"], keep="last")
        self._write_frame("curves.csv", once)

    def write_confirmed(self, runs: Sequence[ConfirmedRun]) -> None:
        """Write comparison.csv."""
        rows = [
            {name: getattr(run, name) for name in _RUN_COLUMNS}
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
            beside.unlink(missing_ok=True)

    def _write_frame(self, name: str, frame: pd.DataFrame) -> None:
        self.write_text(name, frame.to_csv(index=False, lineterminator="\n"))


@dataclass(frozen=True)
class Run:
    """A run read back from its folder; nothing is computed again."""

    path: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    def __repr__(self) -> str:
        facts = {key: self.summary.get(key) for key in ("task", "status")}
        facts["best"] = (self.summary.get("best") or {}).get("schedule")
        return f"Run({str(self.path)!r}, {', '.join(f'{k}={v!r}' for k, v in facts.items())})"

    def _repr_html_(self) -> str:
        from lrfinder import display

        return display.run(self)

    @cached_property
    def curve(self) -> Curve | None:
        """The range test; None for a run that had none, or has not finished it."""
        facts = self.summary.get("range_test")
        if facts is None:
            return None
        with self._undamaged("range_test.csv"):
            return _read_curve(self.path / "range_test.csv", facts)

    @cached_property
    def suggestion(self) -> Suggestion | None:
        """What was read off the range test when it was made; None where there is none."""
        facts = self.summary.get("suggestion")
        if facts is None:
            return None
        with self._undamaged("summary.json"):
            return Suggestion(**facts)

    @cached_property
    def comparison(self) -> Comparison | None:
        """Candidates on fresh seeds; None where no run has finished."""
        runs = self.confirmed
        if not runs:
            return None
        objective = self.summary["objective"]
        return Comparison(runs, objective["measure"], objective["direction"])

    @cached_property
    def confirmed(self) -> tuple[ConfirmedRun, ...]:
        """Finished runs of the comparison."""
        frame = self._frame("comparison.csv")
        measures = [c for c in frame.columns if c not in _RUN_COLUMNS]
        with self._undamaged("comparison.csv"):
            return tuple(
                ConfirmedRun(
                    candidate=str(row["candidate"]),
                    lr=float(row["lr"]),
                    schedule=str(row["schedule"]),
                    seed=int(row["seed"]),
                    value=float(row["value"]),
                    diverged=bool(row["diverged"]),
                    updates=int(row["updates"]),
                    measures={"loss" if c == "valid_loss" else c: float(row[c]) for c in measures},
                )
                for row in cast(list[dict[str, Any]], frame.to_dict("records"))
            )

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per COMPLETE trial."""
        return self._frame("trials.csv")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per run and epoch."""
        return self._frame("curves.csv")

    @cached_property
    def mean_curves(self) -> dict[str, pd.DataFrame]:
        """Curves of each candidate, best first: means over the fresh seeds, indexed by epoch.

        Beside each column stand its lowest and highest seed, as <column>_min and <column>_max.
        """
        order = [] if self.comparison is None else [s.candidate for s in self.comparison.ranking]
        with self._undamaged("curves.csv"):
            confirmed = self.curves.set_index(["act", "name"]).sort_index()
            return {name: _over_seeds(confirmed.loc[("confirm", name)]) for name in order}

    def trial_curve(self, family: str, trial: int) -> pd.DataFrame:
        """Curve of a trial: means over its seeds, indexed by epoch."""
        with self._undamaged("curves.csv"):
            runs = self.curves.set_index(["act", "name", "trial"]).sort_index()
            own = runs.loc[("search", family, trial)]
            return cast(pd.DataFrame, own.groupby("epoch").mean(numeric_only=True))

    def _frame(self, name: str) -> pd.DataFrame:
        path = self.path / name
        if not path.exists() or path.stat().st_size < 2:
            return pd.DataFrame()
        with self._undamaged(name):
            return pd.read_csv(path)

    @contextmanager
    def _undamaged(self, name: str) -> Generator[None]:
        """Say in one line that a file of the folder is missing or damaged."""
        try:
            yield
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise RunFolderError(
                f"{self.path / name} is missing or damaged; it cannot be read"
            ) from error


def storage_url(path: Path) -> str:
    """URL of the SQLite storage in a run folder."""
    return f"sqlite:///{path / 'study.db'}"


def read_config(path: Path) -> Mapping[str, Any]:
    """Read what a run was asked; RunFolderError in one line where the folder is none."""
    with _readable(path):
        config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
    if "run" not in config:
        raise RunFolderError(f"{path}/config.toml must have a table [run], but has none")
    return config


def has_begun(path: Path) -> bool:
    """Whether a run with a config came to its first summary."""
    return (path / "summary.json").exists()


def open_run(path: str | Path) -> Run:
    """Read a run folder, or that of a range test; RunFolderError in one line where it is none."""
    folder = Path(path)
    config = read_config(folder)
    if not has_begun(folder):
        raise RunFolderError(
            f"{folder} has no summary.json yet; go on with `lrfinder run --resume {folder}`"
        )
    with _readable(folder):
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if summary.get("schema") != SCHEMA:
        raise RunFolderError(
            f"{folder}: summary.json must have schema {SCHEMA}, but got {summary.get('schema')!r}; "
            "read it with the version that wrote it"
        )
    return Run(folder, config, summary)


def open_studies(path: Path) -> Run:
    """Read a run folder; RunFolderError also where it holds a range test alone."""
    run = open_run(path)
    if run.summary["status"] == RANGE_TEST:
        raise RunFolderError(
            f"{path} holds a range test without studies; lrfinder.open_run({str(path)!r}) reads it"
        )
    return run


@contextmanager
def _readable(folder: Path) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunFolderError(f"{folder} is not a run folder that can be read: {reason}") from error


def curve_facts(curve: Curve) -> dict[str, Any]:
    """What range_test.csv does not hold, for summary.json."""
    facts = {name: getattr(curve, name) for name in _CURVE_FACTS}
    probes = [asdict(probe) for probe in curve.probes]
    return facts | {"wall_seconds": round(curve.wall_seconds, 3), "probes": probes}


def suggestion_facts(suggestion: Suggestion) -> dict[str, Any]:
    """Return a suggestion as it stands in JSON."""
    return asdict(suggestion)


def _over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean of every column over the runs, with its lowest and highest, by epoch."""
    epochs = runs.groupby("epoch")
    mean = cast(pd.DataFrame, epochs.mean(numeric_only=True))
    lowest = cast(pd.DataFrame, epochs.min(numeric_only=True))
    highest = cast(pd.DataFrame, epochs.max(numeric_only=True))
    return mean.join([lowest.add_suffix("_min"), highest.add_suffix("_max")])


def _cut_at_last_line(file: BinaryIO) -> int:
    """Drop a last line that was cut off, so that it does not run into the next; the size left."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read() != b"\n":
        file.seek(0)
        size = file.read().rfind(b"\n") + 1
        file.truncate(size)
    return size


def _read_curve(path: Path, facts: Mapping[str, Any]) -> Curve:
    frame = pd.read_csv(path)
    seeds = tuple(int(seed) for seed in facts["seeds"])
    steps = int(frame["step"].to_numpy().max()) + 1
    if steps < 1 or len(frame) != len(seeds) * (steps + 1):
        raise ValueError(f"{path} must have a row per seed and step, but got {len(frame)} rows")
    tables = {
        column: frame.pivot_table(index="seed", columns="step", values=column, dropna=False)
        .reindex(index=list(seeds), columns=range(-1, steps))
        .to_numpy(dtype=np.float64)
        for column in frame.columns
        if column not in ("seed", "step")
    }
    metrics = set(tables) - {"lr", "loss", "train_loss"}
    return Curve(
        lr=np.nanmax(tables["lr"][:, 1:], axis=0),
        loss=tables["loss"][:, 1:],
        train_loss=tables["train_loss"][:, 1:],
        start=tables["loss"][:, 0],
        metrics={name: tables[name][:, 1:] for name in frame.columns if name in metrics},
        seeds=seeds,
        probes=tuple(_read_probe(probe) for probe in facts["probes"]),
        asked=None if facts["asked"] is None else tuple(facts["asked"]),
        **{name: facts[name] for name in _CURVE_FACTS if name not in ("seeds", "probes", "asked")},
    )


def _read_probe(facts: Mapping[str, Any]) -> Probe:
    known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in facts.items()}
    return Probe(**known)


def jsonable(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return the value as strict JSON can hold it: nan and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
