"""Whether a model learnt anything of its inputs: the permutation test of a range test."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_tasks import linear_task, plain_sgd, regression_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Curve, Task, range_test
from lrfinder.range_tests.permutation_test import mean_and_deviation, with_permuted_losses

ROWS, FEATURES, CLASSES = 500, 8, 4


def inputs(seed: int, rows: int) -> torch.Tensor:
    return torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(seed))


def labels(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def values(x: torch.Tensor) -> torch.Tensor:
    return (x[:, :2].prod(dim=1) + x[:, 2])[:, None]


def network(outputs: int):
    return lambda: nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, outputs))


def adam(model, lr):
    return torch.optim.Adam(model.parameters(), lr)


def sgd_with_momentum(model, lr):
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


KINDS = {
    "classes": (labels, CLASSES, nn.CrossEntropyLoss(), adam, 32),
    "numbers": (values, 1, nn.MSELoss(), sgd_with_momentum, 32),
    "batches of 4": (labels, CLASSES, nn.CrossEntropyLoss(), sgd_with_momentum, 4),
}


def task(kind: str, *, signal: bool, seed: int) -> Task:
    """A small network whose targets belong to its inputs, or to the inputs of other rows."""
    target, outputs, criterion, optimizer, batch_size = KINDS[kind]
    parts = []
    for rows in (ROWS, 200):
        x = inputs(2 * seed + (rows == ROWS), rows)
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
        y = target(x)
        parts.append(TensorDataset(x, y if signal else y[order]))
    return Task(
        model=network(outputs),
        train=parts[0],
        valid=parts[1],
        criterion=criterion,
        optimizer=optimizer,
        batch_size=batch_size,
    )


def suggested_without_signal(seeds: range) -> list[tuple[str, int]]:
    return [
        (kind, seed)
        for kind in KINDS
        for seed in seeds
        if range_test(task(kind, signal=False, seed=seed), seeds=[seed]).suggest().lr is not None
    ]


def test_of_nine_tests_without_a_signal_at_most_one_suggests_an_lr():
    assert len(suggested_without_signal(range(20, 23))) <= 1


@pytest.mark.slow
def test_of_sixty_tests_without_a_signal_at_most_three_suggest_an_lr():
    assert len(suggested_without_signal(range(20))) <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_same_inputs_and_their_own_targets_every_test_suggests_an_lr(kind):
    for seed in range(3):
        suggestion = range_test(task(kind, signal=True, seed=seed), seeds=[seed]).suggest()
        assert suggestion.lr is not None, suggestion.reason


def evidence(curve: Curve) -> list[float]:
    return [probe.evidence for probe in curve.probes]


@pytest.mark.parametrize("as_loader", [False, True])
def test_the_refusal_says_that_the_inputs_do_not_matter_and_what_to_do(as_loader):
    made = task("classes", signal=False, seed=3)
    if as_loader:
        made = replace(made, train=DataLoader(made.train, 32, shuffle=True), valid=None)
    suggestion = range_test(made, seeds=3).suggest()
    assert suggestion.verdict == "inconclusive"
    assert "does not depend on the inputs" in suggestion.reason
    assert len(suggestion.reason.partition(";")[0]) < 75  # what a picture's title has room for
    assert "--steps" in suggestion.reason


def test_permuted_losses_are_the_criterion_of_exchanged_targets():
    made = linear_task(criterion=nn.MSELoss(), metrics={"own": lambda output, y: y.sum()})
    x, y = regression_rows(20).tensors
    permuted = with_permuted_losses(made, [(x, y)] * 4)
    output, losses = x[:, :1], []
    for k, (name, loss) in enumerate(permuted.metrics.items()):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(k))
        assert name == f"permuted {k}"
        assert loss(output, y) == nn.functional.mse_loss(output, y[order])
        losses.append(float(loss(output, y)))
    found = mean_and_deviation({f"permuted {k}": np.array([v]) for k, v in enumerate(losses)})
    assert found == (np.mean(losses), pytest.approx(np.std(losses, ddof=1)))


x16 = torch.randn(16, 4, dtype=torch.float64)


@pytest.mark.parametrize(
    "batch",
    [
        (x16, torch.ones(16, 1)),
        (x16, torch.tensor([1] * 13 + [0] * 3)),
        (x16, x16.to(torch.complex128)),
        (x16, x16.to_sparse()),
        (x16[:7], torch.arange(7)),
        (x16, [1, 2]),
        (x16, torch.tensor(1.0)),
        {"x": x16},
    ],
)
def test_targets_that_are_alike_few_or_no_tensor_are_not_exchanged(batch):
    assert with_permuted_losses(linear_task(), [batch] * 10).metrics == {}


def test_a_last_batch_of_few_rows_does_not_stand_in_the_way():
    full, last = (x16, torch.arange(16)), (x16[:3], torch.arange(3))
    assert len(with_permuted_losses(linear_task(), [full] * 4 + [last]).metrics) == 10
    assert with_permuted_losses(linear_task(), [last] * 30).metrics == {}


def test_with_few_rows_to_evaluate_what_was_learnt_is_not_denied():
    x = inputs(0, 300)
    y = (x[:, 0] > 0).long()
    for rows in (8, 12, 16):
        few = TensorDataset(x[-rows:], y[-rows:])
        made = replace(task("classes", signal=True, seed=0), model=network(2), valid=few)
        curve = range_test(replace(made, train=TensorDataset(x[:-rows], y[:-rows])))
        assert np.nanmin([probe.loss for probe in curve.probes]) < 0.3 * curve.start[0]
        assert curve.suggest().lr is not None, curve.suggest().reason


def test_a_task_with_a_loss_of_its_own_is_not_tested_and_still_gets_an_lr():
    def loss(model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    made = linear_task(criterion=None, loss=loss, optimizer=plain_sgd, train=regression_rows(200))
    curve = range_test(made)
    assert np.isnan(evidence(curve)).all()
    assert curve.suggest().lr is not None


def test_a_criterion_that_does_not_look_at_the_targets_is_not_tested():
    made = linear_task(
        criterion=lambda output, y: output.square().mean(),
        optimizer=plain_sgd,
        train=regression_rows(200),
        valid=regression_rows(100, seed=1),
    )
    curve = range_test(made)
    assert np.isnan(evidence(curve)).all()
    assert curve.suggest().lr is not None


class Weighted(nn.Module):
    """A criterion with a tensor of its own and a loss of any level and scale."""

    def __init__(self, factor: float, level: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float64))
        self.level = level

    def forward(self, output, y):
        return self.factor * nn.functional.mse_loss(output, y) + self.level


@pytest.mark.parametrize(("factor", "level"), [(1.0, -30.0), (1.0, 500.0), (1024.0, 0.0)])
def test_evidence_does_not_depend_on_level_and_scale_of_the_loss(factor, level):
    def run(factor: float, level: float, lrs: float) -> list[float]:
        made = linear_task(
            criterion=Weighted(factor, level), optimizer=plain_sgd, train=regression_rows(200)
        )
        return evidence(range_test(made, min_lr=1e-6 / lrs, max_lr=10.0 / lrs))

    assert run(factor, level, factor) == pytest.approx(run(1.0, 0.0, 1.0), rel=1e-3, nan_ok=True)
