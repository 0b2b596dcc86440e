"""Whether a loss pairs rows with targets is asked of its gradient, at any scale."""

import pytest
import torch
from small_tasks import plain_sgd
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import Task, range_test
from lrfinder.range_tests.chance.exchange import Exchange, exchange
from lrfinder.range_tests.chance.pairing import pairs
from lrfinder.range_tests.chance.permutation_test import UNPAIRED
from lrfinder.range_tests.curve import UNCHECKED

FEATURES = 6


def inputs(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)


def network(weights: float = 1.0, outputs: int = 1, dtype: torch.dtype = torch.float32):
    """A network with all of its weights times a factor."""

    def build() -> nn.Module:
        layers = (nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, outputs))
        model = nn.Sequential(*layers).to(dtype)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(weights)
        return model

    return build


def made(model, loss, level=0.0, scale=1.0, dtype=torch.float32, **fields) -> Task:
    """Targets of this level that depend on the inputs by so much."""
    parts: list[TensorDataset] = []
    for seed, rows in enumerate((320, 200)):
        x = inputs(rows, seed)
        y = level + scale * (
            x[:, :2].sum(dim=1, keepdim=True) + 0.3 * inputs(rows, seed + 9)[:, :1]
        )
        parts.append(TensorDataset(x.to(dtype), y.to(dtype)))
    given = {"train": parts[0], "valid": parts[1], "optimizer": plain_sgd, "epochs": 20}
    return Task(**{**given, "model": model, "loss": loss, **fields})


def found(task: Task) -> bool:
    exchanged = exchange(task, task.data().fixed_subset)
    assert isinstance(exchanged, Exchange)
    return pairs(task, exchanged, 0, None)


def of(criterion):
    return lambda model, batch: criterion(model(batch[0]), batch[1])


def classified(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), (batch[1][:, 0] > 0).long())


TARGETS = {
    nn.MSELoss: [(0.0, 1.0), (0.0, 1e-3), (10.0, 0.1), (-1000.0, 30.0)],
    nn.HuberLoss: [(0.0, 1.0), (0.0, 1e-3)],  # far from all targets the gradient of each is one
    nn.L1Loss: [(0.0, 1.0), (0.0, 1e-3)],
}


@pytest.mark.parametrize("weights", [1.0, 1e-3, 1e-5, 1e-10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("criterion", TARGETS)
def test_a_paired_loss_is_one_whatever_the_scale_of_weights_and_targets(weights, dtype, criterion):
    for level, scale in TARGETS[criterion]:
        model = network(weights, dtype=dtype)
        assert found(made(model, of(criterion()), level, scale, dtype)), (level, scale)


@pytest.mark.parametrize("weights", [1.0, 1e-5, 0.0])
def test_classes_are_paired_before_a_network_uses_its_inputs(weights):
    """With weights of 0 the loss is the same with any targets at all."""
    model = nn.Linear if weights == 0 else None
    build = network(weights, 2) if model is None else lambda: zeroed(nn.Linear(FEATURES, 2))
    assert found(made(build, classified))


def zeroed(layer: nn.Linear) -> nn.Module:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Density(nn.Module):
    """A normal density of y alone."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean, self.log_scale = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.zeros(()))


def density(model, batch):
    away = (batch[1] - model.mean) / model.log_scale.exp()
    return (0.5 * away.square() + model.log_scale).mean()


def apart(model, batch):
    """Energy distance of outputs and targets, which knows no rows."""
    output, y = model(batch[0]), batch[1]
    return 2 * torch.cdist(output, y).mean() - torch.cdist(output, output).mean()


UNPAIRED_LOSSES = {
    "density": (lambda: Density(0.3), density),
    "far density": (lambda: Density(-50.0), density),
    "of sets": (network(), apart),
    "of small sets": (network(1e-5), apart),
    "autoencoder": (
        network(outputs=FEATURES),
        lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[0]),
    ),
    "contrastive": (
        network(outputs=4),
        lambda model, batch: nn.functional.cross_entropy(
            model(batch[0]) @ model(batch[0].roll(1, 1)).T, torch.arange(len(batch[0]))
        ),
    ),
}


@pytest.mark.parametrize(("level", "scale"), [(0.0, 1.0), (10.0, 0.1), (-1000.0, 30.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", UNPAIRED_LOSSES)
def test_a_loss_that_knows_no_pairs_is_told_at_any_scale(kind, dtype, level, scale):
    model, loss = UNPAIRED_LOSSES[kind]
    assert not found(made(lambda: model().to(dtype), loss, level, scale, dtype))


def test_a_compared_loss_without_a_gradient_tells_nothing():
    task = made(network(), of(nn.MSELoss()), valid_loss=lambda model, batch: 1.0)
    assert not found(task)


def test_weights_that_are_sparse_frozen_or_unused_are_no_hindrance():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.unused = nn.Embedding(5, 1, sparse=True), nn.Linear(2, 2)
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

        def forward(self, x):
            return self.words((x[:, 0] > 0).long())

    assert found(made(Model, of(nn.MSELoss())))


def test_a_network_that_does_not_use_its_inputs_yet_is_not_suggested_an_lr():
    task = made(network(1e-8), of(nn.MSELoss()), level=0.3, scale=0.1, epochs=80)
    found = range_test(task, steps=60, probes=3).suggest()
    assert found.lr is None
    assert "does not depend on the inputs" in found.reason


@pytest.mark.slow
@pytest.mark.parametrize("weights", [1e-5, 1e-8])
def test_a_network_that_does_not_use_its_inputs_yet_has_learnt_nothing_and_more_steps_help(weights):
    task = made(network(weights), of(nn.MSELoss()), level=0.3, scale=0.1, epochs=80)
    early = range_test(task).suggest()
    assert early.lr is None
    assert "does not depend on the inputs" in early.reason
    assert "take more --steps" in early.reason
    later = range_test(task, steps=400).suggest()
    assert later.lr is not None, later.reason
    assert UNCHECKED not in later.reason


@pytest.mark.slow
def test_a_density_stays_unchecked_at_any_level():
    for level in (0.0, 3.0):
        adam = lambda model, lr: torch.optim.Adam(model.parameters(), lr)  # noqa: E731
        task = made(lambda: Density(0.0), density, level, optimizer=adam)
        suggestion = range_test(task, max_lr=1.0).suggest()
        assert suggestion.lr is not None, suggestion.reason
        assert f"({UNCHECKED}: {UNPAIRED})" in suggestion.reason
