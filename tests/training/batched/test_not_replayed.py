"""Steps that look alike, and are not, end where they end without a recording."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from test_replay import LRS, plain, served, task, trained
from torch import Tensor, nn
from torch.nn import functional

from lrfinder import Task
from lrfinder.errors import InvalidArgument
from lrfinder.training.batched.trainer import BatchedTrainer

OTHER = 5  # seed of a model that is not like the others


def seeds_the_next_step(m: nn.Module, b: list[Tensor]) -> Tensor:
    noise = torch.randn(6)
    torch.manual_seed(3)
    return functional.cross_entropy(m(b[0] + noise), b[1])


def test_a_step_that_sets_the_random_state_is_not_replayed(monkeypatch):
    def losses(one: Task) -> list[np.ndarray]:
        return [trained(one, runs)[0] for runs in (1, 3)]

    def noisy() -> Task:
        return task(lambda: nn.Linear(6, 3), criterion=None, loss=seeds_the_next_step)

    one = noisy()
    found = losses(one)
    assert not served(one)
    plain(monkeypatch)
    for a, b in zip(found, losses(noisy()), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3)


class Activated(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.act = nn.Linear(6, 3), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.inner(x))


def scaled(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


def kind(first: object, other: object) -> object:
    return other if torch.initial_seed() == OTHER else first


BY_SEED: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(nn.Linear(6, 3), kind(nn.Tanh(), nn.Sigmoid())),
    "functions of torch": lambda: Activated(kind(torch.tanh, torch.sigmoid)),
    "functions": lambda: Activated(kind(lambda x: x, lambda x: x * x)),
    "partials": lambda: Activated(partial(torch.mul, other=kind(1.0, 3.0))),
    "closures": lambda: Activated(scaled(kind(1.0, 3.0))),
}


@pytest.mark.parametrize("model", list(BY_SEED.values()), ids=list(BY_SEED))
def test_a_model_of_another_seed_is_not_replayed_as_the_first(model, monkeypatch):
    def losses(one: Task) -> list[np.ndarray]:
        trainer, lrs = BatchedTrainer(), np.full((2, 4, 1), LRS)
        starts = (trainer.start(one, [seed] * 2, [LRS] * 2) for seed in (0, 1, OTHER))
        return [trainer.advance(state, lrs) for state in starts]

    one = task(model)
    found = losses(one)
    plain(monkeypatch)
    np.testing.assert_allclose(found, losses(task(model)), rtol=2e-3)


@pytest.mark.parametrize("model", list(BY_SEED.values()), ids=list(BY_SEED))
def test_models_that_are_not_alike_are_not_trained_as_one(model):
    with pytest.raises(InvalidArgument, match=r"act|__class__"):
        BatchedTrainer().start(task(model), [0, OTHER], [LRS] * 2)


def test_models_of_a_class_and_a_function_made_anew_are_alike():
    def model() -> nn.Module:
        class Own(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Sequential(Activated(lambda x: x * x))
                self.power = partial(torch.pow, exponent=2)

            def forward(self, x: Tensor) -> Tensor:
                return self.power(self.inner(x))

        return Own()

    BatchedTrainer().start(task(model), [0, 1], [LRS] * 2)
