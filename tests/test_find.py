"""`find`: what it reads of the data, and what it says of them."""

from pathlib import Path

import pytest

from lrfinder import commands
from lrfinder.errors import LRFinderError
from lrfinder.report.progress import Silent
from lrfinder.settings import FindSettings

HEAD = """
import torch
from small_tasks import linear_model, linear_task, regression_rows
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

class Counted(Dataset):
    read = 0

    def __init__(self, rows):
        self.rows = regression_rows(rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.read += 1
        return self.rows[index]

class Endless(IterableDataset):
    read = 0

    def __iter__(self):
        rows = list(regression_rows(100))
        while True:
            self.read += 1
            yield rows[self.read % 100]

def drop(rows):
    return default_collate(rows) if float(rows[0][1]) < 0 else None
"""


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def found(folder: Path, task: str, **options):
    """Run `find` on a task; returns the task and what was said."""
    path = folder / "own_task.py"
    path.write_text(f"{HEAD}\ntask = {task}\n", encoding="utf-8")
    said = Said()
    settings = {"steps": 8, "find_seeds": 1, "probes": 3, "device": "cpu", "seed": 0}
    commands.find(FindSettings(task=str(path), **{**settings, **options}), None, said)
    import own_task

    return own_task.task, said.lines


@pytest.mark.parametrize("engine", ["auto", "sequential", "batched"])
@pytest.mark.parametrize(
    ("valid", "batch"), [("Counted(5000)", 16), ("DataLoader(Counted(5000), 50)", 50)]
)
def test_a_few_hundred_rows_of_a_large_validation_set_are_read(tmp_path, valid, batch, engine):
    task, _ = found(tmp_path, f"linear_task(valid={valid})", engine=engine)
    rows = getattr(task.valid, "dataset", task.valid)
    assert rows.read <= 256 + 3 * batch


@pytest.mark.parametrize("engine", ["auto", "sequential", "batched"])
@pytest.mark.parametrize("valid", ["Endless()", "DataLoader(Endless(), 50)"])
def test_an_endless_validation_stream_is_no_hindrance(tmp_path, valid, engine):
    task, _ = found(tmp_path, f"linear_task(valid={valid})", engine=engine)
    rows = getattr(task.valid, "dataset", task.valid)
    assert rows.read <= 256 + 3 * 50


def test_an_endless_validation_stream_is_refused_in_one_line_per_epoch(tmp_path):
    with pytest.raises(LRFinderError, match=r"must end.*__len__") as error:
        found(tmp_path, "linear_task(valid=DataLoader(Endless(), 2))", every="epoch")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "note"),
    [
        ("linear_task(train=DataLoader(regression_rows(), 4, collate_fn=drop))", "training"),
        ("linear_task(valid=DataLoader(regression_rows(), 4, collate_fn=drop))", "validation"),
        ("linear_task(train=DataLoader(regression_rows(), 4, True, collate_fn=drop), valid=None)",
         "training"),
    ],
)  # fmt: skip
def test_skipped_batches_are_said_once(tmp_path, task, note):
    _, lines = found(tmp_path, task)
    notes = [line for line in lines if "None" in line]
    assert len(notes) == 1
    assert notes[0].startswith("note: ")
    assert f"{note} batches were None and were skipped" in notes[0]
