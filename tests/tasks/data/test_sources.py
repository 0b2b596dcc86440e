"""Batches: every kind of data, in an order that is a function of (seed, epoch)."""

from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tasks import PER_EPOCH, linear_task, no_global_draw, noisy_task, plan, regression_rows
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
)

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.data.batches import count_rows
from lrfinder.tasks.data.devices import tensors_in
from lrfinder.tasks.data.sources import (
    Feed,
    TensorSource,
    evaluation_batches,
    fixed_subset,
    in_pieces,
    training_source,
)
from lrfinder.training.fit import fit

ROWS, SIZE = 23, 5  # batches of 5, 5, 5, 5 and 3 rows


class Plain(Dataset):
    """Rows 0..n-1; counts how often one is read."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows, self.read = rows, 0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Tensor:
        self.read += 1
        return torch.tensor(float(index))


class Dicts(Plain):
    def __getitem__(self, index: int):
        return {"x": super().__getitem__(index), "y": torch.tensor(index)}


class Lists(Plain):
    def __getitem__(self, index: int):
        return [super().__getitem__(index), torch.tensor(index)]


class Point(NamedTuple):
    x: Tensor
    y: Tensor


class Points(Plain):
    def __getitem__(self, index: int):
        return Point(super().__getitem__(index), torch.tensor(index))


class Flow(IterableDataset):
    """Rows 0..n-1 without a length; counts how often it is iterated."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows, self.iterated = rows, 0

    def __iter__(self):
        self.iterated += 1
        return (torch.tensor(float(k)) for k in range(self.rows))


class ShuffledFlow(Flow):
    """The same in an order drawn from the global generator of torch, with a length."""

    def __len__(self) -> int:
        return self.rows

    def __iter__(self):
        self.iterated += 1
        return (torch.tensor(float(k)) for k in torch.randperm(self.rows))


class Unsized:
    """A sampler without a length."""

    def __iter__(self):
        return iter(torch.randperm(ROWS).tolist())


class Doubled(TensorDataset):
    """Rows that its own __getitem__ changes."""

    def __getitem__(self, index):
        return tuple(2 * tensor for tensor in super().__getitem__(index))


def numbers(rows: int = ROWS) -> TensorDataset:
    return TensorDataset(torch.arange(float(rows)))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


SHUFFLED = {
    "tensors": numbers,
    "subset": lambda: Subset(numbers(40), [*range(10), *range(20, 33)]),
    "subset of a subset": lambda: Subset(Subset(numbers(60), range(5, 50)), range(0, 46 - 1, 2)),
    "plain": Plain,
    "dicts": Dicts,
    "lists": Lists,
    "loader": lambda: DataLoader(numbers(), SIZE, shuffle=True),
    "loader with a generator": lambda: DataLoader(
        numbers(), SIZE, shuffle=True, generator=generator()
    ),
    "loader with its own sampler": lambda: DataLoader(
        numbers(), SIZE, sampler=RandomSampler(numbers(), generator=generator())
    ),
    "loader with two generators": lambda: DataLoader(
        numbers(),
        SIZE,
        sampler=RandomSampler(numbers(), generator=generator()),
        generator=generator(),
    ),
    "loader with drop_last": lambda: DataLoader(numbers(), SIZE, shuffle=True, drop_last=True),
    "loader with a batch sampler": lambda: DataLoader(
        numbers(), batch_sampler=BatchSampler(RandomSampler(numbers()), SIZE, drop_last=False)
    ),
    "loader with a batch sampler with a generator": lambda: DataLoader(
        numbers(),
        batch_sampler=BatchSampler(RandomSampler(numbers(), generator=generator()), SIZE, False),
    ),
    "loader with a sampler without a length": lambda: DataLoader(Plain(), SIZE, sampler=Unsized()),
    "shuffled stream": ShuffledFlow,
    "loader with workers": lambda: DataLoader(numbers(), SIZE, shuffle=True, num_workers=2),
}
WITHOUT_LENGTH = "loader with a sampler without a length"


def source_of(name: str, batches: int | None = None):
    if name == WITHOUT_LENGTH and batches is None:
        batches = 5
    return training_source(SHUFFLED[name](), SIZE, None, batches)


def values(batch) -> list[float]:
    return tensors_in(batch)[0].flatten().tolist()


def epoch(source, *args) -> list[list[float]]:
    return [values(batch) for batch in source.epoch(*args)]


