"""Losses that do not say how well a training does: without a bottom, or of two sides."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from typer.testing import CliRunner

import lrfinder
from lrfinder import Loop, Task, cli, range_test
from lrfinder.range_tests.curve import AGAINST
from lrfinder.range_tests.rules.probes import Probe
from lrfinder.range_tests.rules.without_bottom import without_bottom

SAYS = "has no lowest value"


def probes(falls: list[float], ratio: float = 4.0) -> list[Probe]:
    """Runs at lrs that are so far apart, from a loss of 7."""
    return [Probe(0, 0.01 * ratio**k, 100, loss=7 - fall) for k, fall in enumerate(falls)]


@pytest.mark.parametrize("ratio", [2.0, 4.0])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_a_fall_by_a_power_of_the_lr_up_to_the_last_has_no_bottom(power, ratio):
    falls = [ratio ** (power * k) for k in range(5)]
    assert without_bottom(7.0, probes(falls, ratio))
    assert without_bottom(7.0, probes(falls, ratio)[::-1])


@pytest.mark.parametrize(
    "falls",
    [
        [1.0, 4.0, 16.0, 20.0],  # it levels off
        [1.0, 1.1, 16.0, 15.0],  # the best is inside
        [0.1, 0.12, 3.5],  # a plateau, and off it
        [1.0, 4.0],
        [1.0, 4.0, np.nan],
        [1.0, 4.0, 16.0, np.nan],
        [-1.0, 4.0, 16.0],
        [0.0, 0.0, 0.0],
    ],
)
def test_a_fall_that_ends_has_one(falls):
    assert not without_bottom(7.0, probes(falls))


def network(inputs: int, outputs: int, hidden: int = 16) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def critic_loss(model: nn.Module) -> torch.Tensor:
    """Two clouds that are to be told apart, without a limit on the scores."""
    return model(0.5 * torch.randn(32, 4) + 1).mean() - model(torch.randn(32, 4)).mean()


def density_loss(model: nn.Module) -> torch.Tensor:
    """A likelihood, which falls far below zero where it is learnt."""
    x = torch.randn(32, 4)
    mean, log_scale = model(x).T
    away = (0.01 * x[:, 0] - mean) / log_scale.exp()
    return (log_scale + 0.5 * away.square()).mean()


def single(
    loss: Callable[[nn.Module], torch.Tensor],
    outputs: int,
    optimizer: type[Optimizer],
    *,
    measured: bool = False,
) -> Loop:
    """One optimizer that lowers the loss; measured, if so, by how many it tells apart."""

    def train(training) -> None:
        model = network(4, outputs)
        of_model = optimizer(model.parameters(), lr=0.01)
        training.drive(of_model)
        if measured:
            training.measure(lambda: wrong(model))
        for _ in range(20 * training.epochs):
            lost = loss(model)
            of_model.zero_grad()
            lost.backward()
            of_model.step()
            training.log(lost)

    return Loop(train, epochs=20, steps_per_epoch=20)


@torch.no_grad()
def wrong(model: nn.Module) -> torch.Tensor:
    """How badly the difference of scores, of unit size, tells the clouds apart."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(400, 4, generator=generator)
    far, near = model(0.5 * x + 1), model(x.flip(0))
    size = torch.cat([far, near]).std() + 1e-6
    return nn.functional.softplus((far - near) / size).mean()


def test_no_lr_is_read_off_a_loss_without_a_bottom():
    for optimizer in (Adam, RMSprop):
        found = range_test(single(critic_loss, 1, optimizer)).suggest()
        assert found.lr is None
        assert SAYS in found.reason


def test_measuring_something_else_helps():
    found = range_test(single(critic_loss, 1, Adam, measured=True)).suggest()
    assert found.lr is not None, found.reason


@pytest.mark.slow
def test_more_probes_help_where_the_best_lr_lies_higher():
    """The sweep's range ends far below the best lr, and nothing widens it."""
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    rows = torch.utils.data.TensorDataset(x, 1e4 * x[:, :1])
    task = Task(
        model=lambda: nn.Linear(4, 1),
        train=rows,
        valid=rows,
        criterion=lambda output, y: 1e-4 * nn.functional.mse_loss(output, y),
        optimizer=lambda model, lr: SGD(model.parameters(), lr),
        epochs=20,
    )
    given = {"min_lr": 1e-6, "max_lr": 1e-2, "widen": False}
    refused = range_test(task, probes=5, **given).suggest()
    assert refused.lr is None
    assert SAYS in refused.reason
    assert "take more --probes" in refused.reason
    found = range_test(task, probes=14, **given).suggest()
    assert found.lr is not None, found.reason


