"""What a loop shows when it is started: its optimizers, what it measures, how long an epoch is.

It is started twice under one seed, which must build everything anew, and goes on for one epoch at
next to no lr, whose updates are counted where their number is not given.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules.live import stand_in
from lrfinder.tasks.data.data_checks import OTHER_WEIGHTS
from lrfinder.tasks.data.sketch import Sketch, sketch
from lrfinder.tasks.fields.lr_groups import TRIED, LRGroups, size_of
from lrfinder.tasks.loops.driving import DrivenTraining
from lrfinder.tasks.loops.measuring import measured_by
from lrfinder.tasks.loops.training import Training
from lrfinder.tasks.task import Prototype
from lrfinder.tasks.user_code import user_code

NO_MEASURE = (
    "the loop registers nothing to be measured by (training.measure), so its training loss is "
    "read: that shows no overfitting, and the interval is widened for it"
)
OF_SEVERAL = (
    "the loop drives several optimizers and nothing but its training loss is read; where they work "
    "against each other, as in a GAN, it does not say how well they train: call training.measure"
)
OWN_SCHEDULER = (
    "the loop has a learning-rate scheduler of its own; while it is driven, the learning rates are "
    "those of lrfinder"
)
LITTLE = 1e-12
"""An lr at which nothing is learnt."""
_AT_ONCE, _MOST_COUNTED, _MOST_UNASKED = 256, 1_000_000, 2_000


@dataclass
class LoopData:
    """What was seen of a loop, under the names that a task's data have."""

    prototype: Prototype
    lrs_built: list[float]
    """The lr of every group that it drives, as it was built."""
    updates_per_epoch: int
    measures: tuple[str, ...]
    """"loss" and what else the loop measures."""
    measured: bool
    """Whether the loop measures anything; else its training loss is read."""
    groups: tuple[int, ...]
    """How many parameter groups each optimizer has that it drives."""
    seen: list[str]
    findings: dict[type, Any] = field(default_factory=dict[type, Any])
    """What a trainer has found out about the loop: tried only once."""

    @property
    def valid(self) -> tuple[()] | None:
        """No batches, which the loop's own function reads; None where it has no such function."""
        return () if self.measured else None

    @property
    def fixed_subset(self) -> tuple[()]:
        """No batches: the loop's own function says what it is evaluated on."""
        return ()

    @property
    def rows_of_update(self) -> None:
        """Rows that an update sees, which a loop does not say."""
        return None

    @property
    def repeats(self) -> bool:
        """Whether it is known that its batches come from a set of rows, again and again."""
        return False

    def notes(self) -> list[str]:
        """What a person should know before reading a result."""
        if self.measured:
            return self.seen
        return [*self.seen, NO_MEASURE, *([OF_SEVERAL] if len(self.groups) > 1 else [])]

    def later_notes(self) -> list[str]:
        """Nothing more shows while it trains."""
        return []


def look(
    train: Callable[[Training], object],
    steps_per_epoch: int | None,
    epochs: int,
    device: torch.device | None,
) -> LoopData:
    """Start a loop twice and train one epoch at next to no lr, or one update of a known epoch.

    Raises InvalidArgument for what a loop must not do, and TaskFailed where it raises.
    """
    updates = None if steps_per_epoch is None else epochs * steps_per_epoch
    begin = partial(
        DrivenTraining,
        train,
        0,
        epochs=1 if steps_per_epoch is None else epochs,
        updates=updates,
        device=device,
    )
    first, again = begin(), begin()
    try:
        first.begin()
        again.begin()
        _check_built_anew(first, again)
        alike = sketch_of_start(first).alike(sketch_of_start(again))
        groups = [group for one in first.optimizers for group in one.param_groups]
        seen = [] if alike else [OTHER_WEIGHTS]
        seen += [OWN_SCHEDULER] if any("initial_lr" in group for group in groups) else []
        prototype = _prototype(first)
        measured = {} if first.measuring is None else measured_by(first)
        again.close()
        if steps_per_epoch is None:
            steps_per_epoch = _counted(first)
        else:
            _advance(first, min(2, epochs * steps_per_epoch))
    finally:
        for one in (first, again):
            one.close()
    names = [name for name in measured if name != "loss"]
    return LoopData(
        prototype,
        first.lrs_built,
        steps_per_epoch,
        ("loss", *names),
        bool(measured),
        tuple(len(one.param_groups) for one in first.optimizers),
        seen,
    )


