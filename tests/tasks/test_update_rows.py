"""Another number of rows in an update: the same rows in an epoch, in other batches."""

import pytest
import torch
from small_tasks import ROWS, linear_task, regression_rows
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, WeightedRandomSampler

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.report.wording import validity
from lrfinder.tasks.update_rows import with_update_rows

ROWS_OF = regression_rows()
PLAIN = DataLoader(ROWS_OF, 16, shuffle=True)
WEIGHTED = DataLoader(ROWS_OF, 10, sampler=WeightedRandomSampler([1.0] * ROWS, ROWS))
OWN = DataLoader(ROWS_OF, batch_sampler=BatchSampler(RandomSampler(ROWS_OF), 10, True))


@pytest.mark.parametrize("rows", [4, 15, 30, 60])
@pytest.mark.parametrize("train", [ROWS_OF, PLAIN], ids=["rows", "loader"])
def test_an_epoch_is_cut_into_updates_of_so_many_rows(train, rows):
    task = with_update_rows(linear_task(train=train), rows)
    assert task.update_rows == rows
    assert task.accumulate == 1
    assert task.data().updates_per_epoch == ROWS // rows
    batches = list(task.data().source.epoch(0, 0))
    assert [len(x) for x, _ in batches] == [rows] * (ROWS // rows)


@pytest.mark.parametrize("train", [WEIGHTED, OWN], ids=["sampler", "batch sampler"])
def test_a_loader_of_the_callers_own_keeps_its_batches_and_accumulates(train):
    task = with_update_rows(linear_task(train=train), 30)
    assert (task.train, task.accumulate, task.update_rows) == (train, 3, 30)
    with pytest.raises(InvalidArgument, match="take multiples of 10"):
        with_update_rows(linear_task(train=train), 25)


def test_a_task_that_accumulates_goes_on_doing_so():
    task = linear_task(batch_size=5, accumulate=2)
    assert with_update_rows(task, 10) is task
    assert with_update_rows(task, 30).accumulate == 6
    other = with_update_rows(task, 12)
    assert (other.batch_size, other.accumulate) == (12, 1)


def test_a_fixed_number_of_updates_sees_as_many_rows():
    assert with_update_rows(linear_task(steps_per_epoch=8), 32).steps_per_epoch == 4


@pytest.mark.parametrize(("rows", "said"), [(0, "at least 1"), (61, "no more than the 60 rows")])
def test_what_is_no_batch_size_is_refused(rows, said):
    with pytest.raises(InvalidArgument, match=said):
        with_update_rows(linear_task(), rows)


NUMBERS = torch.randn(7, 4, dtype=torch.float64)
ENDLESS = {"train": None, "batches": lambda: (NUMBERS, NUMBERS[:, :1]), "updates": 9}
UNEVEN = DataLoader(ROWS_OF, batch_sampler=[[0, 1, 2], [3, 4]])
EVEN = DataLoader(ROWS_OF, batch_sampler=[[0, 1], [3, 4]])


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"batch_size": 16}, 16),
        ({"batch_size": 1000}, ROWS),
        ({"batch_size": 16, "accumulate": 3}, 48),
        ({"batch_size": 16, "accumulate": 9}, ROWS),
        ({"batch_size": 1000, "accumulate": 3, "steps_per_epoch": 2}, 3 * ROWS),
        ({"train": DataLoader(ROWS_OF, 1000, shuffle=True)}, ROWS),
        ({"train": WEIGHTED}, 10),
        (ENDLESS, 7),
        ({**ENDLESS, "accumulate": 2}, 14),
        ({"train": EVEN}, 2),
        ({"train": UNEVEN}, None),
    ],
)
def test_an_answer_is_for_as_many_rows_as_an_update_sees(fields, rows):
    task = linear_task(**fields)
    assert task.data().rows_of_update == rows
    curve = range_test(task, seeds=1, steps=8, probes=0)
    assert curve.batch_size == rows
    assert (f"batches of {rows}" if rows else "batches as the program") in validity(curve.suggest())
