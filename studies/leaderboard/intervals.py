"""How often the 90% interval of a default range test holds the rule's own answer.

    python -m studies.leaderboard.intervals [SEEDS] [TASK ...]

The rule's own answer is the geometric mean of its suggestions over all seeds (default 200) of a
task. Prints per task how many tests were refused, the deviation of log10 lr from seed to seed, the
spread of five tests (largest over smallest), and the share of intervals that hold the answer.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from lrfinder import BatchedTrainer, Curve, SequentialTrainer, Suggestion, range_test
from studies.leaderboard.tasks import SHORT, task

QUICK = ("mlp_sgd", "mlp_adam", "regression", "tiny_batches", "summed_loss", "residual")
"""Tasks that take less than two minutes at 200 seeds."""


def singly(curve: Curve) -> list[Suggestion]:
    """What each seed of a test suggests alone."""
    alone = [
        replace(
            curve,
            loss=curve.loss[k : k + 1],
            train_loss=curve.train_loss[k : k + 1],
            start=curve.start[k : k + 1],
            seeds=(seed,),
            probes=tuple(probe for probe in curve.probes if probe.seed == seed),
        )
        for k, seed in enumerate(curve.seeds)
    ]
    return [one.suggest() for one in alone]


def measure(name: str, seeds: int) -> tuple[int, float, float, float]:
    """Refusals, deviation in decades, spread of five, and coverage."""
    made, batched = task(name), BatchedTrainer()
    trainer = batched if batched.why_not(made) is None else SequentialTrainer()
    found = [s for s in singly(range_test(made, seeds=seeds, trainer=trainer)) if s.lr is not None]
    logs = np.log10([[s.low, s.lr, s.high] for s in found])
    answer = logs[:, 1].mean()
    held = (logs[:, 0] <= answer) & (answer <= logs[:, 2])
    fives = np.array_split(logs[:, 1], max(1, len(logs) // 5))
    spread = 10 ** float(np.median([np.ptp(five) for five in fives]))
    return seeds - len(found), float(logs[:, 1].std()), spread, float(held.mean())


def main(arguments: Sequence[str]) -> None:
    """Measure the tasks named, or the quick ones."""
    torch.set_num_threads(1)
    seeds = int(arguments[0]) if arguments else 200
    print("task            refused  deviation  spread  coverage")
    rows = {name: measure(name, seeds) for name in arguments[1:] or QUICK if name in SHORT}
    for name, (refused, deviation, spread, coverage) in rows.items():
        print(f"{name:15s} {refused:7d} {deviation:10.3f} {f'x{spread:.2f}':>7s} {coverage:9.2f}")
    print(f"{'mean':15s} {'':26s} {np.mean([row[3] for row in rows.values()]):9.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
