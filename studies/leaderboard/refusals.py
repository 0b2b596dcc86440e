"""How often a range test suggests an lr where there is nothing to learn.

    python -m studies.leaderboard.refusals [REPEATS] [TASK ...]

The tasks are those of the leaderboard with the targets dealt out anew among the rows, of training
and validation data alike, otherwise in every repeat (default 5). Prints per task how many tests
suggest an lr, and why the others do not.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch.utils.data import TensorDataset

from lrfinder import Task, range_test
from studies.leaderboard.tasks import SHORT, task

NAMES = (
    *("mlp_sgd", "mlp_adam", "cnn_batchnorm", "cnn_plain", "deep", "regression", "raw_targets"),
    *("summed_loss", "tiny_batches", "batches_of_4", "row_gru", "noisy_cnn"),
)
"""Twelve tasks: sixty tests in five repeats."""


def without_signal(made: Task, number: int) -> Task:
    """The task with targets that do not belong to their inputs."""
    parts = [cast(TensorDataset, data).tensors for data in (made.train, made.valid)]
    generator = torch.Generator().manual_seed(number)
    orders = [torch.randperm(len(y), generator=generator) for _, y in parts]
    train, valid = (TensorDataset(x, y[order]) for (x, y), order in zip(parts, orders, strict=True))
    return replace(made, train=train, valid=valid)


def measure(name: str, repeats: int) -> tuple[int, Counter[str]]:
    """Tests that suggest an lr, and the beginnings of the others' reasons."""
    found = [range_test(without_signal(task(name), k), seeds=[k]).suggest() for k in range(repeats)]
    reasons = Counter(" ".join(s.reason.split()[:7]) for s in found if s.lr is None)
    return repeats - reasons.total(), reasons


def main(arguments: Sequence[str]) -> None:
    """Measure the tasks named, or twelve of them."""
    torch.set_num_threads(1)
    repeats = int(arguments[0]) if arguments else 5
    names = [name for name in arguments[1:] or NAMES if name in SHORT]
    total = 0
    for name in names:
        suggested, reasons = measure(name, repeats)
        total += suggested
        why = "; ".join(f"{count} x {reason} ..." for reason, count in reasons.most_common())
        print(f"{name:15s} {suggested} of {repeats} suggested   {why}", flush=True)
    print(f"{'all':15s} {total} of {repeats * len(names)} suggested")


if __name__ == "__main__":
    main(sys.argv[1:])
