"""What is the same problem when a task is made again, and what is another one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_tasks import linear_model, linear_task, no_global_draw, noisy_task, regression_rows
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, random_split

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.data_checks import OTHER_WEIGHTS
from lrfinder.tasks.data.sketch import sketch
from lrfinder.tasks.fingerprint import check_same, fingerprint
from lrfinder.tasks.task import Task

SAYS = "other {what}"
X, Y = regression_rows().tensors


class Rows(torch.utils.data.Dataset):
    """A map-style data set that augments its rows with the numbers of a generator."""

    def __init__(self, generator=None) -> None:
        self.generator = generator

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int):
        noise = torch.randn(X.shape[1]) if self.generator is None else self.drawn()
        return X[index] + 0.1 * noise, Y[index]

    def drawn(self):
        return torch.tensor(self.generator.standard_normal(X.shape[1]))


class Stream(IterableDataset):
    def __len__(self) -> int:
        return len(X)

    def __iter__(self):
        return zip(X, Y, strict=True)


class Unrepeatable(Rows):
    """One whose generator is out of reach."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng()
        self.drawn = lambda: torch.tensor(generator.standard_normal(X.shape[1]))

    def __getitem__(self, index: int):
        return X[index] + 0.1 * self.drawn(), Y[index]


def drawn_split(seed=None):
    if seed is not None:
        torch.manual_seed(seed)
    return random_split(regression_rows(), [40, 20])[0]


def orthogonal() -> nn.Module:
    model = linear_model()
    nn.init.orthogonal_(model.weight)
    return model


def given_weights() -> Task:
    model = linear_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Task.from_objects(model, optimizer, nn.MSELoss(), DataLoader(regression_rows(), 16))


def with_words(word: str) -> Task:
    def loss(model, batch):
        return model(batch["x"]).square().mean()

    rows = [{"x": x, "word": word} for x in X]
    return linear_task(train=rows, criterion=None, loss=loss, valid=None)


STABLE: dict[str, Callable[[], Task]] = {
    "tensors": linear_task,
    "dropout": noisy_task,
    "rows of a subset": lambda: linear_task(train=drawn_split(0)),
    "a shuffling loader": lambda: linear_task(train=DataLoader(regression_rows(), 8, shuffle=True)),
    "processes": lambda: linear_task(train=DataLoader(Rows(), 8, shuffle=True, num_workers=1)),
    "augmentation": lambda: linear_task(train=Rows(), valid=Rows()),
    "an own generator": lambda: linear_task(train=Rows(np.random.default_rng())),
    "a stream": lambda: linear_task(train=DataLoader(Stream(), 8)),
    "out of reach": lambda: linear_task(train=Unrepeatable(), valid=Unrepeatable()),
    "weights of a decomposition": lambda: linear_task(model=orthogonal),
    "words": lambda: with_words("a"),
    "another size of batches": lambda: linear_task(batch_size=int(torch.randint(4, 9, ()))),
}

OTHER: dict[str, tuple[Callable[[], Task], str]] = {
    "tensors": (
        lambda: linear_task(train=TensorDataset(torch.randn_like(X), Y)),
        "other training data",
    ),
    "targets": (
        lambda: linear_task(train=TensorDataset(X, Y + 0.01 * torch.randn_like(Y))),
        "other training data",
    ),
    "validation": (
        lambda: linear_task(valid=TensorDataset(torch.randn_like(X), Y)),
        "other validation data",
    ),
    "a split": (lambda: linear_task(train=drawn_split()), "other training data"),
    "rows of a list": (
        lambda: linear_task(train=list(zip(torch.randn_like(X), Y, strict=True))),
        "other training data",
    ),
    "weights": (given_weights, "other initial weights"),
}


@pytest.fixture(autouse=True)
def _no_seed():
    torch.seed()
    yield
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", STABLE)
def test_a_task_that_is_made_again_is_the_same(kind):
    made = fingerprint(STABLE[kind](), None)
    torch.seed()
    again = STABLE[kind]()
    with no_global_draw():
        check_same(again, None, made, SAYS)


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_drawn_without_a_seed_is_another_problem(kind):
    make, says = OTHER[kind]
    made = fingerprint(make(), None)
    torch.seed()
    with pytest.raises(InvalidArgument, match=says):
        check_same(make(), None, made, SAYS)


def test_threads_and_rounding_make_no_difference():
    model = nn.Linear(64, 64)
    weights = [p.detach() for p in model.parameters()]
    rounded = [w * (1 + 1e-6 * torch.randn_like(w)) for w in weights]
    assert sketch(weights).alike(sketch(rounded))
    assert not sketch(weights).alike(sketch([2 * w for w in weights]))
    assert not sketch(weights).alike(sketch([w.double() for w in weights]))


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(0),
        torch.full((3, 3), 1 / 3),
        torch.tensor([float("nan"), float("inf"), 1.0]),
        torch.tensor([1e300, -1e300], dtype=torch.float64),
        torch.eye(3).to_sparse(),
        torch.tensor([1 + 2j, 3 - 1j]),
        torch.arange(5, dtype=torch.bfloat16) / 3,
        torch.tensor([True, False]),
        np.array(["a", "b"]),
        {"a": [1, 2.5, "x", None], "b": (torch.ones(2),)},
    ],
    ids=str,
)
def test_a_sketch_of_anything_is_like_itself(value):
    one = sketch(value)
    assert one.alike(sketch(value))
    assert np.isfinite(one.numbers).all()


def test_words_are_compared():
    assert not sketch({"x": "a"}).alike(sketch({"x": "b"}))


def test_weights_that_no_seed_repeats_are_noted_and_not_compared():
    generator = torch.Generator()
    generator.seed()

    def drawn() -> nn.Module:
        model = linear_model()
        nn.init.normal_(model.weight, generator=generator)
        return model

    task = linear_task(model=drawn)
    assert OTHER_WEIGHTS in task.data().notes()
    check_same(task, None, fingerprint(task, None), SAYS)
    assert OTHER_WEIGHTS not in linear_task().data().notes()