def test_a_likelihood_that_falls_far_below_zero_has_a_bottom():
    for seed, optimizer in enumerate((Adam, SGD)):
        found = range_test(single(density_loss, 2, optimizer), seeds=[seed]).suggest()
        assert SAYS not in found.reason
        assert found.lr is not None, found.reason


def gan(kind: str, optimizer: type[Optimizer], *, measured: bool = False) -> Loop:
    """A generator of points, and a critic, whose loss is logged."""
    bce = nn.functional.binary_cross_entropy_with_logits

    def loss_of(critic: nn.Module, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        if kind == "bce":
            one, zero = torch.ones(32, 1), torch.zeros(32, 1)
            return bce(critic(real), one) + bce(critic(made), zero)
        part = torch.rand(32, 1)
        between = (part * real + (1 - part) * made).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return critic(made).mean() - critic(real).mean() + (slope.norm(dim=1) - 1).square().mean()

    def train(training) -> None:
        generator, critic = network(4, 4), network(4, 1)
        of_generator = optimizer(generator.parameters(), lr=1e-3)
        of_critic = optimizer(critic.parameters(), lr=1e-3)
        training.drive(generator=of_generator, critic=of_critic)
        if measured:
            training.measure(lambda: distance(generator))
        for _ in range(20 * training.epochs):
            made = generator(torch.randn(32, 4))
            loss = loss_of(critic, 0.3 * torch.randn(32, 4) + 1, made.detach())
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()
            of_generator.zero_grad()
            (-critic(made).mean()).backward()
            of_generator.step()
            training.log(loss)

    return Loop(train, epochs=20, steps_per_epoch=20)


@torch.no_grad()
def distance(generator: nn.Module) -> torch.Tensor:
    """How far the mean and the spread of the points are from those that are wanted."""
    made = generator(torch.randn(400, 4))
    return (made.mean(0) - 1).square().mean() + (made.std(0) - 0.3).square().mean()


def parts(first: type[Optimizer], second: type[Optimizer], last: int) -> Loop:
    """Two optimizers of one classifier; the second has so many of its last tensors."""

    def train(training) -> None:
        model = network(4, 3)
        tensors = list(model.parameters())
        both = [first(tensors[:-last], lr=0.01), second(tensors[-last:], lr=0.003)]
        training.drive(*both)
        for _ in range(20 * training.epochs):
            x = torch.randn(32, 4)
            loss = nn.functional.cross_entropy(model(x), x[:, :3].argmax(1))
            for one in both:
                one.zero_grad()
            loss.backward()
            for one in both:
                one.step()
            training.log(loss)

    return Loop(train, epochs=20, steps_per_epoch=20)


@pytest.mark.parametrize("optimizer", [Adam, RMSprop])
@pytest.mark.parametrize("kind", ["bce", "penalty"])
def test_no_lr_is_read_off_a_loss_that_one_optimizer_raises(kind, optimizer):
    curve = range_test(gan(kind, optimizer))
    assert curve.against
    found = curve.suggest()
    assert (found.lr, found.verdict) == (None, "inconclusive")
    assert found.reason.startswith(AGAINST)


@pytest.mark.slow
def test_measuring_how_good_its_points_are_helps():
    curves = [range_test(gan("bce", Adam, measured=True), seeds=[seed]) for seed in range(6)]
    assert not any(curve.against for curve in curves)
    found = [curve.suggest() for curve in curves]
    assert sum(one.lr is not None for one in found) >= 3, [one.reason for one in found]


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize(("first", "second"), [(Adam, SGD), (SGD, AdamW), (Adam, Adam)])
def test_optimizers_of_parts_of_one_model_work_together(first, second, last):
    curve = range_test(parts(first, second, last))
    assert not curve.against
    assert curve.suggest().lr is not None, curve.suggest().reason


def test_it_is_kept_with_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import test_losses_without_bottom as here\nloop = here.gan('bce', here.Adam)\n"
    )
    words = ["find", "mine.py", "--steps", "40", "--probes", "3", "--out", "kept"]
    assert CliRunner().invoke(cli.app, words).exit_code == 4
    kept = lrfinder.open_run("kept")
    assert kept.curve.against
    assert kept.curve.suggest().reason == kept.suggestion.reason


def test_what_is_trained_for_it_keeps_to_a_limit_on_the_cost():
    loop = gan("bce", Adam)
    for cost in (0.5, 1.5):
        assert range_test(loop, cost=cost).updates <= cost * 400
