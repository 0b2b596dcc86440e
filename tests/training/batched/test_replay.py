"""A recorded step gives what the plain one gives, and serves only where that is known."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from lrfinder import Task
from lrfinder.training.batched import state as states
from lrfinder.training.batched.replay import steps
from lrfinder.training.batched.trainer import BatchedTrainer

ROWS, LRS = 40, 0.05
RUN_COUNTS = (1, 2, 4, 7)
scale = 1.0


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)
        self.gain = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._block(x)) * self.gain

    def _block(self, x: Tensor) -> Tensor:
        return x + functional.gelu(self.inner(self.norm(x)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(2, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.view(len(x), 3, 2)).split(4, dim=-1)
        seen = functional.scaled_dot_product_attention(q, k, v)
        return self.out(seen.flatten(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRU(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x.view(len(x), 3, 2))[0][:, -1])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6) / 3)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(x @ self.weight) @ self.weight.t())


class Averaged(nn.Module):
    """A model with a teacher, its own weights averaged, which its forward updates."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.teacher = nn.Linear(6, 3), nn.Linear(6, 3).requires_grad_(False)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.steps.add_(1)
                self.teacher.weight.mul_(0.9).add_(self.inner.weight, alpha=0.1)
        return self.inner(x) + self.teacher(x) / (1 + self.steps)


class Complex(nn.Module):
    """A layer of complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(x.to(torch.cfloat) @ self.weight).sum(-1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)),
    "as wide as what is recorded": lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)),
    "convolutions and batch norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 3, 3),
        nn.BatchNorm1d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 3),
    ),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 3)),
    "a class": Residual,
    "attention": Attention,
    "recurrent": Recurrent,
    "tied": Tied,
    "an averaged teacher": Averaged,
    "complex weights": Complex,
    "in place": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
}


def rows() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=generator)
    return TensorDataset(x, x[:, :3].argmax(1))


def task(model: Callable[[], nn.Module], **options: object) -> Task:
    kept = {"criterion": nn.CrossEntropyLoss(), "batch_size": 16, **options}
    return Task(
        name="replayed",
        model=model,
        train=rows(),
        valid=rows(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9),
        epochs=100,
        **kept,
    )


def trained(
    one: Task, runs: int, updates: int = 40, seeds: int = 2
) -> tuple[np.ndarray, list[Tensor]]:
    """Losses, and all weights and buffers at the end."""
    trainer = BatchedTrainer()
    state = trainer.start(one, [run % seeds for run in range(runs)], [LRS] * runs)
    lrs = LRS * np.linspace(0.2, 1, runs)[:, None, None] * np.ones((1, updates, 1))
    losses = trainer.advance(state, lrs)
    p = state.population
    return losses, [*p.leaves, *p.fixed, *p.buffers]


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_WORTH_RECORDING", 10**9)


def served(one: Task) -> set[int]:
    """Numbers of runs for which a recorded step served."""
    known = one.data(None).findings.get(steps.Recordings)
    recordings = known.by_kind.values() if known is not None else []
    return {runs for own in recordings for runs, serves in own.serves.items() if serves}


@pytest.mark.parametrize("name", list(MODELS))
def test_runs_end_where_they_end_without_it(name, monkeypatch):
    one = task(MODELS[name])
    found = {runs: trained(one, runs) for runs in (4, *RUN_COUNTS)}
    assert served(one) >= ({1, 2} if name == "dropout" else {2, 4, 7})
    plain(monkeypatch)
    other = task(MODELS[name])
    for runs in RUN_COUNTS:
        losses, tensors = trained(other, runs)
        np.testing.assert_allclose(found[runs][0], losses, rtol=2e-3, atol=1e-4)
        for a, b in zip(found[runs][1], tensors, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)
    assert not served(other)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.5},
        {"accumulate": 2},
        {"autocast": torch.bfloat16},
        {"criterion": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))},
        {"criterion": None, "loss": lambda m, b: functional.cross_entropy(m(b[0]), b[1])},
    ],
    ids=lambda options: next(iter(options)),
)
def test_so_they_do_with_other_losses_and_precisions(options, monkeypatch):
    one = task(MODELS["mlp"], **options)
    found = trained(one, 4)
    plain(monkeypatch)
    losses, _ = trained(task(MODELS["mlp"], **options), 4)
    np.testing.assert_allclose(found[0], losses, rtol=2e-2 if "autocast" in options else 2e-3)
    assert 4 in served(one)


def test_a_diverged_run_does_not_hide_that_another_differs(monkeypatch):
    right = steps._Recording.carry_out

    def wrong(self, step):
        computed = right(self, step)
        computed.gradients[0][1] *= 1.01
        return computed

    one = task(MODELS["mlp"])
    trained(one, 2)
    monkeypatch.setattr(steps._Recording, "carry_out", wrong)
    trainer = BatchedTrainer()
    state = trainer.start(one, [0] * 3, [1.0] * 3)
    lrs = np.array([1e4, 0.01, 0.01])[:, None, None] * np.ones((1, 12, 1))
    trainer.advance(state, lrs)
    assert 2 in served(one)
    assert 3 not in served(one)


class Scaled(nn.Module):
    """Reads a global number, which somebody may change."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * scale


