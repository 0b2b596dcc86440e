"""What a decay family is: how to build it, what to search in it, how to write it down.

A family turns parameters into a ``torch.optim.lr_scheduler`` object. It touches learning rates
only, never momentum, and takes the base rates from the optimizer's parameter groups, so that their
ratios are kept. Its search space is made for a `Budget`: within that budget every searched
parameter is live, that is, changing it alone changes the learning rates. Any object with the
methods of a `Trial` can ask in it, so that no search library is needed here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.checks import COUNT, POSITIVE, Rule, one_of
from lrfinder.types import Direction, Value

Params = Mapping[str, Value]


class Trial(Protocol):
    """What a search space asks for values: the three methods of an Optuna trial that it may use."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number in [low, high], drawn on a log scale if `log`."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        """One of the choices."""
        ...


@dataclass(frozen=True)
class Budget:
    """What a search space is made for.

    >>> Budget(steps=600, steps_per_epoch=30, lowest_lr=1e-3).epochs
    20
    """

    steps: int
    """Scheduler steps of the decay itself, warm-up taken off: epochs, or updates if per batch."""
    steps_per_epoch: int
    """Scheduler steps in one epoch: 1 if stepped per epoch, else the updates of one epoch."""
    lowest_lr: float
    """The smallest lr that any parameter group can start from in the study; it bounds eta_min."""
    direction: Direction = "minimize"
    """Of the validation measure; the mode of plateau follows it."""

    def __post_init__(self) -> None:
        COUNT.check("steps (what warm-up leaves of the budget)", self.steps)
        COUNT.check("steps_per_epoch", self.steps_per_epoch)
        POSITIVE.check("lowest_lr", self.lowest_lr)
        one_of("minimize", "maximize").check("direction", self.direction)

    @property
    def epochs(self) -> int:
        """Whole epochs in the budget."""
        return self.steps // self.steps_per_epoch


@dataclass(frozen=True)
class GroupRule:
    """What one parameter group goes by, where each has a schedule of its own."""

    family: "Family"
    params: Params
    lr_ratio: float | None
    """The group's lr as a share of the run's; None where the optimizer's own stays."""
    own_ratio: float = 1.0
    """The share that the optimizer gives it."""

    @property
    def peak(self) -> float:
        """The group's lr where the run's is 1."""
        return self.own_ratio if self.lr_ratio is None else self.lr_ratio

    @property
    def factor(self) -> float:
        """What the lr that the optimizer gives the group is multiplied by."""
        return 1.0 if self.lr_ratio is None else self.lr_ratio / self.own_ratio


def nothing_searched(_: Budget) -> list[Params]:
    """The defaults of a family that has no searched parameter, or prefers none."""
    return []


@dataclass(frozen=True)
class Family:
    """A decay family: one row of the registry, or one that a user declares.

    The first three fields are enough:

    >>> from torch.optim.lr_scheduler import LambdaLR
    >>> Family(
    ...     name="hyperbola",
    ...     build=lambda optimizer, p: LambdaLR(optimizer, lambda t: 1 / (1 + p["rate"] * t)),
    ...     space=lambda trial, budget: {"rate": trial.suggest_float("rate", 0.01, 10, log=True)},
    ... ).name
    'hyperbola'
    """

    name: str
    build: Callable[[Optimizer, Params], LRScheduler]
    """The scheduler on an optimizer whose groups hold the peak lrs; momentum stays as it is."""
    space: Callable[[Trial, Budget], Params]
    """Asks the trial for the searched parameters; returns all that `build` needs, JSON-able."""
    defaults: Callable[[Budget], list[Params]] = nothing_searched
    """Values of the searched parameters, inside the space, to try first."""
    code: Callable[[Params], str] | None = None
    """A PyTorch expression on a variable `optimizer`; None prints `task.schedules[name].build`."""
    before: Callable[[Params], str] | None = None
    """Statements that the expression of `code` needs; they end with the line before it."""
    by_group: Callable[[Params], Mapping[str, GroupRule]] | None = None
    """What each parameter group goes by, by its name; None where all go by one rule."""
    params: Mapping[str, Rule] | None = field(default=None, hash=False)
    """Every parameter that `build` needs, and what it must be; None leaves the check to `build`."""
    kept: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = field(default=None, hash=False)
    """Brings parameters as people write them into the form that a schedule keeps."""
    label: str = ""
    """What a schedule of this family is called in print: torch's class name, else the name."""
    formula: str = ""
    """lr(t) at scheduler step t = 0, 1, ... in plain ASCII."""
    source: str = ""
    """The documentation or paper that the formula comes from."""
    min_steps: int = 1
    """Fewest scheduler steps (epochs, if by_measure) in which every searched parameter is live."""
    warmup: bool = True
    """False where the family has a rise of its own and refuses a warm-up."""
    conditional: bool = False
    """Whether some parameter, or its range, depends on another one."""
    by_measure: bool = False
    """Whether it is stepped once an epoch with that epoch's validation measure."""
    watch: str | None = None
    """Which measure that is, "valid_loss" or a metric; None: the one that is optimised."""
