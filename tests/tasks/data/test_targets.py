"""Where the target of a batch lies, and a copy of the batch with another one."""

from types import MappingProxyType

import numpy as np
import pytest
import torch
from kinds_of_batches import KINDS, Graph, Named, Output, Rows
from small_tasks import linear_task, regression_rows
from torch.nn.utils.rnn import pack_sequence

from lrfinder import InvalidArgument, Task
from lrfinder.tasks.data.batches import alike
from lrfinder.tasks.data.targets import NAMES, place_of

x, y = torch.randn(6, 4), torch.arange(6.0)
WITHOUT = {"tuple with None", "named tuple in a list"}
"""Kinds of batches in which nothing tells which part is the target."""


def made(kind: str):
    return KINDS[kind][0](list(regression_rows(6)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_of_every_kind_of_batch_is_found_and_exchanged_in_a_copy(kind):
    batch, read = made(kind), KINDS[kind][1]
    place = place_of(batch, (lambda b: read(b)[1]) if kind in WITHOUT else None)
    before = place.of(batch)
    assert before is read(batch)[1]
    twin = place.put(batch, before + 1)
    assert type(twin) is type(batch)
    assert twin is not batch
    assert torch.equal(read(twin)[1], before + 1)
    assert alike([read(twin)[0]], [read(batch)[0]])
    assert place.of(batch) is before
    assert place.of(twin) is read(twin)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_all_other_parts_and_attributes_stay(kind):
    batch = made(kind)
    if hasattr(batch, "__dict__") and kind != "attributes":
        batch.further = "kept"
    place = place_of(batch, lambda b: KINDS[kind][1](b)[1])
    twin = place.put(batch, place.of(batch))
    assert "graph" in kind or alike(twin, batch)  # a graph here refers to itself
    assert getattr(twin, "further", None) == getattr(batch, "further", None)


@pytest.mark.parametrize("kind", sorted(WITHOUT))
def test_where_nothing_tells_which_part_it_is_there_is_no_target(kind):
    assert place_of(made(kind)) is None


@pytest.mark.parametrize(
    "batch",
    [x, [x], (x, x, y), [x, 3], (x, None), (x, "words"), {"x": x}, {"y": None}, {"label": True},
     "text", 3, None, Rows([x]), pack_sequence([x])],
)  # fmt: skip
def test_a_batch_without_a_target_has_none(batch):
    assert place_of(batch) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_known_by_its_name(name):
    class Data:
        pass

    data = Data()
    data.features, data.other = x, y
    setattr(data, name, y)
    for batch in ({"x": x, name: y, "other": x}, Output(x=x, **{name: y}), data, [data]):
        assert place_of(batch).of(batch) is y


@pytest.mark.parametrize(
    ("batch", "target"),
    [
        ({"x": x, "next": y}, "next"),
        ({"x": x, 0: y}, 0),
        ((x, y, x), 1),
        ((x, x, y), -1),
        (Named(x, y), "y"),
        (Named(x, y), 1),
        (Graph(x, y), "y"),
        (MappingProxyType({"a": {"b": [x, y]}}), lambda batch: batch["a"]["b"][1]),
        ((x, {"boxes": y}), lambda batch: batch[1]["boxes"]),
        ([Graph(x, y)], lambda batch: batch[0].y),
        ({"x": x, "y": x, "z": y}, "z"),
    ],
)
def test_what_the_task_names_is_the_target(batch, target):
    place = place_of(batch, target)
    assert place.of(batch) is y
    assert torch.equal(place.of(place.put(batch, y + 1)), y + 1)
    assert place.of(batch) is y


@pytest.mark.parametrize(
    ("batch", "target", "message"),
    [
        ({"x": x}, "labels", "'labels' is none of a dict with x"),
        ((x, y), 2, "2 is none of a tuple of 2"),
        ((x, y), -3, "-3 is none of"),
        (x, 0, "0 is none of a Tensor"),
        (Graph(x, y), "z", "'z' is none of a Graph"),
        ((x, y), lambda batch: batch[1][:3], "not one that it makes"),
        ((x, y), lambda batch: None, "not one that it makes"),
        ((x, y), lambda batch: batch, "not one that it makes"),
    ],
)
def test_a_target_that_a_batch_does_not_have_is_refused(batch, target, message):
    with pytest.raises(InvalidArgument, match="target") as caught:
        place_of(batch, target)
    assert message in str(caught.value)


@pytest.mark.parametrize("target", [True, 1.5, "", ("x", "y"), torch.ones(2)])
def test_what_cannot_name_a_target_is_refused_at_once(target):
    with pytest.raises(InvalidArgument, match="target must be a key, an index"):
        linear_task(target=target)


@pytest.mark.parametrize("target", [None, False, 0, -1, "labels", len])
def test_from_objects_takes_a_target_too(target):
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    task = Task.from_objects(model, optimizer, torch.nn.MSELoss(), regression_rows(), target=target)
    assert task.target is target


def test_a_batch_whose_copies_share_its_target_is_left_as_it_was():
    class Shared:
        """A view on a store."""

        def __init__(self, store):
            self.store = store

        @property
        def y(self):
            return self.store["y"]

        @y.setter
        def y(self, value):
            self.store["y"] = value

    batch = Shared({"x": x, "y": y})
    with pytest.raises(ValueError, match="shares"):
        place_of(batch).put(batch, y + 1)
    assert batch.y is y


def test_an_array_of_numpys_is_a_target():
    batch = {"x": x, "labels": np.arange(6)}
    assert place_of(batch).of(batch) is batch["labels"]