def test_what_the_code_reads_elsewhere_is_seen_when_it_changes(monkeypatch):
    one, trainer = task(Scaled), BatchedTrainer()
    state = trainer.start(one, [0, 1], [LRS] * 2)
    lrs = np.full((2, 30, 1), 1e-9)
    before = trainer.advance(state, lrs)
    assert served(one) == {2}
    monkeypatch.setitem(globals(), "scale", 0.0)
    after = trainer.advance(state, lrs)
    again = trainer.advance(trainer.start(one, [0, 1], [LRS] * 2), lrs)
    assert np.all(before != np.float32(np.log(3)))
    np.testing.assert_allclose(after, np.log(3), rtol=1e-5)
    np.testing.assert_allclose(again, np.log(3), rtol=1e-5)


def test_code_that_counts_is_run_at_every_update():
    calls: list[int] = []

    def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        calls.append(1)
        return functional.cross_entropy(model(batch[0]), batch[1])

    one = task(MODELS["mlp"], criterion=None, loss=loss)
    trained(one, 4, updates=0)
    before = len(calls)
    trained(one, 4)
    assert len(calls) - before == 40
    assert not served(one)


def test_frozen_weights_of_another_seed_are_not_taken():
    def model() -> nn.Module:
        built = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        built[0].requires_grad_(False)
        return built

    one = task(model)
    first, _ = trained(one, 3, seeds=1)
    trainer = BatchedTrainer()
    lrs = np.full((3, 40, 1), LRS)
    other = trainer.advance(trainer.start(one, [5, 5, 5], [LRS] * 3), lrs)
    alone = trainer.advance(trainer.start(task(model), [5, 5, 5], [LRS] * 3), lrs)
    np.testing.assert_allclose(other, alone, rtol=1e-5)
    assert not np.allclose(other[-1], first[-1])


def test_batches_of_another_order_are_of_another_form():
    a, b = torch.zeros(4, 2), torch.ones(4, 2)
    forms = [
        steps.Step([a], [], [], batch, batched=False, parts=1).form()
        for batch in ({"x": a, "y": b}, {"y": b, "x": a}, (a, b), [a, b], (a, (b,)), (a[:, :1], b))
    ]
    assert len(set(forms)) == len(forms)
    assert steps.Step([a], [], [], (a, "text"), batched=False, parts=1).form() is None


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


def test_a_batch_that_may_have_methods_has_no_form():
    a, b = torch.zeros(4, 2), torch.ones(4, 2)
    for batch in (Pair(a, b), [Pair(a, b)], {"pair": Pair(a, b)}, OrderedDict(x=a)):
        assert steps.Step([a], [], [], batch, batched=False, parts=1).form() is None
