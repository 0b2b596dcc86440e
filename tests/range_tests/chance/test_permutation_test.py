"""Whether a model learnt anything of its inputs: the permutation test of a range test."""

from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
import torch
from small_tasks import linear_task, plain_sgd, regression_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from lrfinder import (
    BatchedTrainer,
    Curve,
    InvalidArgument,
    SequentialTrainer,
    Task,
    range_test,
)
from lrfinder.range_tests.chance.exchange import NO_TARGET, SAME_INPUTS
from lrfinder.range_tests.chance.permutation_test import NO_PROBES, NOT_COMPUTED, UNPAIRED, UNREAD
from lrfinder.range_tests.curve import UNCHECKED

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


@pytest.mark.slow
def test_of_nine_tests_without_a_signal_at_most_one_suggests_an_lr():
    assert len(suggested_without_signal(range(20, 23))) <= 1


@pytest.mark.slow
def test_of_sixty_tests_without_a_signal_at_most_three_suggest_an_lr():
    assert len(suggested_without_signal(range(20))) <= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
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


def test_with_few_rows_to_evaluate_what_was_learnt_is_not_denied():
    x = inputs(0, 300)
    y = (x[:, 0] > 0).long()
    for rows in (8, 12, 16):
        few = TensorDataset(x[-rows:], y[-rows:])
        made = replace(task("classes", signal=True, seed=0), model=network(2), valid=few)
        curve = range_test(replace(made, train=TensorDataset(x[:-rows], y[:-rows])))
        assert np.nanmin([probe.loss for probe in curve.probes]) < 0.3 * curve.start[0]
        assert curve.suggest().lr is not None, curve.suggest().reason


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


def as_loss(task: Task) -> Task:
    """The same task with a loss of model and batch instead of a criterion."""
    criterion = task.criterion
    return replace(task, criterion=None, loss=lambda model, b: criterion(model(b[0]), b[1]))


TRAINERS = {"sequential": SequentialTrainer, "batched": BatchedTrainer}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("signal", [True, False])
def test_a_task_with_a_loss_gets_the_answer_of_the_task_with_the_criterion(signal, trainer):
    made = task("classes", signal=signal, seed=3)
    first, second = (
        range_test(one, seeds=1, trainer=TRAINERS[trainer]()) for one in (made, as_loss(made))
    )
    assert second.suggest().reason == first.suggest().reason
    rounding = {"sequential": 1e-3, "batched": 0.05}[trainer]  # a criterion is computed quicker
    assert evidence(second) == pytest.approx(evidence(first), rel=rounding)
    assert (second.suggest().lr is not None) is signal
    assert first.unchecked is None
    assert UNCHECKED not in first.suggest().reason


def by_name(*names: str):
    """A collate function that gives a dict with x, y and further parts under these names."""

    def collate(rows):
        x, y = default_collate(rows)
        return dict(zip(names, (x, y), strict=True))

    return collate


def named_task(*names: str, signal: bool, **fields) -> Task:
    made = task("classes", signal=signal, seed=3)
    collate = by_name(*names)
    return replace(
        made,
        criterion=None,
        loss=lambda model, b: nn.functional.cross_entropy(model(b[names[0]]), b[names[1]]),
        train=DataLoader(made.train, 32, shuffle=True, collate_fn=collate),
        valid=DataLoader(made.valid, 32, collate_fn=collate),
        **fields,
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("labels", {}),
        ("y", {}),
        ("next", {"target": "next"}),
        ("next", {"target": itemgetter("next")}),
    ],
)
@pytest.mark.slow
def test_noise_is_told_wherever_the_target_can_be_found(name, fields):
    for signal in (True, False):
        suggestion = range_test(named_task("x", name, signal=signal, **fields)).suggest()
        assert (suggestion.lr is not None) is signal
        assert UNCHECKED not in suggestion.reason
        assert signal or "does not depend on the inputs" in suggestion.reason


@pytest.mark.parametrize("trainer", TRAINERS)
def test_an_lr_that_was_not_checked_says_so_and_its_advice_helps(trainer):
    curve = range_test(named_task("x", "next", signal=True), trainer=TRAINERS[trainer]())
    suggestion = curve.suggest()
    assert suggestion.lr is not None
    assert f"({UNCHECKED}: {NO_TARGET})" in suggestion.reason
    assert np.isnan(evidence(curve)).all()
    assert "Task(target=...)" in NO_TARGET


