"""Which of torch's schedulers a family of the user's own builds, and with which parameters.

So that what is known of the built-in families holds for ``lambda o: StepLR(o, 30)`` too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from lrfinder.schedules.families.decays import joined
from lrfinder.schedules.families.family import Family, Params

_KNOWN: dict[type, tuple[str, Callable[[Any], Params]]] = {
    StepLR: ("step", lambda s: {"step_size": s.step_size, "gamma": s.gamma}),
    MultiStepLR: (
        "multistep",
        lambda s: {"milestones": joined(s.milestones.elements()), "gamma": s.gamma},
    ),
    ExponentialLR: ("exponential", lambda s: {"gamma": s.gamma}),
    CosineAnnealingLR: ("cosine", lambda s: {"T_max": s.T_max, "eta_min": s.eta_min}),
    CosineAnnealingWarmRestarts: ("cosine_restarts", lambda s: {"T_0": s.T_0}),
    PolynomialLR: ("polynomial", lambda s: {"total_iters": s.total_iters, "power": s.power}),
    OneCycleLR: ("one_cycle", lambda s: {"total_steps": s.total_steps}),
    CyclicLR: ("triangular", lambda s: {"step_size_up": round(s.total_size * s.step_ratio)}),
    ReduceLROnPlateau: ("plateau", lambda s: {"factor": s.factor, "patience": s.patience}),
}


def recognised(family: Family, params: Params, built: object) -> tuple[str, Params]:
    """Name and parameters of the built-in family that a scheduler is; its own where it is none."""
    known = _KNOWN.get(type(built))
    return (family.name, params) if known is None else (known[0], known[1](built))


@dataclass(frozen=True)
class Part:
    """A scheduler that is one of several, and the scheduler steps that it is for."""

    kind: str
    """Its class."""
    name: str
    """Of the built-in family that it is, else its class."""
    params: Params
    begin: int
    end: int | None
    """None: to the end of the training."""


def parts_of(built: object) -> list[Part]:
    """The schedulers of torch's SequentialLR, one after another, or of its ChainedScheduler."""
    inside: list[Any] = getattr(built, "_schedulers", [])
    if isinstance(built, SequentialLR):
        moments: list[int] = getattr(built, "_milestones", [])
        spans = list(zip([0, *moments], [*moments, None], strict=True))
    elif isinstance(built, ChainedScheduler):
        spans = [(0, None)] * len(inside)
    else:
        return []
    found: list[Part] = []
    for one, (begin, end) in zip(inside, spans, strict=True):
        kind = type(one).__name__
        known = _KNOWN.get(type(one))
        name, params = (kind, {}) if known is None else (known[0], known[1](one))
        found.append(Part(kind, name, params, begin, end))
    return found