def group_lrs(built: list[float], lr: float) -> list[float]:
    """The lr of every group, whose ratios stay as built, where the largest is to be this one.

    >>> group_lrs([0.5, 0.25], 0.1)
    [0.1, 0.05]
    """
    largest = max(built)
    return [lr if one == largest else one * (lr / largest) for one in built]


def joint_stand_in(training: DrivenTraining, lr: float) -> Optimizer:
    """A stand-in (`schedules/live.py`) of all that a loop drives, built for this lr."""
    twin, *others = (stand_in(one) for one in training.optimizers)
    for other in others:
        twin.param_groups += other.param_groups
    lrs = group_lrs(training.lrs_built, lr)
    names = training.group_names
    for group, own, name in zip(twin.param_groups, lrs, names, strict=True):
        group["lr"], group["name"] = own, name
        group.pop("initial_lr", None)
    return twin


def sketch_of_start(training: DrivenTraining) -> Sketch:
    """Sketch of the parameters that a loop drives."""
    return sketch(driven_parameters(training))


def sketch_of_gradients(training: DrivenTraining) -> Sketch | None:
    """Sketch of the gradients before the first step, which its first batches gave; None without."""
    gradients = [p.grad for p in driven_parameters(training) if p.grad is not None]
    strided = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    return sketch(strided) if strided else None


def driven_parameters(training: DrivenTraining) -> list[Tensor]:
    """The parameters that a loop drives."""
    groups = [group for one in training.optimizers for group in one.param_groups]
    return [p for group in groups for p in group["params"]]


def _check_built_anew(first: DrivenTraining, again: DrivenTraining) -> None:
    known = {id(p) for p in driven_parameters(first)}
    if any(id(p) in known for p in driven_parameters(again)):
        raise InvalidArgument(
            "the loop must build its model and optimizer anew at every call, but drives the same "
            "parameters twice; build them inside train(training)"
        )


def _prototype(training: DrivenTraining) -> Prototype:
    parameters = driven_parameters(training)
    kinds = dict.fromkeys(type(one).__name__ for one in training.optimizers)
    ratios: Floats = np.array([group_lrs(training.lrs_built, lr) for lr in TRIED])
    groups = [group for one in training.optimizers for group in one.param_groups]
    sizes = tuple(size_of(group["params"]) for group in groups)
    return Prototype(
        device=parameters[0].device,
        parameters=sum(p.numel() for p in parameters),
        untrained=0,
        trainable=len(parameters),
        weights=sum(p.numel() for p in parameters if p.requires_grad),
        optimizer=" and ".join(kinds),
        stand_in=joint_stand_in(training, 1.0),
        groups=LRGroups(ratios, names=tuple(training.group_names), sizes=sizes),
    )


def lost_at_no_lr(training: DrivenTraining) -> str:
    """What is said of a training at next to no lr whose last loss is not finite."""
    return (
        f"the loss of update {training.made} (seed {training.seed}) is not finite at next to no lr "
        "either; check the data for nan and the scale of inputs, targets and initial weights"
    )


def _advance(training: DrivenTraining, updates: int) -> None:
    lrs = np.tile(group_lrs(training.lrs_built, LITTLE), (updates, 1))
    with user_code("training"):
        training.advance(lrs, np.full(updates, np.nan))


def _counted(training: DrivenTraining) -> int:
    """Updates until the loop returns."""
    for _ in count():
        _advance(training, _AT_ONCE)
        if training.broken:
            raise TaskFailed(lost_at_no_lr(training))
        if training.ended:
            break
        if training.made > _MOST_UNASKED and not training.length_read:
            raise InvalidArgument(
                f"the loop has made {training.made:,} updates without asking how long to go on, "
                "so that an epoch may have no end; go on for training.epochs epochs, or give "
                "Loop(steps_per_epoch=...)"
            )
        if training.made > _MOST_COUNTED:
            raise InvalidArgument(
                f"an epoch must have an end, but training.epochs == 1 made {training.made:,} "
                "updates; go on for training.epochs epochs, or give Loop(steps_per_epoch=...)"
            )
    if training.made == 0:
        raise InvalidArgument(
            "the loop must report its updates, but an epoch had none; "
            "call training.log(loss) after optimizer.step()"
        )
    return training.made