def test_a_target_of_another_name_is_refused_before_anything_is_trained():
    def loss(model, batch):
        raise AssertionError

    made = replace(named_task("x", "next", signal=True, target="labels"), loss=loss)
    with pytest.raises(InvalidArgument, match="'labels' is none of a dict with x, next"):
        range_test(made)


def test_labels_that_the_loss_does_not_use_are_no_targets():
    """An autoencoder with labels that nobody uses."""
    made = task("numbers", signal=False, seed=0)
    made = replace(
        made,
        model=network(FEATURES),
        criterion=None,
        loss=lambda model, b: nn.functional.mse_loss(model(b[0]), b[0]),
    )
    suggestion = range_test(made).suggest()
    assert suggestion.lr is not None
    assert f"({UNCHECKED}: {UNREAD})" in suggestion.reason
    assert range_test(replace(made, target=0)).suggest().lr is not None


class Density(nn.Module):
    """A normal density of y, whatever x is."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_scale = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.mean.expand(len(x), 1), self.log_scale.expand(len(x), 1)


def unconditional(**fields) -> Task:
    def nll(parameters, y):
        mean, log_scale = parameters
        return (0.5 * ((y - mean) / log_scale.exp()).square() + log_scale).mean()

    rows = [
        TensorDataset(inputs(s, n), 3 + 0.2 * inputs(s + 9, n)[:, :1])
        for s, n in ((0, 500), (1, 200))
    ]
    given = {"model": Density, "train": rows[0], "valid": rows[1], "criterion": nll}
    return Task(**{**given, "optimizer": adam, **fields})


@pytest.mark.parametrize("make", [lambda made: made, as_loss])
def test_a_density_of_the_targets_alone_is_not_told_to_check_them(make):
    suggestion = range_test(make(unconditional()), max_lr=1.0, seeds=2).suggest()
    assert suggestion.lr is not None, suggestion.reason
    assert f"({UNCHECKED}: {UNPAIRED})" in suggestion.reason


@pytest.mark.parametrize("make", [lambda made: made, as_loss])
def test_with_constant_inputs_there_is_nothing_to_learn_of_them(make):
    made = task("numbers", signal=True, seed=0)
    parts = [
        TensorDataset(torch.ones_like(d.tensors[0]), d.tensors[1] + 3)
        for d in (made.train, made.valid)
    ]
    suggestion = range_test(make(replace(made, train=parts[0], valid=parts[1]))).suggest()
    assert suggestion.lr is not None, suggestion.reason
    assert f"({UNCHECKED}: {SAME_INPUTS})" in suggestion.reason


def test_a_loss_that_refuses_the_target_of_another_row_is_not_checked():
    def loss(model, b):
        if not torch.equal(b[1], labels(b[0])):
            raise ValueError("not the labels of these rows")
        return nn.functional.cross_entropy(model(b[0]), b[1])

    made = replace(task("classes", signal=True, seed=0), criterion=None, loss=loss)
    suggestion = range_test(made).suggest()
    assert suggestion.lr is not None
    assert f"({UNCHECKED}: {NOT_COMPUTED})" in suggestion.reason


def test_a_loss_that_draws_random_numbers_is_compared_on_the_same_ones():
    """With others for every exchange, labels that nobody uses would seem to make a difference."""

    def loss(model, b):
        return nn.functional.mse_loss(model(b[0] + torch.randn_like(b[0])), b[0])

    made = replace(task("numbers", signal=False, seed=0), model=network(FEATURES))
    suggestion = range_test(replace(made, criterion=None, loss=loss)).suggest()
    assert f"({UNCHECKED}: {UNREAD})" in suggestion.reason


def test_without_probes_an_lr_is_not_checked():
    suggestion = range_test(task("classes", signal=True, seed=0), probes=0).suggest()
    assert suggestion.lr is not None
    assert f"({UNCHECKED}: {NO_PROBES})" in suggestion.reason


def test_per_epoch_noise_is_told_too():
    made = as_loss(task("classes", signal=False, seed=5))
    suggestion = range_test(replace(made, epochs=3), every="epoch", steps=10).suggest()
    assert suggestion.lr is None


def test_a_probe_that_tells_nothing_does_not_hide_what_the_others_tell():
    curve = range_test(task("classes", signal=False, seed=3))
    assert "does not depend" in curve.suggest().reason
    for place in range(len(curve.probes)):
        probes = list(curve.probes)
        probes[place] = replace(probes[place], permuted=np.nan, permuted_deviation=np.nan)
        assert "does not depend" in replace(curve, probes=tuple(probes)).suggest().reason
