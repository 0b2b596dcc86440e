"""By how much a training loss rises whatever the lr is: that much is no divergence.

A curriculum that gets harder, a penalty or a margin that grows with the updates, data sorted by
difficulty, a replay memory that fills: the loss of such a training rises at next to no lr, too. It
is asked where a run's loss has risen, and answered by the losses of initial weights, batch after
batch in training mode, which cost no more than the forward passes; of a `Loop`, by a training at
next to no lr. All are of the run's own seed: what it asks for, no other run changes.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch

from lrfinder.arrays import Floats
from lrfinder.errors import LRFinderError
from lrfinder.tasks.data.sources.training import Feed
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import user_code
from lrfinder.training.divergence import WINDOW, levels
from lrfinder.training.trainers.building import build_model, device_of
from lrfinder.training.trainers.driven import DrivenTrainer


@dataclass
class _Known:
    """The losses of initial weights by seed, as far as they were asked for."""

    by_seed: dict[int, Floats] = field(default_factory=dict[int, Floats])


def rise_by_itself(
    task: Problem, device: torch.device | None, most: int, seed: int, updates: int
) -> Floats:
    """By how much the loss of initial weights has risen until each update: float64[updates].

    0 up to the range of its first 8 losses, and where it cannot be computed. No more than `most`
    updates are ever asked for.
    """
    known: _Known = task.data(device).findings.setdefault(_Known, _Known())
    losses = known.by_seed.get(seed, np.empty(0))
    if len(losses) < updates:  # who asks again will go on asking
        further = min(2 * updates, most) if len(losses) else updates
        losses = known.by_seed[seed] = _losses(task, device, seed, further)
    losses = losses[:updates]
    if len(losses) < WINDOW or not np.isfinite(losses).all():
        return np.zeros(updates)
    found = levels(losses)
    rise = np.maximum.accumulate(found - found[0])
    rise[rise <= np.ptp(losses[:WINDOW])] = 0
    return np.concatenate([np.zeros(WINDOW - 1), rise])


def _losses(task: Problem, device: torch.device | None, seed: int, updates: int) -> Floats:
    """Losses at initial weights: float64[updates], nan where they cannot be computed."""
    with suppress(LRFinderError):
        if isinstance(task, Loop):
            return DrivenTrainer(device).losses_at_no_lr(task, seed, updates)
        with suppress(LRFinderError), torch.no_grad():
            return _forward(task, device, seed, updates)
        return _forward(task, device, seed, updates)  # a loss may need gradients
    return np.full(updates, np.nan)


def _forward(task: Task, device: torch.device | None, seed: int, updates: int) -> Floats:
    losses = np.empty(updates)
    model, random = build_model(task, seed, device)
    measures = task.measures_on(device_of(model))
    data, parts = task.data(device), task.accumulate
    feed = Feed(data.source, seed)
    for update in range(updates):
        epoch, start = divmod(update, data.updates_per_epoch)
        with user_code("reading the training data"):
            batches = feed.take(epoch, start * parts, parts)
        with random.active(), user_code("training"):
            found = [measures.loss(model, batch).item() for batch in batches]
        losses[update] = np.mean(found)
    return losses
