"""What does it cost to drive a loop, against the same loop as a plain program?

    python studies/driven_loop.py [--rounds 15]

The same function trains the same batches, handed a stand-in whose methods do nothing, twice, and
driven at the lr it was built with, all updates at one go and one by one, as in a range test. One
thread, CPU time, the ways in an order that is drawn for each round, the median of the rounds'
ratios. The plain program beside itself says how much of them is noise. The losses of all are
equal.

Found on 2 very busy CPU cores (load 20 to 30) with torch 2.13, 15 rounds, the MLP of 0.64 ms an
update: driven 1.048, the plain program beside itself 0.968, one by one 1.94. An earlier run, 7
rounds in a fixed order, had 1.05 to 1.07 for the MLP and 0.997 for the CNN of 2.7 ms an update.
Alone, the hook takes 0.7 microseconds and `log` 1.2; starting and leaving a training take 3 ms.
Waiting after every update costs half a millisecond more, as it puts aside the random states of
Python, NumPy and torch; a sweep of a range test waits 100 times.
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
from lrfinder.training.trainers.driven import DrivenTrainer

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
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    names = ["again", "driven", "one by one"]
    print(f"| model | ms an update | {' | '.join(f'{name} / plain' for name in names)} |")
    print("| --- | --- | --- | --- | --- |")
    for name, build in MODELS.items():
        found = measured(loop_of(build), rounds)
        ratios = [f"{median(row[k] / row[0] for row in found):.3f}" for k in (1, 2, 3)]
        milliseconds = 1000 * median(row[0] for row in found) / UPDATES
        print(f"| {name} | {milliseconds:.2f} | {' | '.join(ratios)} |", flush=True)


def measured(loop: Loop, rounds: int) -> list[list[float]]:
    """CPU seconds of each way in each round: plain, plain again, driven, driven one by one.

    The ways take turns in an order that is drawn for each round, after one that is not counted.
    """
    ways = [lambda: plain(loop)] * 2 + [lambda: driven(loop, UPDATES), lambda: driven(loop, 1)]
    found: list[list[float]] = []
    for number in range(rounds + 1):
        order = random.Random(number).sample(range(4), 4)
        results = {k: ways[k]() for k in order}
        assert all(losses == results[0][1] for _, losses in results.values())
        found.append([results[k][0] for k in range(4)])
    return found[1:]


if __name__ == "__main__":
    main()
