"""The trainer of loops: one training after another, none of which can be copied.

What a loop is evaluated on is its own business: the batches that are given are not looked at. A
loop without a measuring function is measured by its training loss: the mean since the evaluation
before, and at the beginning that of its first updates at next to no lr.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.checks import shown_value
from lrfinder.errors import InvalidArgument, LRFinderError, TaskFailed
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.loops.driving import DrivenTraining
from lrfinder.tasks.loops.looking import (
    LITTLE,
    group_lrs,
    joint_stand_in,
    lost_at_no_lr,
)
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.loops.measuring import measured_by
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.user_code import describe, user_code
from lrfinder.training.trainers.raised import may_be_divergence
from lrfinder.training.trainers.sequential import SequentialTrainer
from lrfinder.training.trainers.trainer import AnyTrainer

NO_COPIES = "a loop cannot be copied where it stands"
_FIRST = 8
"""Updates whose mean loss is that of the beginning, where a loop measures nothing."""


@dataclass
class _Run:
    """One run, and what was seen of it."""

    training: DrivenTraining
    stand_in: Optimizer
    raised: str | None = None
    """What the loop raised, where the run has diverged by it."""
    ended: bool = False
    """It has diverged, and is trained no further."""
    recent: list[float] = field(default_factory=list[float])
    """Losses since the last evaluation."""
    level: float | None = None
    """The mean of those before the last evaluation."""


@dataclass
class DrivenState:
    """Runs of one loop."""

    loop: Loop
    runs: list[_Run]

    @property
    def stand_ins(self) -> list[Optimizer]:
        """What schedules start from: the groups of all optimizers of a run, as one optimizer's."""
        return [run.stand_in for run in self.runs]

    @property
    def raised(self) -> dict[int, str]:
        """What the loop raised in runs that have diverged by it, by their place."""
        return {k: run.raised for k, run in enumerate(self.runs) if run.raised is not None}

    def __len__(self) -> int:
        return len(self.runs)


@dataclass
class _Passed:
    """Updates that were made at next to no lr without a fault, by seed."""

    by_seed: dict[int, int] = field(default_factory=dict[int, int])
    first: dict[int, float] = field(default_factory=dict[int, float])
    """The mean loss of the first updates, by seed."""


