"""Which of torch's schedulers a family of the user's own builds, and with which parameters.

So that what is known of the built-in families holds for ``lambda o: StepLR(o, 30)`` too.
"""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from lrfinder.schedules.decays import joined
from lrfinder.schedules.family import Family, Params

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


def recognised(family: Family, params: Params, optimizer: Optimizer) -> tuple[str, Params]:
    """Name and parameters of the built-in family that this one is; its own where it is none.

    The optimizer's learning rates are set by what is built on it. What `build` raises is raised.
    """
    built = family.build(optimizer, params)
    known = _KNOWN.get(type(built))
    return (family.name, params) if known is None else (known[0], known[1](built))