def generators_of(loader) -> list[torch.Generator]:
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    owners = [loader, getattr(loader, "sampler", None), inner]
    return [g for o in owners if (g := getattr(o, "generator", None)) is not None]


@pytest.mark.parametrize("name", SHUFFLED)
def test_the_order_is_a_function_of_seed_and_epoch(name):
    source = source_of(name)
    first = epoch(source, 7, 0)
    assert epoch(source, 7, 0) == first
    assert epoch(source_of(name), 7, 0) == first
    assert epoch(source, 8, 0) != first
    assert epoch(source, 7, 1) != first


@pytest.mark.parametrize("name", SHUFFLED)
def test_an_epoch_holds_every_row_once_and_keeps_the_ragged_last_batch(name):
    source = source_of(name)
    batches = epoch(source, 0, 0)
    rows = [row for batch in batches for row in batch]
    ragged = name != "loader with drop_last"
    assert [len(batch) for batch in batches] == [SIZE] * 4 + [3] * ragged
    assert source.batches == 4 + ragged
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("name", SHUFFLED)
@pytest.mark.parametrize("batches", [3, 11])
def test_a_given_number_of_batches_truncates_or_cycles_in_a_new_order(name, batches):
    source = source_of(name, batches)
    given = epoch(source, 0, 2)
    once = epoch(source_of(name), 0, 2)
    assert len(given) == source.batches == batches
    assert given[: len(once)] == once[:batches]
    if batches > len(once):
        cycle = given[len(once) : 2 * len(once)]
        assert cycle != once
        assert len({row for batch in cycle for row in batch}) == sum(map(len, once))


@pytest.mark.parametrize("name", SHUFFLED)
def test_a_start_in_the_middle_of_an_epoch_gives_the_same_batches(name):
    source = source_of(name, 7)
    whole = epoch(source, 1, 4)
    for start in (1, 4, 5, 6, 7):
        assert epoch(source, 1, 4, start) == whole[start:]


