"""The families that go down once, by torch's own scheduler classes."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from lrfinder.checks import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Rule, one_of, whole
from lrfinder.schedules.families.codegen import builder, call, torch_writer, writer
from lrfinder.schedules.families.family import Budget, Family, Params, Trial


def suggest_gamma(trial: Trial) -> float:
    """The factor of one drop; 0.1 to 0.5 is usual, 0.1 is torch's default."""
    return trial.suggest_float("gamma", 0.02, 0.9, log=True)


def suggest_eta_min(trial: Trial, budget: Budget) -> float:
    """The floor of a cosine, below a tenth of every lr in the study."""
    return trial.suggest_float("eta_min", 0.0, 0.1 * budget.lowest_lr)


CONSTANT = Family(
    name="constant",
    label="ConstantLR",
    params={},
    build=lambda optimizer, _: ConstantLR(optimizer, factor=1.0),
    code=torch_writer("ConstantLR", {"factor": 1.0}),
    space=lambda _trial, _budget: {},
    formula="lr(t) = lr0",
    source="torch.optim.lr_scheduler.ConstantLR",
)


def _step_space(trial: Trial, budget: Budget) -> Params:
    step_size = trial.suggest_int("step_size", 1, budget.steps - 1)
    return {"step_size": step_size, "gamma": suggest_gamma(trial)}


def _step_defaults(budget: Budget) -> list[Params]:
    """One late drop."""
    return [{"step_size": min(budget.steps - 1, max(1, round(0.7 * budget.steps))), "gamma": 0.1}]


STEP = Family(
    name="step",
    label="StepLR",
    params={"step_size": COUNT, "gamma": POSITIVE},
    build=builder(StepLR),
    code=torch_writer("StepLR"),
    space=_step_space,
    defaults=_step_defaults,
    formula="lr(t) = lr0 * gamma**floor(t / step_size)",
    source="torch.optim.lr_scheduler.StepLR",
    min_steps=2,
)


MOST_DROPS = 4
"""Drops of multistep that a study searches; one that is given may have more."""
MILESTONES = Rule(
    "whole numbers >= 1 joined by +, as in 30+60",
    lambda value: isinstance(value, str) and all(map(_is_count, value.split("+"))),
)


def milestones_of(params: Params) -> list[int]:
    """Scheduler steps at which multistep falls, in order; none for any other family.

    >>> milestones_of({"milestones": "30+60", "gamma": 0.1})
    [30, 60]
    """
    return [int(part) for part in str(params.get("milestones", "")).split("+") if _is_count(part)]


def joined(milestones: Iterable[int]) -> str:
    """Milestones as a parameter holds them.

    >>> joined([60, 30])
    '30+60'
    """
    return "+".join(map(str, sorted(milestones)))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) >= 1


