"""What does it cost to drive a loop, against the same loop as a plain program?

    python studies/driven_loop.py [--rounds 7]

The same function trains the same batches, once handed a stand-in whose methods do nothing, and once
driven at the lr it was built with, all updates at one go and one by one, as in a range test. One
thread, CPU time, the ways in turns, the median of the rounds' ratios. The losses of both are equal.

Found on 2 busy CPU cores with torch 2.13: nothing on a CNN of 2.7 ms an update (0.997), and 5 to 7%
on an MLP of 0.57 ms (1.05 to 1.07). Waiting after every update costs half a millisecond more, as it
puts aside the random states of Python, NumPy and torch; a sweep of a range test waits 100 times.
"""

import argparse
import random
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn

from lrfinder import Loop
from lrfinder.training.driven import DrivenTrainer

UPDATES = 1000
MODELS: dict[str, Callable[[], nn.Module]] = {
    "MLP 64-128-10, batches of 64": lambda: nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)
    ),
    "CNN 16-32 on 8x8, batches of 64": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    ),
}


class Plain:
    """What a loop is handed where nothing drives it."""

    epochs, updates = 1, UPDATES

    def __init__(self) -> None:
        self.losses: list[float] = []

    def drive(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave it alone."""

    def log(self, loss: torch.Tensor) -> None:
        """Read the loss, as every loop that shows one does."""
        self.losses.append(loss.item())


def loop_of(build: Callable[[], nn.Module]) -> Loop:
    """A loop that trains a model on random numbers with Adam."""
    x, y = torch.randn(64, 64), torch.randint(10, (64,))

    def train(training: Plain) -> None:
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        training.drive(optimizer)
        for _ in range(training.updates):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            training.log(loss)

    return Loop(train, epochs=1, steps_per_epoch=UPDATES)


def plain(loop: Loop) -> tuple[float, list[float]]:
    """CPU seconds and losses of the plain program."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    program, began = Plain(), time.process_time()
    loop.train(program)  # pyright: ignore[reportArgumentType]
    return time.process_time() - began, program.losses


def driven(loop: Loop, at_once: int) -> tuple[float, list[float]]:
    """CPU seconds and losses of the driven loop, so many updates at a time."""
    trainer, lrs = DrivenTrainer("cpu"), np.full((1, at_once, 1), 1e-3)
    loop.data(trainer.device)
    began = time.process_time()
    state = trainer.start(loop, [0], [1e-3])
    losses = [trainer.advance(state, lrs)[0] for _ in range(UPDATES // at_once)]
    trainer.select(state, [])
    return time.process_time() - began, np.concatenate(losses).tolist()


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(
        "| model | ms an update | driven / plain | one by one / plain |\n| --- | --- | --- | --- |"
    )
    for name, build in MODELS.items():
        loop = loop_of(build)
        found = [(plain(loop), driven(loop, UPDATES), driven(loop, 1)) for _ in range(rounds)]
        assert all(a[1] == b[1] == c[1] for a, b, c in found)
        ratios = [median(row[k][0] / row[0][0] for row in found) for k in (1, 2)]
        milliseconds = 1000 * median(row[0][0] for row in found) / UPDATES
        print(f"| {name} | {milliseconds:.2f} | {ratios[0]:.3f} | {ratios[1]:.3f} |")


if __name__ == "__main__":
    main()
