"""Files of a run folder: what resume relies on."""

import pandas as pd
import pytest
from small_tasks import linear_task, plain_sgd

from lrfinder.results.folder import RunFolder
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan

CONSTANT = Schedule(FAMILIES["constant"])


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run")


def history(lr: float, seed: int = 0):
    return fit(linear_task(epochs=2, optimizer=plain_sgd), [Plan(lr, CONSTANT, seed)])


def kept(folder) -> pd.DataFrame:
    return pd.read_csv(folder.path / "curves.csv")


def test_of_runs_that_stand_twice_the_last_is_kept(folder):
    """A trial that was interrupted and asked again has the number of no other; its curve may."""
    for lr in (0.01, 0.02):
        folder.append_curves("search", "step", 0, history(lr))
    folder.keep_curves(lambda *run: True)
    assert set(kept(folder)["peak_lr"]) == {0.02}


def test_a_cut_last_line_is_dropped_with_what_follows_whole(folder):
    folder.append_curves("search", "step", 0, history(0.01))
    path = folder.path / "curves.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    folder.append_curves("search", "step", 1, history(0.02))
    frame = kept(folder)
    assert len(frame) == len(whole.splitlines()) - 2 + (frame["trial"] == 1).sum()
    assert frame.notna().all(axis=None) or frame["valid_loss"].notna().all()


def test_curves_that_no_longer_count_are_dropped(folder):
    for trial, lr in enumerate((0.01, 0.02, 0.03)):
        folder.append_curves("search", "step", trial, history(lr))
    folder.keep_curves(lambda act, name, trial, seed, lr: trial != 1 and lr in (0.01, 0.02, 0.03))
    assert set(kept(folder)["trial"]) == {0, 2}


DAMAGES = {
    "no UTF-8": lambda line: line[:14] + b"\xff\xfe" + line[14:],
    "zeros": lambda line: b"\x00" * 20 + b"\n",
    "a word": lambda line: line.replace(b",0,", b",word,", 1),
    "a word at the end": lambda line: line.rpartition(b",")[0] + b",word\n",
    "too long": lambda line: line[:-1] + b",1\n",
    "too short": lambda line: line.rpartition(b",")[0] + b"\n",
    "empty": lambda line: b"\n",
    "half a quote": lambda line: b'"' + line,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_of_curves_is_dropped_alone(folder, damage):
    folder.append_curves("search", "step", 0, history(0.01))
    path = folder.path / "curves.csv"
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole, DAMAGES[damage](last)]))
    folder.append_curves("search", "step", 1, history(0.02))
    more = [line for line in path.read_bytes().splitlines(keepends=True) if b",step,1," in line]
    folder.keep_curves(lambda *run: True)
    assert path.read_bytes() == b"".join([*whole, *more])


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\n", b"a,b\n1,2\n", b"act,name\n"])
def test_curves_without_their_columns_are_dropped(folder, data):
    (folder.path / "curves.csv").write_bytes(data)
    folder.keep_curves(lambda *run: True)
    assert not (folder.path / "curves.csv").exists()