class DrivenTrainer:
    """Trains loops, each in a greenlet of its own.

    `device` is what a loop is told; where it trains is up to the loop.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = None if device is None else torch.device(device)

    def capacity(self, task: Loop) -> int:
        """Return 1: nothing is gained by running loops side by side."""
        return 1

    def start(self, task: Loop, seeds: Sequence[int], lrs: Sequence[float]) -> DrivenState:
        """Begin one training per run, each under its own seed; it waits before its first step."""
        runs: list[_Run] = []
        for seed, lr in zip(seeds, lrs, strict=True):
            training = task.begun(seed, self.device)
            runs.append(_Run(training, joint_stand_in(training, lr)))
        return DrivenState(task, runs)

    def advance(self, state: DrivenState, lrs: Floats) -> Floats:
        """Train on by the lrs float64[runs, updates, groups]; see `Trainer.advance`."""
        losses = np.full(lrs.shape[:2], np.nan)
        for run, own, out in zip(state.runs, lrs, losses, strict=True):
            if not run.ended:
                self._train(state.loop, run, own, out)
        return losses

    def evaluate(self, state: DrivenState, batches: Iterable[Batch]) -> dict[str, Floats]:
        """What each run's own function measures, by measure: float64[runs]."""
        found = [self._measured(state.loop, run) for run in state.runs]
        names = state.loop.data(self.device).measures
        return {name: np.array([own[name] for own in found]) for name in names}

    def select(self, state: DrivenState, rows: Sequence[int]) -> DrivenState:
        """Keep or drop runs; those that are dropped are left."""
        if len(set(rows)) < len(rows):
            raise TaskFailed(f"a run cannot be copied: {NO_COPIES}")
        for place, run in enumerate(state.runs):
            if place not in rows:
                run.training.close()
        return DrivenState(state.loop, [state.runs[row] for row in rows])

    def fork(self, state: DrivenState, rows: Sequence[int]) -> DrivenState:
        """Raise TaskFailed: a loop cannot be copied."""
        raise TaskFailed(f"a run cannot be copied: {NO_COPIES}")

    def losses_at_no_lr(self, loop: Loop, seed: int, updates: int) -> Floats:
        """The losses float64[updates] of a training at next to no lr.

        Raises TaskFailed where one is not finite, and what the loop raises.
        """
        loop = loop.lasting(updates, self.device)
        updates = min(updates, loop.epochs * loop.data(self.device).updates_per_epoch)
        training = loop.begun(seed, self.device)
        losses = np.full(updates, np.nan)
        try:
            with user_code("training"):
                training.advance(
                    np.tile(group_lrs(training.lrs_built, LITTLE), (updates, 1)), losses
                )
        finally:
            training.close()
        if training.broken:
            raise TaskFailed(lost_at_no_lr(training))
        self._passed(loop).by_seed[seed] = updates
        return losses

    def _train(self, loop: Loop, run: _Run, lrs: Floats, losses: Floats) -> None:
        training, before = run.training, run.training.made
        try:
            with user_code("training"):
                try:
                    training.advance(lrs, losses)
                except Exception as error:
                    if not self._is_divergence(error, loop, run):
                        raise
                    run.raised, run.ended = describe(error), True
        finally:
            run.recent += losses[: training.made - before].tolist()
        if training.broken:
            run.ended = True
            if training.made > 1:
                self._check_lost(loop, training.seed, training.made)
        elif training.ended and training.made - before < len(lrs) and not run.ended:
            raise InvalidArgument(_ended_early(loop, training.made, self.device))

    def _measured(self, loop: Loop, run: _Run) -> dict[str, float]:
        names = loop.data(self.device).measures
        if run.ended:
            return dict.fromkeys(names, float("nan"))
        if not loop.data(self.device).measured:
            return {"loss": self._training_loss(loop, run)}
        try:
            with user_code("evaluating"):
                found = measured_by(run.training)
        except TaskFailed as failure:
            error = failure.__cause__
            if not isinstance(error, Exception) or not self._is_divergence(error, loop, run):
                raise
            run.raised, run.ended = describe(error), True
            return dict.fromkeys(names, float("nan"))
        if found.keys() != set(names):
            raise InvalidArgument(
                "the function of training.measure must return the same names every time, but "
                f"returned {', '.join(found)}, and {', '.join(names)} before"
            )
        return found

    def _training_loss(self, loop: Loop, run: _Run) -> float:
        if run.recent:
            run.level, run.recent = float(np.mean(run.recent)), []
        if run.level is None:
            run.level = self._first_loss(loop, run.training.seed)
        return run.level

    def _first_loss(self, loop: Loop, seed: int) -> float:
        known = self._passed(loop).first
        if seed not in known:
            losses = self.losses_at_no_lr(loop, seed, _FIRST)
            known[seed] = float(np.mean(losses))
        return known[seed]

    def _is_divergence(self, error: Exception, loop: Loop, run: _Run) -> bool:
        """Whether an exception counts as a divergence: training at next to no lr comes as far."""
        if run.training.made == 0 or not may_be_divergence(error):
            return False
        try:
            self._check_lost(loop, run.training.seed, run.training.made + 1)
        except LRFinderError:
            return False
        return True

    def _check_lost(self, loop: Loop, seed: int, updates: int) -> None:
        """Raise TaskFailed where so many updates at next to no lr cannot be made either."""
        passed, per_epoch = self._passed(loop).by_seed, loop.data(self.device).updates_per_epoch
        whole = max(passed.values(), default=0)  # has seen what there is, under whatever seed
        if max(passed.get(seed, 0), whole if whole >= per_epoch else 0) >= updates:
            return
        further = min(2 * updates, loop.epochs * per_epoch)
        self.losses_at_no_lr(loop, seed, max(updates, further))

    def _passed(self, loop: Loop) -> _Passed:
        return loop.data(self.device).findings.setdefault(_Passed, _Passed())


def reference_trainer(task: Problem, device: torch.device | None = None) -> AnyTrainer:
    """The trainer that trains whatever it is given, one run after another."""
    return DrivenTrainer(device) if isinstance(task, Loop) else SequentialTrainer(device)


def check_trains(trainer: AnyTrainer, task: Problem) -> None:
    """Raise InvalidArgument where a trainer is of the other kind than what it is to train."""
    if not hasattr(trainer, "advance"):
        got = shown_value(trainer)
        raise InvalidArgument(f"trainer must be one, as SequentialTrainer() is, but got {got}")
    if isinstance(task, Loop) != isinstance(trainer, DrivenTrainer):
        kind, usual = type(task).__name__, type(reference_trainer(task)).__name__
        raise InvalidArgument(
            f"trainer must be able to train a {kind}, but got a {type(trainer).__name__}; "
            f"leave it out, which takes {usual}"
        )


def _ended_early(loop: Loop, made: int, device: torch.device | None) -> str:
    asked = loop.epochs * loop.data(device).updates_per_epoch
    cure = (
        "go on for training.epochs epochs, without early stopping"
        if loop.steps_per_epoch is None
        else "go on for training.updates, without early stopping, or correct "
        f"steps_per_epoch={loop.steps_per_epoch}"
    )
    return (
        f"the loop must go on for training.epochs == {loop.epochs} epochs, {asked} updates, "
        f"but train(training) ended after {made}; {cure}"
    )
