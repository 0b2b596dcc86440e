"""The leaderboard's tasks by name, and what a cached result of one depends on."""

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import cast

from torch.utils.data import TensorDataset

from lrfinder import Task
from studies.leaderboard.entries import Entry
from studies.leaderboard.fine_tuning_tasks import FINE_TUNING
from studies.leaderboard.further_tasks import FURTHER
from studies.leaderboard.held_out.fine_tuning_tasks import HELD_OUT_FINE_TUNING
from studies.leaderboard.held_out.later_tasks import LATER
from studies.leaderboard.held_out.long_tasks import HELD_OUT_LONG
from studies.leaderboard.long_tasks import LONG
from studies.leaderboard.short_tasks import SHORT

TASKS: Mapping[str, Entry] = {
    **SHORT,
    **LONG,
    **FINE_TUNING,
    **HELD_OUT_LONG,
    **HELD_OUT_FINE_TUNING,
}
"""Those that the finders are compared on."""

EVERY: Mapping[str, Entry] = {**TASKS, **FURTHER, **LATER}
"""With those that only lrfinder's own rule is tuned or tried on."""

_KNOBS = ("momentum", "nesterov", "betas", "alpha", "weight_decay")


@cache
def task(name: str) -> Task:
    """The task of that name, built once."""
    return EVERY[name].make()


def fingerprint(name: str) -> str:
    """Short hash of what a cached result depends on: model, data, optimizer, loss and budget."""
    made = task(name)
    model = made.model()
    optimizer = made.optimizer(model, 1.0)
    settings = [
        str(model),
        type(optimizer).__name__,
        *(f"{key}={optimizer.defaults[key]}" for key in _KNOBS if key in optimizer.defaults),
        getattr(made.criterion, "__name__", str(made.criterion)),
        f"{made.batch_size} {made.epochs}",
        *(_summary(cast(TensorDataset, data)) for data in (made.train, made.valid)),
    ]
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()[:12]


def _summary(data: TensorDataset) -> str:
    """Shapes and rounded moments: the same on every machine."""
    parts = [(tuple(t.shape), t.double()) for t in data.tensors]
    return " ".join(f"{shape} {v.mean():.4g} {v.std():.4g} {v[0].sum():.4g}" for shape, v in parts)
