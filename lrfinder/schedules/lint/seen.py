"""What the rules see: a schedule's numbers beside the training, and what they mean by family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lrfinder.arrays import Floats
from lrfinder.schedules.families.decays import milestones_of
from lrfinder.types import Per, Value

WHOLE = {  # parameter that is the length of the whole schedule, by family
    "cosine": "T_max",
    "polynomial": "total_iters",
    "one_cycle": "total_steps",
    "wsd": "steps",
}
CYCLE = {"cosine_restarts": "T_0"}  # the length of one cycle
MILD = {  # parameter by which a decay is made milder, by family
    "step": "gamma",
    "multistep": "gamma",
    "exponential": "gamma",
    "exponential_steps": "decay_rate",
    "inverse_time": "decay_rate",
    "polynomial": "power",
}
ON_PURPOSE = ("cosine_restarts", "triangular", "constant")  # climb, or stay, as they are meant to
KNOWN = {*WHOLE, *MILD, *ON_PURPOSE, "plateau"}
"""Families whose parameters these rules know."""
ALIKE = 0.1  # share by which two lengths may differ that are meant to be the same


@dataclass(frozen=True)
class Seen:
    """The numbers of a schedule, and of the training that it is for."""

    name: str
    """Of its family, or of torch's scheduler that a family of the user's own builds."""
    params: Mapping[str, Value]
    per: Per
    warmup: int
    """Scheduler steps of warm-up."""
    epochs: int
    updates_per_epoch: int | None
    """None where it is not known; a schedule that is stepped per batch needs it."""
    lrs: Callable[[Mapping[str, Value]], Floats | None]
    """Lr at each scheduler step of the training, with these parameters; None where not known."""
    length: int | None = None
    """Scheduler steps, where the schedule is for a part of the training."""

    @property
    def total(self) -> int:
        """Scheduler steps of the training."""
        if self.length is not None:
            return self.length
        return self.epochs * (1 if self.per == "epoch" else self.updates_per_epoch or 1)

    @property
    def steps(self) -> int:
        """Scheduler steps that the warm-up leaves."""
        return self.total - self.warmup

    @property
    def unit(self) -> str:
        """What a scheduler step is."""
        return "epochs" if self.per == "epoch" else "updates"

    def count(self, name: str) -> int | None:
        """A parameter that counts scheduler steps."""
        value = self.params.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def first_firing(seen: Seen) -> tuple[str, int] | None:
    """The parameter that says when a staircase first falls, and when."""
    if seen.name == "multistep":
        late = milestones_of(seen.params)
        return ("milestones", late[0]) if late else None
    if seen.name == "step":
        name = "step_size"
    elif seen.params.get("staircase") is True:
        name = "decay_steps"
    else:
        return None
    value = seen.count(name)
    return None if value is None else (name, value)
