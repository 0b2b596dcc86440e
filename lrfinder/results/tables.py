"""The tables of a run folder, read back to the last bit, without what was cut off or damaged."""

import csv
import os
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from lrfinder.range_tests.curve import Curve
from lrfinder.results.range_test_facts import RangeTestFacts

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> "pd.DataFrame":
    """Read a CSV file so that its numbers are those that were written, to the last bit.

    A last line without its end was cut off, perhaps within a number, and is left out.
    """
    written = path.read_bytes()
    return parsed(written[: written.rfind(b"\n") + 1])


def read_curve(path: Path, facts: RangeTestFacts) -> Curve:
    """A range test, read from its table and what the summary says of it; ValueError if cut off."""
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError(f"{path} was cut off")
    frame, seeds = read_table(path), facts.seeds
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
    if not np.isfinite(tables["lr"][:, 1:]).any(axis=0).all():
        raise ValueError(f"{path} must have an lr for every step")
    metrics = set(tables) - {"lr", "loss", "train_loss"}
    return Curve(
        lr=np.nanmax(tables["lr"][:, 1:], axis=0),
        loss=tables["loss"][:, 1:],
        train_loss=tables["train_loss"][:, 1:],
        start=tables["loss"][:, 0],
        metrics={name: tables[name][:, 1:] for name in frame.columns if name in metrics},
        probes=tuple(probe.probe() for probe in facts.probes),
        **{name: getattr(facts, name) for name in RangeTestFacts.model_fields if name != "probes"},
    )


def over_seeds(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Mean of every column over the runs, with its lowest and highest, by epoch."""
    epochs = runs.groupby("epoch")
    mean = cast("pd.DataFrame", epochs.mean(numeric_only=True))
    lowest = cast("pd.DataFrame", epochs.min(numeric_only=True))
    highest = cast("pd.DataFrame", epochs.max(numeric_only=True))
    return mean.join([lowest.add_suffix("_min"), highest.add_suffix("_max")])


def parsed(table: bytes) -> "pd.DataFrame":
    """A CSV text as a table; numbers are those that were written, to the last bit."""
    import pandas as pd

    if int(pd.__version__.partition(".")[0]) < 3:
        return pd.read_csv(BytesIO(table), float_precision="round_trip")
    return pd.read_csv(BytesIO(table))  # where that is the default


def undamaged_lines(path: Path, text: Collection[str]) -> str:
    """Lines of a CSV file that hold numbers, or nothing, in all columns but those of text."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    columns = lines[0].split(",")

    def is_whole(line: str) -> bool:
        row = next(csv.reader([line]), [])
        cells = zip(columns, row, strict=False)
        return len(row) == len(columns) and all(_is_number(v) for k, v in cells if k not in text)

    kept = [line for line in lines[1:] if is_whole(line)]
    return "".join(f"{line}\n" for line in [lines[0], *kept])


def cut_to_whole_lines(file: BinaryIO, header: str) -> int:
    """Drop a last line that was cut off, or everything under another header; the size left."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(0)
    if file.readline().decode(errors="replace") != f"{header}\n":
        return file.truncate(0)
    file.seek(size - 1)
    if file.read() != b"\n":
        file.seek(0)
        size = file.read().rfind(b"\n") + 1
        file.truncate(size)
    return size


def _is_number(cell: str) -> bool:
    """Whether a cell of a table can be read as a number; an empty one is nan."""
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True
