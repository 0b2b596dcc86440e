"""A run read back from its folder: nothing is computed again, and nothing of it is executed.

What is missing or damaged is refused in one line, when the folder is opened or the file is read.
"""

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lrfinder.comparison.candidates import ConfirmedRun
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import InvalidArgument, RunFolderError
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.folder import RUN_COLUMNS
from lrfinder.results.summary import RangeTestSummary, RunSummary, typed_summary
from lrfinder.results.tables import over_seeds, read_curve, read_table
from lrfinder.schedules.in_frameworks import KINDS
from lrfinder.settings import FindSettings, RunSettings, settings_from
from lrfinder.types import CodeKind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run read back from its folder; nothing is computed again."""

    path: Path
    config: Mapping[str, Any]
    """config.toml: what was asked, resolved, and the table [run]."""
    summary: Mapping[str, Any]
    """summary.json as it stands in the file."""

    def __repr__(self) -> str:
        facts = {key: self.summary.get(key) for key in ("task", "status")}
        facts["best"] = (self.summary.get("best") or {}).get("schedule")
        return f"Run({str(self.path)!r}, {', '.join(f'{k}={v!r}' for k, v in facts.items())})"

    def _repr_html_(self) -> str:
        import lrfinder

        return lrfinder.html(self)

    @cached_property
    def record(self) -> RangeTestSummary:
        """The summary, typed; that of a range test alone has no answers."""
        with self._undamaged("summary.json"):
            return typed_summary(self.summary)

    @property
    def answers(self) -> RunSummary:
        """The summary of a run with studies; RunFolderError for a range test alone."""
        if not isinstance(self.record, RunSummary):
            raise RunFolderError(f"{self.path} holds a range test without studies")
        return self.record

    def code(self, kind: CodeKind = "torch") -> str:
        """The best schedule as code to paste, which makes the learning rates of its training.

        `kind` is "torch", "function" (a plain ``get_lr(t)``), "lightning" (``configure_optimizers``
        of a module), "transformers" (TrainingArguments, or a scheduler where they have no name for
        it) or "skorch" (its LRScheduler). InvalidArgument for any other, and where the schedule has
        no such form; RunFolderError where nothing was compared yet.
        """
        best = self.answers.winner
        if kind not in KINDS:
            raise InvalidArgument(f"code must be for one of {', '.join(KINDS)}, but got {kind!r}")
        known = best.codes or {"torch": best.code}
        if kind not in known:
            why = f"{best.schedule} has none"
            if not best.codes:
                why = f"{self.path} was written before there was any"
            raise InvalidArgument(
                f"there must be code for {kind}, but {why}; use that for {', '.join(known)}"
            )
        return known[kind]

    @cached_property
    def settings(self) -> RunSettings:
        """What was asked, typed; of a range test alone, what it shares with a run."""
        with self._undamaged("config.toml"):
            asked = {key: value for key, value in self.config.items() if key != "run"}
            if not isinstance(self.record, RunSummary):
                _ = settings_from(FindSettings, asked)
                asked = {k: v for k, v in asked.items() if k in RunSettings.model_fields}
            return settings_from(RunSettings, asked)

    @property
    def name(self) -> str:
        """What the run is called in its storage: its studies are <name>-<family>."""
        with self._undamaged("config.toml"):
            return str(self.config["run"]["name"])

    @cached_property
    def curve(self) -> Curve | None:
        """The range test; None for a run that had none, or has not finished it."""
        facts = self.record.range_test
        if facts is None:
            return None
        with self._undamaged("range_test.csv"):
            return read_curve(self.path / "range_test.csv", facts)

    @property
    def suggestion(self) -> Suggestion | None:
        """What was read off the range test when it was made; None where there is none."""
        return self.record.suggestion

    @cached_property
    def comparison(self) -> Comparison | None:
        """Candidates on fresh seeds; None where no run has finished."""
        runs = self.confirmed
        if not runs:
            return None
        objective, confirm = self.answers.objective, self.answers.confirm
        looks = () if confirm is None else tuple(facts.look() for facts in confirm.looks)
        made = {(run.candidate, run.seed) for run in runs}
        whole = [look for look in looks if set(product(look.trained, look.seeds)) <= made]
        asked = {pair for look in whole for pair in product(look.trained, look.seeds)}
        own = runs if not whole else tuple(r for r in runs if (r.candidate, r.seed) in asked)
        return Comparison(own, objective.measure, objective.direction, tuple(whole))

    @cached_property
    def confirmed(self) -> tuple[ConfirmedRun, ...]:
        """Finished runs of the comparison."""
        frame = self._frame("comparison.csv")
        measures = [c for c in frame.columns if c not in RUN_COLUMNS]
        with self._undamaged("comparison.csv"):
            if not frame.empty and frame.duplicated(["candidate", "seed"]).any():
                raise ValueError("a run stands in it twice")
            return tuple(
                ConfirmedRun(
                    candidate=str(row["candidate"]),
                    lr=float(row["lr"]),
                    schedule=str(row["schedule"]),
                    seed=int(row["seed"]),
                    value=float(row["value"]),
                    diverged=bool(row["diverged"]),
                    updates=int(row["updates"]),
                    best=float(row.get("best", math.nan)),
                    lrs=int(row.get("lrs", 0)),
                    measures={"loss" if c == "valid_loss" else c: float(row[c]) for c in measures},
                )
                for row in cast(list[dict[str, Any]], frame.to_dict("records"))
            )

    @property
    def whole(self) -> list[ConfirmedRun]:
        """Runs of the comparison that stand in both tables to their end."""
        with suppress(RunFolderError, LookupError, TypeError):
            frame, epochs = self.curves, self.answers.epochs
            own = frame[frame["act"] == "confirm"]
            ended = own[own["epoch"] == epochs]
            rows = set(zip(ended["name"], ended["seed"], ended["peak_lr"], strict=True))
            return [
                run
                for run in self.confirmed
                if run.diverged or (run.candidate, run.seed, run.lr) in rows
            ]
        return []

    @property
    def curve_can_be_read(self) -> bool:
        """Whether there is no range test, or its table is whole."""
        try:
            _ = self.curve
        except RunFolderError:
            return False
        return True

    @property
    def incomplete_table(self) -> str | None:
        """Name of a table that lacks what a finished run left in it; None where all are whole."""
        facts = self.answers
        pairs = set(product(facts.families, facts.seeds.confirm))
        if facts.confirm is not None:
            looks = [look.look() for look in facts.confirm.looks]
            pairs = {pair for look in looks for pair in product(look.trained, look.seeds)}
        if not self.curve_can_be_read:
            return "range_test.csv"
        if {(run.candidate, run.seed) for run in self.confirmed} != pairs:
            return "comparison.csv"
        if len(self.whole) < len(pairs):
            return "curves.csv"
        counted = list(self.trials["family"]) if len(self.trials) else []
        short = [k for k, of in facts.families.items() if counted.count(k) < of.trials]
        return "trials.csv" if short else None

    @cached_property
    def trials(self) -> "pd.DataFrame":
        """One row per COMPLETE trial."""
        frame = self._frame("trials.csv")
        with self._undamaged("trials.csv"):
            if not frame.empty and frame.duplicated(["family", "trial"]).any():
                raise ValueError("a trial stands in it twice")
        return frame

    @cached_property
    def curves(self) -> "pd.DataFrame":
        """One row per run and epoch."""
        import pandas as pd

        frame = self._frame("curves.csv")
        with self._undamaged("curves.csv"):
            for name in frame.columns.difference(["act", "name"]):
                if not pd.api.types.is_numeric_dtype(frame[name]):
                    raise ValueError(f"{name} must hold numbers")
        return frame

    @cached_property
    def mean_curves(self) -> "dict[str, pd.DataFrame]":
        """Curves of each candidate, best first: means over the fresh seeds, indexed by epoch.

        Beside each column stand its lowest and highest seed, as <column>_min and <column>_max.
        """
        order = [] if self.comparison is None else [s.candidate for s in self.comparison.ranking]
        with self._undamaged("curves.csv"):
            confirmed = self.curves.set_index(["act", "name"]).sort_index()
            return {name: over_seeds(confirmed.loc[("confirm", name)]) for name in order}

    def trial_curve(self, family: str, trial: int) -> "pd.DataFrame":
        """Curve of a trial: means over its seeds, indexed by epoch."""
        with self._undamaged("curves.csv"):
            runs = self.curves.set_index(["act", "name", "trial"]).sort_index()
            own = runs.loc[("search", family, trial)]
            return cast("pd.DataFrame", own.groupby("epoch").mean(numeric_only=True))

    def _frame(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        path = self.path / name
        if not path.exists() or path.stat().st_size < 2:
            return pd.DataFrame()
        with self._undamaged(name):
            return read_table(path)

    @contextmanager
    def _undamaged(self, name: str) -> Generator[None]:
        """Say in one line that a file of the folder is missing or damaged."""
        try:
            yield
        except RunFolderError:
            raise
        except (OSError, LookupError, ValueError, TypeError) as error:
            raise RunFolderError(
                f"{self.path / name} is missing or damaged; it cannot be read"
            ) from error