@pytest.mark.parametrize("name", SHUFFLED)
def test_neither_global_states_nor_the_loaders_generators_move(name):
    data = SHUFFLED[name]()
    before = [g.get_state() for g in generators_of(data)]
    with no_global_draw():
        source = training_source(data, SIZE, None, 7)
        list(source.epoch(0, 0))
        list(islice(source.epoch(1, 0), 2))  # and one that is left in the middle
        list(evaluation_batches(data, SIZE, None)) if name != WITHOUT_LENGTH else None
        fixed_subset(data, SIZE, None)
    after = [g.get_state() for g in generators_of(data)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_generator_of_a_loader_that_does_not_batch_stays():
    own = generator()
    sampler = RandomSampler(range(4), generator=own)
    loader = DataLoader([torch.arange(3.0)] * 4, batch_size=None, sampler=sampler)
    before = own.get_state()
    list(training_source(loader, SIZE).epoch(0, 0))
    assert torch.equal(own.get_state(), before)


def test_a_loader_that_is_iterated_in_turns_with_its_owner_gives_both_their_own_order():
    loader = SHUFFLED["loader with a generator"]()
    alone = [values(batch) for batch in SHUFFLED["loader with a generator"]()]
    source = training_source(loader, SIZE)
    expected = epoch(source, 0, 0)
    own, ours = iter(loader), source.epoch(0, 0)
    pairs = [(values(next(ours)), values(next(own))) for _ in range(5)]
    assert [a for a, _ in pairs] == expected
    assert [b for _, b in pairs] == alone


@given(
    rows=st.integers(1, 40),
    size=st.integers(1, 12),
    seed=st.integers(0, 99),
    batches=st.one_of(st.none(), st.integers(1, 30)),
    data=st.data(),
)
def test_tensor_batches_are_cut_from_one_permutation_a_cycle(rows, size, seed, batches, data):
    source = TensorSource(numbers(rows).tensors, size, None, batches)
    whole = epoch(source, seed, 0)
    single = size > 1 and rows > 1 and rows % size == 1
    per_cycle = -(-rows // size) - single
    assert source.drops_single_row == single
    assert len(whole) == (per_cycle if batches is None else batches)
    for first in range(0, len(whole) - per_cycle + 1, per_cycle):
        cycle = [row for batch in whole[first : first + per_cycle] for row in batch]
        assert len(set(cycle)) == len(cycle) == rows - single
    start = data.draw(st.integers(0, len(whole)))
    assert epoch(source, seed, 0, start) == whole[start:]


@pytest.mark.parametrize("kind", [numbers, Plain, lambda n: DataLoader(numbers(n), SIZE)])
def test_a_last_batch_of_one_row_is_left_out(kind):
    source = training_source(kind(11), SIZE)
    assert source.drops_single_row
    assert [len(batch) for batch in epoch(source, 0, 0)] == [SIZE, SIZE]


@pytest.mark.parametrize(("rows", "size"), [(1, SIZE), (4, 1), (1, 1), (12, SIZE)])
@pytest.mark.parametrize("kind", [numbers, Plain])
def test_a_single_row_is_kept_where_there_is_nothing_else_or_it_was_asked_for(kind, rows, size):
    source = training_source(kind(rows), size)
    assert not source.drops_single_row
    assert sum(map(len, epoch(source, 0, 0))) == rows


def test_the_task_says_that_a_single_row_is_left_out():
    task = noisy_task(train=regression_rows(33))
    assert any("single row" in note for note in task.data().notes())
    history = fit(task, [plan()])  # batch normalisation could not train on one row
    assert np.isfinite(history.train_loss).all()
    assert noisy_task().data().notes() == []


@pytest.mark.parametrize(
    "data",
    [DataLoader(numbers(), SIZE), Flow(), DataLoader(Flow(), SIZE)],
    ids=["loader", "stream", "loader of a stream"],
)
def test_data_in_the_same_order_every_time_are_reported(data):
    task = linear_task(
        train=data,
        batch_size=SIZE,
        steps_per_epoch=4,
        criterion=None,
        loss=lambda model, batch: model(batch[0]).mean(),
    )
    assert any("same order" in note for note in task.data().notes())


@pytest.mark.parametrize("name", [n for n in SHUFFLED if n != WITHOUT_LENGTH])
def test_shuffled_data_are_not_reported(name):
    loss = {"criterion": None, "loss": lambda model, batch: model(batch[0]).mean()}
    assert linear_task(train=SHUFFLED[name](), batch_size=SIZE, **loss).data().notes() == []


def test_lists_dicts_and_named_tuples_stay_what_they_are():
    assert type(next(training_source(Lists(), SIZE).epoch(0, 0))) is list
    assert set(next(training_source(Dicts(), SIZE).epoch(0, 0))) == {"x", "y"}
    batch = next(training_source(Points(), SIZE).epoch(0, 0))
    assert isinstance(batch, Point)
    assert torch.equal(batch.x, batch.y.float())


def test_a_tensor_dataset_with_its_own_rows_is_read_row_by_row():
    rows = sorted(r for b in epoch(training_source(Doubled(torch.arange(6.0)), 3), 0, 0) for r in b)
    assert rows == [0, 2, 4, 6, 8, 10]


def test_rows_are_the_first_dimension_of_the_first_tensor():
    assert count_rows({"name": "x", "x": torch.zeros(7, 2)}) == 7
    assert count_rows((("a", torch.zeros(3)), torch.zeros(5))) == 3


@pytest.mark.parametrize("batch", [{}, {"n": 3}, (1, 2), (torch.tensor(1.0),)])
def test_a_batch_without_rows_is_one_clear_line(batch):
    with pytest.raises(InvalidArgument, match=r"Task\(rows=") as error:
        count_rows(batch)
    assert "\n" not in str(error.value)


EMPTY = {
    "data set": lambda: TensorDataset(torch.zeros(0, 4), torch.zeros(0, 1)),
    "plain data set": lambda: Plain(0),
    "loader": lambda: DataLoader(numbers(3), 5, drop_last=True),
    "loader of nothing": lambda: DataLoader(Plain(0), 5),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("role", ["train", "valid"])
def test_data_without_a_batch_are_refused_in_one_line(name, role):
    with pytest.raises(InvalidArgument, match=role) as error:
        linear_task(**{role: EMPTY[name]()})
    assert "\n" not in str(error.value)


def test_a_stream_that_gives_nothing_is_refused_in_one_line():
    task = linear_task(train=Flow(0), steps_per_epoch=2)
    with pytest.raises(InvalidArgument, match="at least one batch") as error:
        fit(task, [plan()])
    assert "\n" not in str(error.value)


def test_a_stream_without_a_length_needs_steps_per_epoch():
    with pytest.raises(InvalidArgument, match=r"steps_per_epoch=.*None") as error:
        linear_task(train=Flow()).data()
    assert "\n" not in str(error.value)


class Pairs(Plain):
    """Rows of a regression, counted as they are read."""

    def __getitem__(self, index: int):
        self.read += 1
        return tuple(tensor[index] for tensor in regression_rows(self.rows).tensors)


class PairFlow(Flow):
    def __iter__(self):
        self.iterated += 1
        yield from zip(*regression_rows(self.rows).tensors, strict=True)


def test_a_loader_is_iterated_once_per_seed_and_epoch_for_all_runs_of_the_seed():
    data = Pairs(20)
    task = linear_task(train=DataLoader(data, 5, shuffle=True), epochs=3)
    fit(task, [plan(lr, seed) for seed in (0, 1) for lr in (0.01, 0.02, 0.03)])
    assert data.read == 20 * 3 * 2


def test_a_stream_is_iterated_once_per_seed_epoch_and_cycle():
    data = PairFlow(20)
    task = linear_task(train=DataLoader(data, 5), steps_per_epoch=6, epochs=3)
    fit(task, [plan(lr, seed) for seed in (0, 1) for lr in (0.01, 0.02, 0.03)], evaluate_every=2)
    assert data.iterated == 2 * 3 * 2  # 4 batches a cycle, so two cycles an epoch


def test_a_feed_hands_out_pieces_and_can_go_back():
    source = source_of("loader", 7)
    whole = epoch(source, 5, 1)
    feed = Feed(source, 5)
    pieces = [*feed.take(1, 0, 3), *feed.take(1, 3, 4)]
    assert [values(batch) for batch in pieces] == whole
    assert [values(batch) for batch in feed.take(1, 2, 2)] == whole[2:4]
    assert [values(batch) for batch in feed.take(2, 0, 1)] == epoch(source, 5, 2)[:1]


PROBED = {
    "tensors": numbers,
    "plain": Plain,
    "loader": lambda n: DataLoader(numbers(n), 100, shuffle=True),
    "loader of large batches": lambda n: DataLoader(numbers(n), 300, shuffle=True),
    "stream": Flow,
}


@pytest.mark.parametrize("name", PROBED)
@pytest.mark.parametrize("rows", [7, 256, 700])
def test_a_probe_is_fixed_and_has_about_256_rows(name, rows):
    """Batches of a loader are taken whole, and so are those that a data set is read in."""
    data = PROBED[name](rows)
    first, second = ([values(batch) for batch in fixed_subset(data, 64, None)] for _ in range(2))
    size = {"loader": 100, "loader of large batches": 300}.get(name, 64)
    expected = min(rows, -(-256 // size) * size)
    assert first == second
    assert len({row for batch in first for row in batch}) == sum(map(len, first)) == expected


@pytest.mark.parametrize("rows", [1, 255, 256, 700])
def test_a_probe_of_a_subset_of_tensors_holds_rows_of_the_subset(rows):
    subset = Subset(Subset(numbers(2000), range(100, 1900)), range(1, 1 + rows))
    [batch] = fixed_subset(subset, 64, None)
    assert len(batch[0]) == min(rows, 256)
    assert set(values(batch)) <= set(map(float, range(101, 101 + rows)))


@pytest.mark.parametrize("rows", [1, 6, 11, 23])
@pytest.mark.parametrize(
    "kind",
    [
        numbers,
        Plain,
        Flow,
        lambda n: DataLoader(numbers(n), SIZE, shuffle=True),
        lambda n: Subset(numbers(50), range(n)),
    ],
    ids=["tensors", "plain", "stream", "loader", "subset"],
)
def test_an_evaluation_sees_every_row_once_in_the_same_order(kind, rows):
    batches = evaluation_batches(kind(rows), SIZE, None)
    first, second = ([row for batch in batches for row in values(batch)] for _ in range(2))
    assert first == second
    assert sorted(first) == list(range(rows))


def test_reading_errors_are_one_line_with_the_place():
    class Torn(Plain):
        def __getitem__(self, index):
            raise OSError("torn\npage")

    loss = {"criterion": None, "loss": lambda model, batch: model(batch).mean()}
    with pytest.raises(TaskFailed, match=r"OSError: torn page \(test_sources.py, line \d+\)"):
        range_test(linear_task(train=Torn(), valid=None, **loss), steps=8, seeds=1)


def test_the_last_batch_of_an_epoch_is_trained_on():
    history = fit(linear_task(epochs=1), [plan()])
    assert history.train_loss.shape == (1, PER_EPOCH)


def test_persistent_workers_neither_mix_the_orders_nor_move_the_callers_loader():
    loader = DataLoader(numbers(), SIZE, shuffle=True, num_workers=1, persistent_workers=True)
    source = training_source(loader, SIZE)
    first, other = epoch(source, 7, 0), epoch(source, 7, 1)
    a, b = source.epoch(7, 0), source.epoch(7, 1)
    pairs = [(values(next(a)), values(next(b))) for _ in first]
    assert [x for x, _ in pairs] == first
    assert [y for _, y in pairs] == other
    assert loader.persistent_workers
    assert loader._iterator is None
    own = iter(loader)
    assert epoch(source, 7, 0) == first
    assert loader._iterator is own
    assert len(list(own)) == len(first)
    own._shutdown_workers()


def test_validation_batches_of_a_loader_are_read_once():
    data = Pairs(20)
    history = fit(linear_task(valid=DataLoader(data, 6)), [plan(seed=k) for k in (0, 1)])
    assert data.read == 20
    tensors = fit(linear_task(valid=regression_rows(20)), [plan(seed=k) for k in (0, 1)])
    np.testing.assert_allclose(history.measures["loss"], tensors.measures["loss"], rtol=1e-12)


def test_validation_batches_that_were_not_read_to_the_end_are_read_again():
    data = Plain(20)
    batches = evaluation_batches(DataLoader(data, 5), SIZE, None)
    next(iter(batches))
    assert [values(b) for b in batches] == [values(b) for b in batches]
    assert data.read == 5 + 20


class Wide(Plain):
    """Rows of many numbers that take no memory."""

    def __getitem__(self, index: int):
        return super().__getitem__(index).expand(2**21)


@pytest.mark.parametrize(("rows", "times"), [(8, 1), (9, 3)])
def test_validation_batches_of_more_numbers_than_can_be_kept_are_read_each_time(rows, times):
    data = Wide(rows)
    batches = evaluation_batches(DataLoader(data, batch_size=None), 1, None)
    read = [[float(b[0]) for b in batches] for _ in range(3)]
    assert read == [list(map(float, range(rows)))] * 3
    assert data.read == rows * times


@pytest.mark.parametrize(("width", "at_once"), [(1, 16), (2**19, 8), (2**21, 2), (2**23, 1)])
def test_as_many_batches_are_held_at_once_as_their_numbers_allow(width, at_once):
    data = TensorDataset(torch.zeros(20, 1).expand(20, width))
    feed = Feed(training_source(data, 1), 0)
    held = {batch[0].untyped_storage().nbytes() for batch in feed.take(0, 0, 1)}
    assert held == {4 * width * at_once}
    assert feed.at_once == at_once
    wide = [(torch.zeros(1).expand(width),)] * 17
    assert sum(map(len, in_pieces(wide))) == 17
    largest = max(sum(b[0].numel() for b in piece) for piece in in_pieces(wide))
    assert largest <= max(2**22, width)


def test_pieces_of_anything_that_is_iterated_draw_nothing_and_are_the_same_every_time():
    loader = DataLoader(numbers(), SIZE, shuffle=True)
    with no_global_draw():
        first, again = ([values(b) for p in in_pieces(loader) for b in p] for _ in range(2))
    assert first == again
    assert sorted(row for batch in first for row in batch) == list(range(ROWS))


def test_text_in_a_batch_counts_by_its_length():
    batches = [("x" * 2**21, torch.zeros(1)), ("y" * 2**21, torch.zeros(1)), ("z", 1)]
    assert [len(piece) for piece in in_pieces(batches)] == [1, 2]


def test_batches_of_workers_that_are_kept_leave_shared_memory():
    batches = evaluation_batches(DataLoader(numbers(), SIZE, num_workers=1), SIZE, None)
    first, second = ([(values(b), b[0].is_shared()) for b in batches] for _ in range(2))
    assert [v for v, _ in first] == [v for v, _ in second]
    assert all(shared for _, shared in first)
    assert not any(shared for _, shared in second)


def test_a_piece_holds_a_bounded_number_of_batches():
    assert [len(p) for p in in_pieces([(torch.zeros(1),)] * 150)] == [64, 64, 22]
