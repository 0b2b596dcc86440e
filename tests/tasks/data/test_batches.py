"""What a batch is: its class, its rows, its way to a device, and None, which is no batch."""

import dataclasses

import numpy as np
import pytest
import torch
from kinds_of_batches import COUNTED, KINDS, TimeFirst, task_of
from small_tasks import (
    BATCH,
    FEATURES,
    PER_EPOCH,
    linear_model,
    linear_task,
    plain_sgd,
    plan,
    regression_rows,
)
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.data.batches import alike, count_rows, elements_in
from lrfinder.tasks.data.devices import tensors_in, to_device
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

META = torch.device("meta")
PLANS = [plan(lr, seed) for lr in (0.01, 0.03) for seed in (0, 1)]


def batch_of(kind: str):
    return KINDS[kind][0](list(regression_rows(5)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_untouched_where_nothing_has_to_move(kind):
    batch = batch_of(kind)
    assert to_device(batch, None) is batch
    assert to_device(batch, torch.device("cpu")) is batch


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "opaque"])
def test_a_batch_is_moved_whole_and_stays_of_its_class(kind):
    collate, read, cls = KINDS[kind]
    batch = collate(list(regression_rows(5)))
    moved = to_device(batch, META)
    assert type(moved) is cls
    assert {tensor.device for tensor in tensors_in(moved)} <= {META, torch.device("cpu")}
    if kind != "packed sequence":  # batch sizes stay on the processor
        assert {tensor.device for tensor in tensors_in(moved)} == {META}
        assert [part.device for part in read(moved)] == [META, META]
    if kind != "encoding":  # its own `.to` moves it in place
        assert {tensor.device for tensor in tensors_in(batch)} == {torch.device("cpu")}


def test_what_is_no_tensor_is_moved_along_as_it_is():
    batch = batch_of("dict of anything")
    moved = to_device(batch, META)
    for name in ("name", "flag", "n", "none", "words", "f"):
        assert moved[name] == batch[name]
    assert moved["array"] is batch["array"]
    assert to_device(batch_of("dataclass"), META).name == "record"


def test_entries_that_are_attributes_still_are_after_moving():
    moved = to_device(batch_of("attributes"), META)
    assert moved.x is moved["x"]
    moved["z"] = 1
    assert moved.z == 1


def test_an_object_with_another_kind_of_to_is_left_alone_on_the_processor():
    class Length:
        def to(self, unit):
            raise ValueError(f"no unit {unit}")

    batch = {"x": torch.zeros(2), "length": Length()}
    assert to_device(batch, torch.device("cpu")) is batch


def test_tensors_are_found_behind_references_in_a_circle():
    first, second = [torch.zeros(1)], [torch.ones(1)]
    first.append(second)
    second.append(first)
    assert [float(t) for t in tensors_in(first)] == [0, 1]


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in COUNTED])
def test_rows_are_counted_in_every_kind_of_batch(kind):
    assert count_rows(batch_of(kind)) == 5


@pytest.mark.parametrize("kind", COUNTED)
def test_a_batch_whose_rows_cannot_be_seen_asks_for_a_count_in_one_line(kind):
    with pytest.raises(InvalidArgument, match=r"Task\(rows=") as error:
        count_rows(batch_of(kind))
    assert "\n" not in str(error.value)


def test_rows_of_a_packed_sequence_are_its_sequences():
    assert count_rows(pack_sequence([torch.zeros(n, 2) for n in (5, 3, 3)])) == 3


def found(boxes: int) -> dict[str, torch.Tensor]:
    return {"boxes": torch.zeros(boxes, 4), "image_id": torch.tensor(7)}


