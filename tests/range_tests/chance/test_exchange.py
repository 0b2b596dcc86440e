"""How targets change places for the permutation test, and what it reads off the losses."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kinds_of_batches import COUNTED, KINDS, task_of
from small_tasks import linear_task, regression_rows
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import InvalidArgument
from lrfinder.range_tests.chance.exchange import (
    ALIKE,
    FEW_ROWS,
    NO_ROWS,
    NO_TARGET,
    NONE_AT_ALL,
    NOT_COPIED,
    SAME_INPUTS,
    SMALL,
    Exchange,
    Unchecked,
    exchange,
)
from lrfinder.range_tests.chance.permutation_test import NOT_COMPUTED, UNPAIRED, UNREAD, compared

x16 = torch.randn(16, 4, dtype=torch.float64)
PERMUTED = [f"permuted {k}" for k in range(16)]


def labels(start: int = 0, rows: int = 16) -> torch.Tensor:
    return torch.arange(start, start + rows)


def sets(made: Exchange | Unchecked) -> dict[str, list]:
    assert isinstance(made, Exchange), made
    return {name: list(batches) for name, batches in made.sets.items()}


def why(made: Exchange | Unchecked) -> str:
    assert isinstance(made, Unchecked)
    return made.why


def elements(tensors) -> Counter:
    return Counter(float(value) for tensor in tensors for value in tensor.flatten())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_batch_keeps_its_class_its_inputs_and_its_targets(kind):
    """The rows stay the same rows, only their targets change places; the batches stay untouched."""
    read = KINDS[kind][1]
    task = replace(task_of(kind), target=lambda batch: read(batch)[1])
    if kind in COUNTED:
        assert task.rows(task.data().fixed_subset[0]) == 16
    batches = task.data().fixed_subset
    before = [read(batch)[1].clone() for batch in batches]
    found = sets(exchange(task, batches))
    for name in PERMUTED:
        dealt = found[name]
        assert [type(batch) for batch in dealt] == [type(batch) for batch in found["own"]]
        for twin, batch in zip(dealt, found["own"], strict=True):
            inputs, targets = read(twin)
            assert torch.equal(inputs, read(batch)[0])
            assert elements([targets]) == elements([read(batch)[1]])
            assert not (targets == read(batch)[1]).any()  # none keeps its place
    for batch, target in zip(batches, before, strict=True):
        assert torch.equal(read(batch)[1], target)


shapes = st.lists(st.integers(1, 3), max_size=2)


@given(st.integers(32, 60), shapes, st.integers(0, 2), st.integers(0, 15))
def test_rows_change_places_whole_and_along_their_own_dimension(rows, shape, place, number):
    dim = min(place, len(shape))
    y = torch.randn(*shape[:dim], rows, *shape[dim:])
    kept = y.clone()
    batch = {"x": torch.randn(rows, 2), "labels": y}
    twin = sets(exchange(linear_task(), [batch]))[f"permuted {number}"][0]
    assert twin["x"] is batch["x"]
    ours = [tuple(row.flatten().tolist()) for row in y.unbind(dim)]
    theirs = [tuple(row.flatten().tolist()) for row in twin["labels"].unbind(dim)]
    assert Counter(ours) == Counter(theirs)
    assert all(a != b for a, b in zip(ours, theirs, strict=True))
    assert batch["labels"] is y
    assert torch.equal(y, kept)


@given(st.integers(32, 60), st.integers(0, 15), st.sampled_from(["tuple", "dict", "list", "array"]))
def test_parts_of_a_target_change_places_together(rows, number, kind):
    y, z = torch.arange(rows), torch.arange(rows) * 2.0
    target = {
        "tuple": (y, z),
        "dict": {"a": y, "b": z, "name": "boxes"},
        "list": [{"a": k, "b": 2.0 * k} for k in range(rows)],
        "array": y.numpy(),
    }[kind]
    batch = (torch.randn(rows, 2), target)
    found = sets(exchange(linear_task(), [batch]))[f"permuted {number}"][0][1]
    assert type(found) is type(target)
    if kind == "list":
        a, b = [one["a"] for one in found], [one["b"] for one in found]
    elif kind == "array":
        a, b = found.tolist(), [2 * k for k in found]
    else:
        a, b = (part.tolist() for part in (found if kind == "tuple" else [found["a"], found["b"]]))
    assert sorted(a) == list(range(rows))
    assert b == [2 * k for k in a]
    assert all(k != place for place, k in enumerate(a))


@given(st.integers(8, 20), st.integers(0, 15), st.integers(4, 6))
def test_targets_without_rows_change_places_between_batches_of_one_shape(count, number, rows):
    """Never along time: each stays whole."""
    batches = [(torch.randn(7, rows, 3), torch.randn(7)) for _ in range(count)]
    other = (torch.randn(9, rows, 3), torch.randn(9))
    task = linear_task(rows=lambda batch: batch[0].shape[1])
    found = sets(exchange(task, [*batches, other]))
    assert len(found["own"]) == count  # the other one has nothing to change places with
    ours = [target for _, target in batches]
    theirs = [target for _, target in found[f"permuted {number}"]]
    assert {id(target) for target in ours} == {id(target) for target in theirs}
    assert all(a is not b for a, b in zip(ours, theirs, strict=True))


def test_the_rows_of_a_time_first_target_change_places_and_not_its_steps():
    task = linear_task(rows=lambda batch: batch[0].shape[1])
    batches = [(torch.randn(7, rows, 3), torch.randn(7, rows)) for rows in (20, 20, 12)]
    for dealt in sets(exchange(task, batches)).values():
        for (_, y), (_, own) in zip(dealt, batches, strict=True):
            columns = {tuple(column.tolist()) for column in own.unbind(1)}
            assert {tuple(column.tolist()) for column in y.unbind(1)} <= columns


def test_small_batches_change_their_whole_targets():
    batches = [(torch.randn(4, 3), labels(4 * k, 4)) for k in range(10)]
    for name, dealt in sets(exchange(linear_task(), batches)).items():
        assert {tuple(y.tolist()) for _, y in dealt} <= {tuple(y.tolist()) for _, y in batches}
        assert name in ("own", "drawn") or len({id(y) for _, y in dealt}) == 10


def test_what_is_drawn_with_replacement_are_targets_of_the_batch():
    ((_, y),) = sets(exchange(linear_task(), [(torch.randn(40, 2), labels(0, 40))]))["drawn"]
    assert set(y.tolist()) < set(range(40))


def test_a_last_batch_of_few_rows_does_not_stand_in_the_way():
    full, last = (x16, labels()), (x16[:3], labels(0, 3))
    assert len(sets(exchange(linear_task(), [full] * 4 + [last]))["own"]) == 4
    assert why(exchange(linear_task(), [last] * 7)) == FEW_ROWS.format(21)


@pytest.mark.parametrize(
    ("others", "enough"), [([1] * 10, True), ([0] * 9 + [7], False), ([1] * 7, False)]
)
def test_eight_rows_with_other_targets_than_most_are_enough_to_exchange(others, enough):
    """A rare class is checked, too, wherever its rows lie."""
    rows = [torch.tensor([1] * more + [0] * (16 - more)) for more in others]
    found = exchange(linear_task(), [(x16, y) for y in rows])
    assert isinstance(found, Exchange) is enough
    assert enough or why(found) == ALIKE


def test_making_the_sets_moves_no_random_state_and_keeps_no_copies():
    batches = [(torch.randn(40, 2), labels(0, 40))]
    state = torch.get_rng_state()
    made = exchange(linear_task(), batches)
    first, second = sets(made), sets(made)
    assert torch.equal(state, torch.get_rng_state())
    for name in PERMUTED:
        assert torch.equal(first[name][0][1], second[name][0][1])
        assert first[name][0][1] is not second[name][0][1]


class Sealed(tuple):
    """A batch of which every copy has the parts that it was made of."""

    def __new__(cls, parts):
        one = super().__new__(cls, (x16, labels()))
        one.made_of = parts
        return one


class Locked:
    """A batch whose parts cannot be set."""

    def __init__(self) -> None:
        self.x = x16

    @property
    def y(self) -> torch.Tensor:
        return labels()


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([(x16, torch.ones(16, 1))] * 10, ALIKE),
        ([(x16, torch.tensor([1] * 16))] * 10, ALIKE),
        ([(x16, ["cat"] * 16)] * 10, ALIKE),
        ([(x16[:7], torch.arange(7))] * 10, ALIKE),  # whole targets, of which all are one
        ([(x16, torch.arange(16.0)[:, None].to_sparse())] * 7, NO_ROWS),
        ([(x16, [1, 2])] * 7, NO_ROWS),
        ([(x16, torch.tensor(1.0))] * 7, NO_ROWS),
        ([(x16, torch.tensor(1.0))] * 10, ALIKE),
        ([(x16, pack_sequence([torch.ones(3)] * 16))] * 7, NO_ROWS),
        ([(x16[:7], torch.arange(7))] * 7, SMALL),
        ([(x16[:k], torch.arange(k)) for k in range(1, 8)] * 2, SMALL),
        ([(x16, labels())], FEW_ROWS.format(16)),
        ([(x16[k % 16 :][:1], labels(0, 1)) for k in range(31)], FEW_ROWS.format(31)),
        ([Sealed(())] * 10, NOT_COPIED),
        ([Locked()] * 10, NOT_COPIED),
    ],
)
def test_each_reason_why_targets_are_not_exchanged_is_told_by_itself(batches, reason):
    task = linear_task(rows=lambda batch: len(batch.x if hasattr(batch, "x") else batch[0]))
    assert why(exchange(task, batches)) == reason


def test_a_graph_in_one_batch_has_too_few_rows_until_its_nodes_are_counted():
    """A data set of one sample, which a loader gives a dimension of one row."""
    batch = {"x": torch.randn(1, 40, 3), "labels": torch.randint(5, (1, 40))}
    assert why(exchange(linear_task(), [batch])) == FEW_ROWS.format(1)
    found = exchange(linear_task(rows=lambda batch: batch["x"].shape[1]), [batch])
    for name, (dealt,) in sets(found).items():
        assert dealt["labels"].shape == (1, 40)
        assert torch.equal(dealt["labels"], batch["labels"]) is (name == "own")


@pytest.mark.parametrize("last", [0, 18])
@pytest.mark.parametrize("held", ["rows", "loader", "tensors"])
def test_where_tokens_are_counted_the_samples_of_the_data_set_change_places(held, last):
    """As where Task(rows=...) weighs the batches of a language model."""
    words = torch.randint(50, (50 + last, 7))
    if held == "tensors":
        data, batches = TensorDataset(words, words), [(words, words)]
    else:
        rows = [{"input_ids": row, "labels": row} for row in words]
        data = rows if held == "rows" else DataLoader(rows, 50)
        cut = [words[:50], words[50:]][: 1 + (last > 0)]
        batches = [{"input_ids": part, "labels": part} for part in cut]
    task = linear_task(
        valid=data,
        batch_size=50,
        rows=lambda batch: (batch[0] if held == "tensors" else batch["labels"]).numel(),
    )
    key = 1 if held == "tensors" else "labels"
    for name, dealt in sets(exchange(task, batches)).items():
        for twin, batch in zip(dealt, batches, strict=True):
            ours, theirs = ({tuple(row) for row in one[key].tolist()} for one in (batch, twin))
            assert theirs <= ours
            assert torch.equal(twin[key], batch[key]) is (name == "own")


@pytest.mark.parametrize(
    "batch", [x16, [x16], {"x": x16}, (x16, x16, x16), (x16, None), {"x": x16, "next": x16}]
)
def test_where_no_target_is_found_there_is_nothing_to_exchange(batch):
    assert why(exchange(linear_task(), [batch] * 10)) == NO_TARGET


def test_a_target_that_is_named_is_the_one_that_changes_places():
    batch = {"x": torch.randn(40, 2), "labels": labels(0, 40), "next": labels(100, 40)}
    for dealt in sets(exchange(linear_task(target="next"), [batch])).values():
        assert dealt[0]["labels"] is batch["labels"]
        assert dealt[0]["next"].min() >= 100
    assert why(exchange(linear_task(target=False), [batch])) == NONE_AT_ALL
    with pytest.raises(InvalidArgument, match="'z' is none of a dict with x, labels, next"):
        exchange(linear_task(target="z"), [batch])


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": torch.ones(40, 3)},
        {"x": torch.zeros(40), "word": "a", "n": 3, "none": None},
        {"x": torch.arange(3.0).expand(40, 3), "words": ["a"] * 40},
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_where_all_rows_have_the_same_inputs_nothing_can_be_learnt_of_them(inputs, count):
    batch = {**inputs, "y": labels(0, 40)}
    assert why(exchange(linear_task(rows=lambda batch: 40), [batch] * count)) == SAME_INPUTS


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": torch.arange(40)},
        {"x": np.arange(40)},
        {"x": torch.ones(40), "words": ["a", "b"] * 20},
        {"x": torch.ones(40), "object": object()},
        {"x": pack_sequence([torch.full((2,), float(k)) for k in range(40)])},
        {"x": torch.eye(40).to_sparse()},
    ],
)
def test_inputs_that_differ_are_seen(inputs):
    batch = {**inputs, "y": labels(0, 40)}
    assert sets(exchange(linear_task(rows=lambda batch: 40), [batch]))


def test_labels_that_are_the_inputs_themselves_change_places_and_the_inputs_do_not():
    words = torch.randint(9, (40, 5))
    for dealt in sets(exchange(linear_task(), [{"input_ids": words, "labels": words}])).values():
        assert dealt[0]["input_ids"] is words


def test_a_number_may_be_the_target_of_a_batch_of_one_row():
    batches = [{"x": torch.randn(1, 3), "label": k} for k in range(40)]
    for name, dealt in sets(exchange(linear_task(), batches)).items():
        found = [batch["label"] for batch in dealt]
        assert name == "drawn" or sorted(found) == list(range(40))
        assert name == "own" or found != list(range(40))


def test_without_any_data_no_target_is_asked_for():
    assert why(exchange(linear_task(), [[torch.zeros(1, 1)]])) == SAME_INPUTS


def test_inputs_that_differ_between_batches_only_are_seen():
    batches = [{"x": torch.full((4,), float(k)), "y": labels(4 * k, 4)} for k in range(10)]
    assert sets(exchange(linear_task(), batches))


def losses(own, drawn, permuted) -> dict[str, np.ndarray]:
    rows = {name: np.array(values) for name, values in zip(PERMUTED, permuted, strict=True)}
    return {"own": np.array(own), "drawn": np.array(drawn), **rows}


def never() -> bool:
    return False


def test_gap_and_deviation_are_those_of_the_losses_with_exchanged_targets():
    values = np.random.default_rng(0).normal(2, 0.1, (16, 3))
    found = compared(losses([1.0, 2.0, 3.0], [1.3, 2.3, 3.3], values), never)
    assert found.gap == pytest.approx(values.mean(axis=0) - [1, 2, 3])
    assert found.deviation == pytest.approx(values.std(axis=0, ddof=1))
    assert found.why_not is None


@pytest.mark.parametrize(
    ("own", "drawn", "noise", "reason"),
    [
        (1.0, 1.0, 0.0, UNREAD),
        (1.0, 1.0 + 1e-7, 1e-7, UNREAD),  # float32 rounds so
        (1.0, 1.2, 1e-7, UNPAIRED),
        (0.0, 0.2, 1e-7, UNPAIRED),
        (-500.0, -500.3, 3e-5, UNPAIRED),
        (1.0, np.nan, 0.1, NOT_COMPUTED),
        (np.inf, 1.0, 0.1, NOT_COMPUTED),
        (1.0, 1.2, np.nan, NOT_COMPUTED),
    ],
)
def test_a_loss_that_tells_nothing_is_no_evidence(own, drawn, noise, reason):
    found = compared(losses([own], [drawn], own + noise * np.cos(np.arange(16.0))[:, None]), never)
    assert np.isnan(found.gap).all()
    assert found.why_not == reason


@pytest.mark.parametrize(("own", "drawn", "noise"), [(1.0, 1.0, 0.0), (1.0, 1.2, 1e-7), (0, 2, 0)])
def test_of_a_loss_that_pairs_rows_with_targets_next_to_no_change_is_nothing_learnt(
    own, drawn, noise
):
    changed = own + noise * np.cos(np.arange(16.0))[:, None]
    found = compared(losses([own], [drawn], changed), lambda: True)
    assert found.gap == 0
    assert found.deviation > 0
    assert found.why_not is None


def test_what_cannot_be_computed_is_not_known_whether_paired_or_not():
    found = compared(losses([np.nan], [1.2], np.full((16, 1), 1.2)), lambda: True)
    assert np.isnan(found.gap).all()
    assert found.why_not == NOT_COMPUTED


def test_one_run_that_tells_something_is_enough():
    changes = np.stack([np.zeros(16), np.arange(16.0), np.full(16, np.nan)], axis=1)
    found = compared(losses([1.0, 1.0, np.nan], [1.0, 1.5, np.nan], 1 + changes), never)
    assert np.isnan(found.gap).tolist() == [True, False, True]
    assert found.why_not is None


def test_a_subset_of_rows_is_what_is_exchanged():
    task = linear_task(valid=regression_rows(1000))
    (own,) = sets(exchange(task, task.data().fixed_subset))["own"]
    assert len(own[1]) == 256
