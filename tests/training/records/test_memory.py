"""What cannot be held in memory is refused before anything is trained."""

import pytest
from small_tasks import linear_task
from typer.testing import CliRunner

from lrfinder import FAMILIES, Plan, Schedule, fit, range_test
from lrfinder.cli import app
from lrfinder.errors import InvalidArgument
from lrfinder.training.records.memory import check_memory

TOO_MANY = 10**12
TOO_LONG = {
    "find": ("find", "linear", "--steps", str(TOO_MANY)),
    "find per epoch": ("find", "linear", "--every", "epoch", "--steps", str(TOO_MANY)),
    "run, range test": ("run", "linear", "--steps", str(TOO_MANY)),
    "run, epochs": ("run", "linear", "--epochs", str(TOO_MANY)),
    "sweep": ("sweep", "linear", "--lr", "0.1", "--epochs", str(TOO_MANY)),
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_a_command_refuses_it_in_one_line_and_leaves_no_folder(case, tmp_path):
    folder = tmp_path / "r"
    result = CliRunner().invoke(app, [*TOO_LONG[case], "--out", str(folder)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "of memory, but this machine has" in result.stderr
    assert not folder.exists()


def test_python_refuses_it_too():
    plans = [Plan(0.1, Schedule(FAMILIES["constant"]), 0)]
    for train in (
        lambda: fit(linear_task(), plans, updates=TOO_MANY),
        lambda: range_test(linear_task(), steps=TOO_MANY),
    ):
        with pytest.raises(InvalidArgument, match=r"records of \d runs? of 1,000,000,000,000"):
            train()


def test_what_fits_is_not_refused():
    check_memory(runs=160, updates=10_000, evaluations=1_000, measures=3)
    with pytest.raises(InvalidArgument, match="1 run of"):
        check_memory(runs=1, updates=1, evaluations=TOO_MANY, measures=3)
