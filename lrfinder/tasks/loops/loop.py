"""A training loop that stays as it is: two optimizers, closures, phases, whatever it does.

    def train(training):                              # called once per training, under its seed
        model, optimizer = build()
        training.drive(optimizer)                     # lrs are set before each step()
        training.measure(lambda: {"valid_loss": evaluate(model)})
        for epoch in range(training.epochs):
            for batch in loader:
                ...; loss.backward(); optimizer.step(); optimizer.zero_grad()
                training.log(loss)                    # one update

    loop = Loop(train, epochs=20)

It is the other thing that can be trained beside a `Task`, and gives the same facts about itself;
what a Task is told in its fields, it shows when it is looked at (`looking.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch

from lrfinder.arrays import Floats
from lrfinder.checks import check_count
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import Family
from lrfinder.tasks.fields.baseline import STEPS_ASKED, Baseline, as_baseline, code_kind
from lrfinder.tasks.fields.measures import Measure
from lrfinder.tasks.fields.task_checks import (
    check_by_name,
    check_functions,
    check_name,
    check_schedules,
)
from lrfinder.tasks.loops.driving import DrivenTraining, accelerator
from lrfinder.tasks.loops.looking import LoopData, group_lrs, look
from lrfinder.tasks.loops.training import Training, takes_one_argument
from lrfinder.tasks.task import Prototype
from lrfinder.types import CodeKind, Per

_Key = tuple[int, int | None, torch.device | None]
"""Which loop was looked at, with which length of an epoch, and on which device."""


@dataclass(frozen=True, eq=False)
class Loop:
    """A training loop of the user's own, and how long it goes on.

    Raises InvalidArgument, naming the field, the rule and the value, when a field cannot be used.
    """

    train: Callable[[Training], object]
    """Trains once: builds everything, drives its optimizers, and logs every update."""
    _: KW_ONLY
    epochs: int = 10
    """Length of a training: what a schedule decays over, and what a suggested lr is for."""
    steps_per_epoch: int | None = None
    """Updates that make an epoch; by default counted, in one epoch of training.epochs == 1."""
    baseline: Baseline | None = None
    """The lr and schedule in use today, or a number for a constant lr; always compared."""
    schedules: Mapping[str, Family] = field(default_factory=dict[str, Family])
    """Further decay families, each under its own `Family.name`, searched like the built-in ones."""
    name: str = "task"
    """Shown in reports and in the name of the run folder; one line without slash and quote."""
    code_for: CodeKind | None = None
    """What the code of the answer is written for in reports; "function" or "torch" by default."""
    looked: dict[_Key, LoopData] = field(default_factory=dict[_Key, LoopData], repr=False)
    """What was seen of it and of its copies; nothing to give."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_by_name("schedules", self.schedules)
        check_schedules(self.schedules)
        check_functions({"train": self.train})
        if not takes_one_argument(self.train):
            raise InvalidArgument(
                "train must be a function of one argument, train(training), but this one cannot "
                "be called with one"
            )
        check_count("epochs", self.epochs)
        if self.steps_per_epoch is not None:
            check_count("steps_per_epoch", self.steps_per_epoch)
        object.__setattr__(self, "code_for", code_kind(self.code_for, self.baseline))
        if self.baseline is not None:
            asked = self.epochs * (self.steps_per_epoch or STEPS_ASKED)
            baseline = as_baseline(self.baseline, self.per, asked, self.schedules)
            object.__setattr__(self, "baseline", baseline)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured: "loss" and the other measures of the registered function."""
        return self.data().measures

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the measures beside the loss."""
        return self.measures[1:]

    @property
    def update_rows(self) -> None:
        """Rows that an update sees, which a loop does not say."""
        return None

    @property
    def prototype(self) -> Prototype:
        """What starting the loop once shows about its model and optimizers."""
        return self.data().prototype

    evaluate: ClassVar[None] = None
    """What a Task measures of a whole set; a loop's one function measures everything."""
    per: ClassVar[Per] = "epoch"
    """How often schedules are stepped where nobody says it."""

    @property
    def means(self) -> tuple[str, ...]:
        """Names of what is measured."""
        return self.measures

    def trained_for(self, epochs: int) -> "Loop":
        """The loop with trainings of another length."""
        return replace(self, epochs=epochs)

    def measured_by(self, _metrics: Mapping[str, Measure]) -> "Loop":
        """The loop itself: what measures it is one function."""
        return self

    def data(self, device: torch.device | None = None) -> LoopData:
        """What was seen of the loop; it is looked at once per accelerator, and without one."""
        key = (id(self.train), self.steps_per_epoch, accelerator(device))
        if key not in self.looked:
            self.looked[key] = look(self.train, self.steps_per_epoch, self.epochs, device)
        return self.looked[key]

    def group_lrs(self, lrs: Sequence[float]) -> Floats:
        """Learning rate of each group where these lrs are asked for: float64[lrs, groups]."""
        built = self.data().lrs_built
        return np.array([group_lrs(built, lr) for lr in lrs])

    def lasting(self, updates: int, device: torch.device | None) -> "Loop":
        """The loop with epochs enough for so many updates."""
        epochs = -(-updates // self.data(device).updates_per_epoch)
        return self if epochs <= self.epochs else replace(self, epochs=epochs)

    def begun(self, seed: int, device: torch.device | None) -> DrivenTraining:
        """A training of it under a seed, that waits before its first step."""
        updates = self.epochs * self.data(device).updates_per_epoch
        made = DrivenTraining(self.train, seed, epochs=self.epochs, updates=updates, device=device)
        made.begin()
        return made
