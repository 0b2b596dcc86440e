"""Every finder of the leaderboard behind one signature: a task and seeds in, an answer out.

A finder may use as many of the seeds as it likes, from the first on; each seed fixes the initial
weights and the order of the data. Finders of other packages are in `packages.py`; fastai's rules
are written here from their published descriptions, on fastai's schedule (100 updates from 1e-7 to
10, the loss averaged exponentially with 0.98, stopped at four times its best), so that they run
with any optimizer.
"""

import inspect
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lrfinder import Curve, Task, range_test
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.defaults import PROBES
from studies.leaderboard.oracle import budget, cosine

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What a finder said, and what it cost."""

    lr: float | None
    """For a constant schedule; None where the finder refused or failed."""
    updates: int = 0
    seconds: float = 0.0
    reason: str = ""
    """Why there is no lr."""
    cosine_lr: float | None = None
    """Peak lr for a cosine, where the finder says one; by default the same lr."""
    interval: tuple[float, float] | None = None
    """Where it says that the best constant lr lies."""
    band: tuple[float, float] | None = None
    """Where it says that little is lost."""


Finder = Callable[[Task, Sequence[int]], Answer]


@dataclass(frozen=True)
class Pieces:
    """What other finders want: live objects, made under a seed."""

    model: nn.Module
    optimizer: Optimizer
    criterion: Callable[[Any, Any], torch.Tensor]
    loader: DataLoader[Any]


def pieces(task: Task, seed: int, lr: float) -> Pieces:
    """Model, optimizer and shuffled loader of a task, under a seed of the global generator."""
    torch.manual_seed(seed)
    model = task.model()
    loader = DataLoader(task.train, task.batch_size, shuffle=True)
    assert task.criterion is not None
    return Pieces(model, task.optimizer(model, lr), task.criterion, loader)


def default_lr(task: Task) -> float:
    """The lr that the class of the task's optimizer has by default in torch."""
    kind = type(task.optimizer(task.model(), 1.0))
    return float(inspect.signature(kind).parameters["lr"].default)


def lrfinder_default(task: Task, seeds: Sequence[int]) -> Answer:
    """`range_test` and `suggest` as they come: a sweep and 3 to 8 probes of 120 to 200 updates."""
    return _range_test(task, task, seeds[:1])


def lrfinder_sweep(task: Task, seeds: Sequence[int]) -> Answer:
    """A sweep of 100 updates without probes, at the price of the other finders."""
    return _range_test(task, task, seeds[:1], probes=0)


def lrfinder_objects(task: Task, seeds: Sequence[int]) -> Answer:
    """`Task.from_objects` with a training loader and no validation set."""
    live = pieces(task, seeds[0], default_lr(task))
    given = Task.from_objects(
        live.model, live.optimizer, live.criterion, live.loader, epochs=task.epochs
    )
    return _range_test(given, task, seeds[:1])


def _range_test(
    tested: Task,
    task: Task,
    seeds: Sequence[int],
    probes: int = PROBES,
    cost: float | None = None,
) -> Answer:
    before = time.process_time()
    curve = range_test(tested, seeds=seeds, probes=probes, cost=cost)
    curve.suggest()
    return answer_of(curve, task, time.process_time() - before)


def answer_of(curve: Curve, task: Task, seconds: float) -> Answer:
    """What a range test of a task says, that took so many seconds."""
    said, updates = curve.suggest(), budget(task)
    moved = said.for_schedule(cosine(updates), updates, task.data().updates_per_epoch)
    reason = "" if said.lr is not None else said.reason
    return Answer(
        said.lr,
        curve.updates,
        seconds,
        reason,
        moved.lr,
        interval=_pair(said.low, said.high),
        band=_pair(said.band_low, said.band_high),
    )


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def optimizer_default(task: Task, seeds: Sequence[int]) -> Answer:
    """No test at all: torch's default for the optimizer."""
    del seeds
    return Answer(default_lr(task))