def _as_kept(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Milestones as one text: of a list, of a number, or milestone_1 and milestone_2 of old."""
    kept = dict(params)
    if {"milestone_1", "milestone_2"} <= kept.keys() and "milestones" not in kept:
        kept["milestones"] = [kept.pop("milestone_1"), kept.pop("milestone_2")]
    given = kept.pop("milestones", None)
    given = [given] if type(given) is int else given
    if isinstance(given, list | tuple):
        given = "+".join(map(str, cast(Sequence[object], given)))
    if isinstance(given, str) and MILESTONES.holds(text := given.replace(" ", "")):
        given = joined(milestones_of({"milestones": text}))
    return kept if given is None else {"milestones": given, **kept}


def _multistep(optimizer: Optimizer, milestones: str, gamma: float) -> MultiStepLR:
    return MultiStepLR(optimizer, milestones_of({"milestones": milestones}), gamma)


def _multistep_code(milestones: str, gamma: float) -> str:
    steps = milestones_of({"milestones": milestones})
    return call("MultiStepLR", f"milestones={steps}", f"gamma={gamma!r}")


def _multistep_space(trial: Trial, budget: Budget) -> Params:
    """How many drops, and where each lies; equal ranges, so that a sampler learns from all."""
    last = budget.steps - 1
    drops = trial.suggest_int("drops", 1, min(MOST_DROPS, last))
    steps = [trial.suggest_int(f"milestone_{k}", 1, last) for k in range(1, drops + 1)]
    return {"milestones": joined(steps), "gamma": suggest_gamma(trial)}


def _multistep_defaults(budget: Budget) -> list[Params]:
    late = min(budget.steps - 1, round(0.7 * budget.steps))
    return [{"drops": 1, "milestone_1": late, "gamma": 0.1}]


MULTISTEP = Family(
    name="multistep",
    label="MultiStepLR",
    params={"milestones": MILESTONES, "gamma": POSITIVE},
    kept=_as_kept,
    build=builder(_multistep),
    code=writer(_multistep_code),
    space=_multistep_space,
    defaults=_multistep_defaults,
    formula="lr(t) = lr0 * gamma**(number of milestones <= t)",
    source="torch.optim.lr_scheduler.MultiStepLR",
    min_steps=3,
    conditional=True,
)


def _gamma_that_ends_at(share: float, budget: Budget) -> float:
    """The gamma whose last lr of the budget, at t = steps - 1, is this share of the first."""
    return share ** (1 / (budget.steps - 1))


def _exponential_space(trial: Trial, budget: Budget) -> Params:
    low = _gamma_that_ends_at(1e-4, budget)
    return {"gamma": trial.suggest_float("gamma", low, 1.0, log=True)}


EXPONENTIAL = Family(
    name="exponential",
    label="ExponentialLR",
    params={"gamma": POSITIVE},
    build=builder(ExponentialLR),
    code=torch_writer("ExponentialLR"),
    space=_exponential_space,
    defaults=lambda budget: [{"gamma": _gamma_that_ends_at(0.01, budget)}],
    formula="lr(t) = lr0 * gamma**t",
    source="torch.optim.lr_scheduler.ExponentialLR",
    min_steps=2,
)


def _cosine_space(trial: Trial, budget: Budget) -> Params:
    """A T_max below the budget would let the lr climb back before the end."""
    T_max = trial.suggest_int("T_max", budget.steps, 2 * budget.steps)
    return {"T_max": T_max, "eta_min": suggest_eta_min(trial, budget)}


COSINE = Family(
    name="cosine",
    label="CosineAnnealingLR",
    params={"T_max": COUNT, "eta_min": NOT_NEGATIVE},
    build=builder(CosineAnnealingLR),
    code=torch_writer("CosineAnnealingLR"),
    space=_cosine_space,
    defaults=lambda budget: [{"T_max": budget.steps, "eta_min": 0.0}],
    formula="lr(t) = eta_min + (lr0 - eta_min) * (1 + cos(pi * t / T_max)) / 2; rises after T_max",
    source="torch.optim.lr_scheduler.CosineAnnealingLR; Loshchilov and Hutter, arXiv 1608.03983",
    min_steps=2,
)


def _polynomial_space(trial: Trial, budget: Budget) -> Params:
    power = trial.suggest_float("power", 0.5, 4.0, log=True)
    return {"total_iters": budget.steps, "power": power}


POLYNOMIAL = Family(
    name="polynomial",
    label="PolynomialLR",
    params={"total_iters": COUNT, "power": POSITIVE},
    build=builder(PolynomialLR),
    code=torch_writer("PolynomialLR"),
    space=_polynomial_space,
    defaults=lambda _: [{"power": 1.0}],
    formula="lr(t) = lr0 * (1 - min(t, total_iters) / total_iters)**power",
    source="torch.optim.lr_scheduler.PolynomialLR",
    min_steps=2,
)


def _longest_patience(budget: Budget) -> int:
    """So long that it can still fire after the measure improved for half of the epochs."""
    return (budget.epochs - 2) // 2


def _plateau_space(trial: Trial, budget: Budget) -> Params:
    return {
        "mode": "min" if budget.direction == "minimize" else "max",
        "factor": trial.suggest_float("factor", 0.1, 0.8, log=True),
        "patience": trial.suggest_int("patience", 0, _longest_patience(budget)),
    }


PLATEAU = Family(
    name="plateau",
    label="ReduceLROnPlateau",
    params={"mode": one_of("min", "max"), "factor": FRACTION, "patience": whole(0)},
    # torch skips reductions below eps = 1e-8, which would freeze small lrs and break group ratios
    build=builder(partial(ReduceLROnPlateau, eps=0.0)),
    code=torch_writer("ReduceLROnPlateau", {"eps": 0.0}),
    space=_plateau_space,
    defaults=lambda budget: [{"factor": 0.1, "patience": min(10, _longest_patience(budget))}],
    formula="lr is multiplied by factor after more than patience epochs without a better measure",
    source="torch.optim.lr_scheduler.ReduceLROnPlateau",
    min_steps=3,
    by_measure=True,
)
