"""Small real loops, and what stands in for lrfinder where they are run as plain programs."""

import random
from collections.abc import Callable, Iterable

import numpy as np
import torch
from small_tasks import BATCH, VALID_ROWS, linear_model, noisy_model, regression_rows
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lrfinder.tasks.loops.loop import Loop

LR = 0.02
VALID = regression_rows(VALID_ROWS, seed=1).tensors
mse = nn.functional.mse_loss


def batches(**options) -> Iterable[list[Tensor]]:
    return DataLoader(regression_rows(), BATCH, shuffle=True, **options)


def measured_in_eval_mode(model: nn.Module) -> dict[str, Tensor]:
    """The flags are not put back, and numbers are drawn: both are lrfinder's to look after."""
    model.eval()
    torch.rand(3)
    random.random()
    np.random.rand()
    with torch.no_grad():
        error = model(VALID[0]) - VALID[1]
    return {"valid_loss": error.square().mean(), "largest": error.abs().max()}


def regression(training) -> None:
    """Dropout and batch normalisation, an optimizer of two groups."""
    model = noisy_model()
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": LR / 3}, {"params": others}]
    optimizer = torch.optim.Adam(groups, LR)
    training.drive(optimizer)
    training.measure(lambda: measured_in_eval_mode(model))
    training.model = model
    loader = batches()
    for _ in range(training.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = mse(model(x), y)
            loss.backward()
            optimizer.step()
            training.log(loss)


def gan(training) -> None:
    """Two optimizers at different lrs; the discriminator is stepped twice an update."""
    generator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    critic = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    of_generator = torch.optim.Adam(generator.parameters(), LR / 2)
    of_critic = torch.optim.SGD(critic.parameters(), LR)
    training.drive(generator=of_generator, critic=of_critic)
    mean = VALID[0].mean(dim=0)
    noise = torch.randn(32, 3, dtype=torch.float64)
    training.measure(lambda: (generator(noise).mean(dim=0) - mean).square().sum())
    training.model = nn.ModuleList([generator, critic])
    binary = nn.functional.binary_cross_entropy_with_logits
    for _ in range(training.epochs):
        for x, _ in batches():
            ones, zeros = torch.ones(len(x), 1).double(), torch.zeros(len(x), 1).double()
            for _ in range(2):
                fake = generator(torch.randn(len(x), 3, dtype=torch.float64)).detach()
                loss = binary(critic(x), ones) + binary(critic(fake), zeros)
                of_critic.zero_grad()
                loss.backward()
                of_critic.step()
            fooled = binary(critic(generator(torch.randn(len(x), 3, dtype=torch.float64))), ones)
            of_generator.zero_grad()
            fooled.backward()
            of_generator.step()
            training.log(fooled)


def closures(training) -> None:
    """LBFGS, which evaluates the loss as often as it likes."""
    model = linear_model()
    optimizer = torch.optim.LBFGS(model.parameters(), LR, max_iter=3)
    training.drive(optimizer)
    training.measure(lambda: {"valid_loss": mse(model(VALID[0]), VALID[1])})
    training.model = model
    for _ in range(training.epochs):
        for x, y in batches():

            def closure(x=x, y=y) -> Tensor:
                optimizer.zero_grad()
                loss = mse(model(x), y)
                loss.backward()
                return loss

            training.log(optimizer.step(closure))


GENERATOR = torch.Generator().manual_seed(3)


def own_generator(training) -> None:
    """A generator that stands outside of the loop."""
    model = linear_model()
    optimizer = torch.optim.SGD(model.parameters(), LR)
    training.drive(optimizer)
    training.measure(lambda: mse(model(VALID[0]), VALID[1]))
    training.model = model
    for _ in range(training.epochs):
        for x, y in batches(generator=GENERATOR):
            optimizer.zero_grad()
            loss = mse(model(x), y)
            loss.backward()
            optimizer.step()
            training.log(loss.item())


def phases(training) -> None:
    """Its first half trains the bias alone, and logs under autocast without gradients."""
    model = linear_model()
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9)
    training.drive(optimizer)
    training.measure(lambda: mse(model(VALID[0]), VALID[1]))
    training.model = model
    for epoch in range(training.epochs):
        model.weight.requires_grad_(epoch >= training.epochs // 2)
        for x, y in batches():
            optimizer.zero_grad(set_to_none=True)
            loss = mse(model(x), y)
            loss.backward()
            optimizer.step()
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                training.log(loss)


LOOPS: dict[str, Callable] = {
    "regression": regression,
    "gan": gan,
    "closures": closures,
    "own generator": own_generator,
    "phases": phases,
}


class Plain:
    """What a loop is handed where it runs as a plain program."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.losses = epochs, []

    def drive(self, *optimizers, **named) -> None:
        pass

    def measure(self, function) -> None:
        self.measured = function

    def log(self, loss) -> None:
        self.losses.append(loss.item() if isinstance(loss, Tensor) else loss)


def plain(train: Callable, seed: int, epochs: int) -> Plain:
    """The loop as a plain program under a seed."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    own = GENERATOR.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    program = Plain(epochs)
    train(program)
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    GENERATOR.set_state(own)
    return program


def small_loop(train: Callable = regression, **fields) -> Loop:
    return Loop(train, **{"epochs": 3, **fields})