@dataclass(frozen=True)
class Sweep:
    """Training loss against a growing lr, of one run on fastai's schedule."""

    lrs: Floats
    losses: Floats
    smoothed: Floats
    seconds: float

    def kept(self) -> tuple[Floats, Floats]:
        """The lrs and smoothed losses that fastai's rules read: without a tenth and the last 5."""
        lrs, losses = self.lrs[_STEPS // 10 : -5], self.smoothed[_STEPS // 10 : -5]
        return lrs[np.isfinite(losses)], losses[np.isfinite(losses)]


_STEPS, _LOW, _HIGH, _MEMORY, _STOP = 100, 1e-7, 10.0, 0.98, 4.0


@cache
def sweep(task: Task, seed: int) -> Sweep:
    """Train once with a growing lr, until the smoothed loss is four times its best."""
    before = time.process_time()
    live = pieces(task, seed, _LOW)
    lrs = _LOW * (_HIGH / _LOW) ** (np.arange(_STEPS) / _STEPS)
    losses: list[float] = []
    smooth: list[float] = []
    average = 0.0
    for step, (lr, batch) in enumerate(zip(lrs, _endless(live.loader), strict=False), start=1):
        losses.append(_update(live, float(lr), batch))
        average = _MEMORY * average + (1 - _MEMORY) * losses[-1]
        smooth.append(average / (1 - _MEMORY**step))
        if not smooth[-1] <= _STOP * min(smooth):
            break
    seconds = time.process_time() - before
    return Sweep(lrs[: len(losses)], np.array(losses), np.array(smooth), seconds)


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    for again in repeat(loader):
        yield from again


def _update(live: Pieces, lr: float, batch: Sequence[Any]) -> float:
    for group in live.optimizer.param_groups:
        group["lr"] = lr
    live.optimizer.zero_grad()
    loss = live.criterion(live.model(batch[0]), batch[1])
    loss.backward()
    live.optimizer.step()
    return float(loss.detach())


def valley(lrs: Floats, losses: Floats) -> float:
    """Middle of the longest valley.

    The valley ends where the longest strictly decreasing subsequence of the losses ends, and has
    as many points as that subsequence.
    """
    tails: list[float] = []  # by length: the easiest end to go on from
    lengths: list[int] = []
    for height in -losses:
        place = bisect_left(tails, height)
        tails[place : place + 1] = [height]
        lengths.append(place + 1)
    longest = max(lengths)
    return float(lrs[lengths.index(longest) - longest + longest // 3 + longest // 6])


def slide(lrs: Floats, losses: Floats, width: int = 15, threshold: float = 0.005) -> float:
    """Left end of an interval that moves down from the largest lr.

    It stops before the slopes of the loss at its two ends differ by no more than the threshold.
    """
    slopes = np.gradient(losses)
    differ = np.abs(slopes[width:] - slopes[:-width]) > threshold
    alike = np.flatnonzero(~differ)
    stop = int(alike[-1]) + 1 if alike.size else 0
    return float(lrs[min(stop, len(differ) - 1)])


def steep(lrs: Floats, losses: Floats) -> float:
    """Where the loss falls fastest from one lr to the next, against log lr."""
    return float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))])


def minimum(lrs: Floats, losses: Floats) -> float:
    """A tenth of the lr of the lowest loss."""
    return float(lrs[np.argmin(losses)]) / 10


def _reads(rule: Callable[[Floats, Floats], float]) -> Finder:
    """The finder that applies a rule of fastai's to one sweep."""

    def finder(task: Task, seeds: Sequence[int]) -> Answer:
        found = sweep(task, seeds[0])
        lrs, losses = found.kept()
        cost = Answer(None, len(found.lrs), found.seconds)
        if len(lrs) < 17:
            return replace(cost, reason=f"{len(lrs)} points are too few")
        return replace(cost, lr=rule(lrs, losses))

    return finder


def valley_of_all_seeds(task: Task, seeds: Sequence[int]) -> Answer:
    """Geometric mean of the valley rule over all seeds: at the price of lrfinder's default."""
    answers = [_reads(valley)(task, [seed]) for seed in seeds]
    logs = [np.log(answer.lr) for answer in answers if answer.lr is not None]
    updates, seconds = sum(a.updates for a in answers), sum(a.seconds for a in answers)
    if not logs:
        return Answer(None, updates, seconds, answers[0].reason)
    return Answer(float(np.exp(np.mean(logs))), updates, seconds)


def raw_minimum(task: Task, seeds: Sequence[int]) -> Answer:
    """A tenth of the lr of the lowest loss of a batch, nothing smoothed or left out."""
    found = sweep(task, seeds[0])
    return Answer(minimum(found.lrs, found.losses), len(found.lrs), found.seconds)


def lrfinder_capped(share: float) -> Finder:
    """Return `range_test(cost=...)`: a test that may take that share of a training at most."""

    def finder(task: Task, seeds: Sequence[int]) -> Answer:
        try:
            return _range_test(task, task, seeds[:1], cost=share)
        except InvalidArgument as error:  # the share is too little for a test
            return Answer(None, reason=str(error))

    return finder


CAPPED: Mapping[str, Finder] = {
    f"lrfinder, cost {share}%": lrfinder_capped(share / 100) for share in (2, 5, 10)
}
"""This package with a limit; only where they are named, for the long trainings."""

OWN: Mapping[str, Finder] = {
    "lrfinder": lrfinder_default,
    "lrfinder, from_objects": lrfinder_objects,
    "lrfinder, sweep alone": lrfinder_sweep,
}
"""This package."""

RULES: Mapping[str, Finder] = {
    "fastai valley": _reads(valley),
    "fastai valley, 5 seeds": valley_of_all_seeds,
    "fastai slide": _reads(slide),
    "fastai steep": _reads(steep),
    "fastai minimum/10": _reads(minimum),
    "raw minimum/10": raw_minimum,
    "optimizer default": optimizer_default,
}
"""Rules written for the leaderboard."""