IMAGES = [torch.zeros(3, 8, 8 + k) for k in range(4)]
OF_PAIRS = [{"a": torch.zeros(5, 2), "b": torch.zeros(5)}, {"c": torch.zeros(5, 3)}]


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ((IMAGES, [found(k) for k in range(4)]), 4),
        ((IMAGES[:1], [found(2)]), 1),
        ([IMAGES, tuple(found(k) for k in range(4))], 4),
        ([{"image": image, **found(k)} for k, image in enumerate(IMAGES)], 4),
        (OF_PAIRS, 5),  # what default_collate makes of pairs of dicts
        (tuple(OF_PAIRS), 5),
        ([torch.zeros(5, 1), OF_PAIRS], 5),
        ([[torch.zeros(5, 1), torch.zeros(5, 2)], OF_PAIRS], 5),
        ([torch.zeros(5, 1), [found(k) for k in range(4)]], 5),
    ],
)
def test_rows_of_lists_of_samples_are_their_length(batch, rows):
    assert count_rows(batch) == rows


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_batch_counts_the_tensors_of_its_objects(kind):
    assert elements_in(batch_of(kind)) >= 5 * (FEATURES + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_alike_where_they_hold_the_same(kind):
    collate = KINDS[kind][0]
    rows, others = list(regression_rows(5)), list(regression_rows(5, seed=3))
    assert alike(collate(rows), collate(rows))
    assert not alike(collate(rows), collate(others))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]), True),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), False),
        (torch.zeros(2), torch.zeros(3), False),
        ((torch.zeros(1), "a"), (torch.zeros(1), "b"), False),
        ([torch.zeros(1)], [torch.zeros(1), 1], False),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array(["a"]), np.array(["b"]), False),
    ],
)
def test_numbers_and_words_of_batches_are_compared(a, b, same):
    assert alike(a, b) == same


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_batch_trains_alike(kind, trainer):
    """Whatever holds the rows: losses are those of the plain pair, in each trainer that can."""
    task = task_of(kind)
    if trainer is BatchedTrainer and trainer().why_not(task) is not None:
        pytest.skip(trainer().why_not(task))
    expected = fit(task_of("list"), PLANS)
    history = fit(task, PLANS, trainer=trainer())
    np.testing.assert_allclose(history.train_loss, expected.train_loss, rtol=1e-9)
    np.testing.assert_allclose(history.measures["loss"], expected.measures["loss"], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_test_takes_every_kind_of_batch(kind):
    curve = range_test(task_of(kind), steps=8, seeds=1, probes=0)
    assert np.isfinite(curve.loss[:, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_live_objects_take_every_kind_of_batch(kind):
    of = task_of(kind)
    model = linear_model()
    task = Task.from_objects(
        model, plain_sgd(model, 0.01), None, of.train, of.valid, loss=of.loss, rows=of.rows
    )
    assert np.isfinite(fit(task, [plan()], updates=2).train_loss).all()


def test_batches_of_two_seeds_that_hold_different_arrays_are_not_mixed():
    def collate(rows):
        x, y = default_collate(rows)
        return {"x": x.numpy(), "y": y}

    def loss(model, batch):
        return nn.functional.mse_loss(model(torch.from_numpy(batch["x"])), batch["y"])

    task = linear_task(
        train=DataLoader(regression_rows(), BATCH, shuffle=True, collate_fn=collate),
        valid=None,
        criterion=None,
        loss=loss,
        rows=lambda batch: len(batch["y"]),
    )
    subset = task.data().fixed_subset
    one_by_one = fit(task, PLANS, evaluate_on=subset)
    together = fit(task, PLANS, evaluate_on=subset, trainer=BatchedTrainer())
    np.testing.assert_allclose(together.train_loss, one_by_one.train_loss, rtol=1e-9)


# rows that do not lie in the first dimension

TIME, WIDE = 300, 40


def time_first(rows):
    """x [time, rows, features] and y [rows, 1]."""
    x, y = default_collate(rows)
    return x.expand(TIME, *x.shape), y


def time_first_task(collate=time_first, count=lambda batch: batch[0].shape[1], **fields):
    return linear_task(
        model=TimeFirst,
        train=DataLoader(regression_rows(240), WIDE, shuffle=True, collate_fn=collate),
        valid=DataLoader(regression_rows(600, seed=1), WIDE, collate_fn=collate),
        criterion=nn.MSELoss(),
        rows=count,
        **fields,
    )


def test_a_fixed_subset_takes_whole_batches_by_the_tasks_rows():
    subset = time_first_task().data().fixed_subset
    assert [tuple(x.shape) for x, _ in subset] == [(TIME, WIDE, FEATURES)] * 7
    assert sum(len(y) for _, y in subset) == 280


def test_at_least_one_batch_is_taken_and_no_more_than_256():
    assert len(time_first_task(count=lambda batch: 10**6).data().fixed_subset) == 1
    many = linear_task(valid=DataLoader(regression_rows(600), 1), rows=lambda batch: 0)
    assert len(many.data().fixed_subset) == 256


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
def test_a_range_test_of_time_first_sequences_learns_of_the_inputs(trainer):
    curve = range_test(time_first_task(), seeds=1, steps=60, probes=3, trainer=trainer())
    assert curve.suggest().verdict == "suggested"
    assert curve.probes
    assert np.isfinite([probe.permuted for probe in curve.probes]).all()


def test_targets_are_exchanged_among_rows_wherever_the_rows_lie():
    """Targets [time, rows], equal over time: exchanging time steps would change nothing."""

    def collate(rows):
        x, y = time_first(rows)
        return x, y.squeeze(1).expand(TIME, -1)

    class ToEachStep(TimeFirst):
        def forward(self, x):
            return super().forward(x).squeeze(1).expand(TIME, -1)

    task = time_first_task(collate)
    task = dataclasses.replace(task, model=ToEachStep)
    curve = range_test(task, seeds=1, steps=60, probes=3)
    assert curve.suggest().verdict == "suggested"
    assert all(probe.permuted > 2 * probe.loss for probe in curve.probes)


# None is no batch


class Dropping:
    """A collate function that throws every third batch away."""

    def __init__(self, keep=lambda number: number % 3 != 1) -> None:
        self.keep = keep

    def __call__(self, rows):
        number = int(rows[0][0]) // 5
        return default_collate([(x, y) for _, x, y in rows]) if self.keep(number) else None


class Numbered(Dataset):
    def __init__(self, rows: int = 45) -> None:
        self.rows, self.tensors, self.read = rows, regression_rows(rows).tensors, []

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int):
        self.read.append(index)
        return index, self.tensors[0][index], self.tensors[1][index]


def dropping_task(train=None, valid=None, **fields):
    train = train or DataLoader(Numbered(), 5, collate_fn=Dropping())
    return linear_task(**{"train": train, "valid": valid or regression_rows(20), **fields})


def test_none_is_skipped_and_every_other_batch_is_read_once_before_any_comes_again():
    task = dropping_task()
    batches = list(task.data().source.epoch(0, 0))
    assert len(batches) == 9
    six = [tuple(y.flatten().tolist()) for _, y in batches[:6]]
    assert len(set(six)) == 6
    assert [tuple(y.flatten().tolist()) for _, y in batches[6:]] == six[:3]


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
def test_training_goes_on_behind_a_none(trainer):
    history = fit(dropping_task(), [plan()], trainer=trainer())
    assert history.train_loss.shape == (1, 27)
    assert np.isfinite(history.train_loss).all()


def test_skipped_batches_are_noted_before_training_and_once():
    data = dropping_task().data()
    assert "3 of 9 training batches were None and were skipped" in data.notes()
    list(data.source.epoch(0, 0))
    assert data.later_notes() == []


def test_skipped_validation_batches_are_noted_after_they_were_read():
    valid = DataLoader(Numbered(), 5, collate_fn=Dropping())
    task = dropping_task(regression_rows(), valid)
    history = fit(task, [plan()], updates=1)
    assert np.isfinite(history.measures["loss"]).all()
    assert task.data().later_notes() == ["3 of 9 validation batches were None and were skipped"]
    assert [len(y) for _, y in task.data().valid] == [5] * 6


def test_batches_to_evaluate_on_may_be_none():
    batch = regression_rows(4).tensors
    given = [
        fit(linear_task(), [plan()], updates=1, evaluate_on=b) for b in ([batch], [None, batch])
    ]
    assert given[0].measures["loss"].tolist() == given[1].measures["loss"].tolist()
    lazily = fit(linear_task(), [plan()], updates=1, evaluate_on=iter([None, batch]))
    assert lazily.measures["loss"].tolist() == given[0].measures["loss"].tolist()


class Endless(IterableDataset):
    """Rows without an end."""

    def __iter__(self):
        number = 0
        while True:
            yield (number, *(t[0] for t in regression_rows(1).tensors))
            number += 1


@pytest.mark.parametrize("rows", [Numbered, Endless])
@pytest.mark.parametrize("role", ["train", "valid"])
def test_data_of_nothing_but_none_are_refused_in_one_line(rows, role):
    loader = DataLoader(rows(), 5, collate_fn=Dropping(lambda number: False))
    fields = {role: loader, "steps_per_epoch": 3} if role == "train" else {"valid": loader}
    with pytest.raises((InvalidArgument, TaskFailed), match=r"None; return a batch") as error:
        fit(linear_task(**fields), [plan()])
    assert "\n" not in str(error.value)


# data that can be read once only, and data without an end


class Once(IterableDataset):
    """An iterator handed out at every call."""

    def __init__(self, rows: int) -> None:
        self.rows = iter(list(regression_rows(rows)))

    def __iter__(self):
        return self.rows


def test_a_stream_that_can_be_read_once_is_called_so():
    task = linear_task(train=Once(40), steps_per_epoch=PER_EPOCH)
    with pytest.raises(InvalidArgument, match=r"read once only.*__iter__ begins anew") as error:
        fit(task, [plan(), plan(seed=1)])
    assert "\n" not in str(error.value)


def test_a_generator_is_no_data_set_and_the_message_says_what_is():
    with pytest.raises(InvalidArgument, match=r"generator.*IterableDataset"):
        linear_task(train=(row for row in regression_rows()))


class EndlessPairs(IterableDataset):
    """Rows without an end; counts them."""

    def __init__(self, length: int | None = None) -> None:
        self.read, self.length = 0, length

    def __iter__(self):
        rows = list(regression_rows(100))
        while True:
            self.read += 1
            yield rows[self.read % 100]


def test_a_range_test_reads_256_rows_of_an_endless_validation_stream():
    stream = EndlessPairs()
    range_test(linear_task(valid=stream), steps=8, seeds=1, probes=0)
    assert stream.read <= 256 + BATCH


def test_an_endless_validation_stream_is_refused_in_one_line_where_all_of_it_is_asked_for():
    with pytest.raises(InvalidArgument, match=r"must end.*__len__") as error:
        fit(linear_task(valid=EndlessPairs()), [plan()], updates=1)
    assert "\n" not in str(error.value)


def test_a_length_ends_an_endless_validation_stream():
    class Sized(EndlessPairs):
        def __len__(self) -> int:
            return 5 * BATCH

    assert len(list(linear_task(valid=Sized()).data().valid)) == 5


# what a loss returns


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda loss: None, "None; return the loss"),
        (lambda loss: (loss, {}), "a tuple of 2.*return the loss alone"),
        (lambda loss: [loss], "a list of 1.*return the loss alone"),
        (lambda loss: {"loss": loss}, r"a dict with loss; return .*\['loss'\]"),
        (lambda loss: loss.item(), r"float \d.*without \.item\(\)"),
        (lambda loss: loss.expand(3), r"shape \(3,\); average it"),
        (lambda loss: type("Out", (), {"loss": loss})(), r"a Out; return its \.loss"),
    ],
)
def test_a_loss_that_is_no_number_is_told_what_to_return(returned, words):
    def loss(model, batch):
        return returned(nn.functional.mse_loss(model(batch[0]), batch[1]))

    task = linear_task(criterion=None, loss=loss)
    with pytest.raises(InvalidArgument, match=f"one number in a tensor, but got {words}") as error:
        fit(task, [plan()])
    assert "\n" not in str(error.value)
