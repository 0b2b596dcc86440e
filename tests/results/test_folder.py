"""Files of a run folder: what resume relies on."""

import pandas as pd
import pytest
from small_tasks import linear_task, plain_sgd

from lrfinder.results.folder import RunFolder
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.fit import fit
from lrfinder.training.history import Plan

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
