"""The families whose lr rises, by torch's own scheduler classes.

The given lr is the peak of each. one_cycle and triangular start below it, so that they need no
warm-up; torch's SequentialLR would start them from the wrong lr. Momentum is never cycled.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR

from lrfinder.checks import COUNT, FRACTION, NOT_NEGATIVE
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families.codegen import builder, call, torch_writer, writer
from lrfinder.schedules.families.decays import suggest_eta_min
from lrfinder.schedules.families.family import Budget, Family, Params, Trial


def _restarts_space(trial: Trial, budget: Budget) -> Params:
    return {
        "T_0": trial.suggest_int("T_0", 2, budget.steps - 2),
        "T_mult": trial.suggest_int("T_mult", 1, 2),
        "eta_min": suggest_eta_min(trial, budget),
    }


COSINE_RESTARTS = Family(
    name="cosine_restarts",
    label="CosineAnnealingWarmRestarts",
    params={"T_0": COUNT, "T_mult": COUNT, "eta_min": NOT_NEGATIVE},
    build=builder(CosineAnnealingWarmRestarts),
    code=torch_writer("CosineAnnealingWarmRestarts"),
    space=_restarts_space,
    defaults=lambda budget: [{"T_0": budget.steps // 2, "T_mult": 1, "eta_min": 0.0}],
    formula=(
        "lr(t) = eta_min + (lr0 - eta_min) * (1 + cos(pi * s / T_i)) / 2, s steps after restart i,"
        " T_i = T_0 * T_mult**i"
    ),
    source=(
        "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts; "
        "Loshchilov and Hutter, arXiv 1608.03983"
    ),
    min_steps=4,
)


def _one_cycle(optimizer: Optimizer, total_steps: int, pct_start: float) -> OneCycleLR:
    if not pct_start * total_steps > 1:  # at 1 torch divides by zero, below it skips the rise
        raise InvalidArgument(
            f"pct_start * total_steps must be > 1, but got {pct_start} * {total_steps}; "
            "raise pct_start or train longer"
        )
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        max_lr=peaks,
        total_steps=total_steps,
        pct_start=pct_start,
        cycle_momentum=False,
    )


def _one_cycle_code(total_steps: int, pct_start: float) -> str:
    return call(
        "OneCycleLR",
        'max_lr=[float(group["lr"]) for group in optimizer.param_groups]',
        f"total_steps={total_steps}",
        f"pct_start={pct_start!r}",
        "cycle_momentum=False",
    )


def _shortest_rise(budget: Budget) -> float:
    """The least pct_start: the rise takes more than one step."""
    return max(0.05, 1.5 / budget.steps)


def _one_cycle_space(trial: Trial, budget: Budget) -> Params:
    pct_start = trial.suggest_float("pct_start", _shortest_rise(budget), 0.6)
    return {"total_steps": budget.steps, "pct_start": pct_start}


ONE_CYCLE = Family(
    name="one_cycle",
    label="OneCycleLR",
    params={"total_steps": COUNT, "pct_start": FRACTION},
    build=builder(_one_cycle),
    code=writer(_one_cycle_code),
    space=_one_cycle_space,
    defaults=lambda budget: [{"pct_start": max(0.3, _shortest_rise(budget))}],
    formula=(
        "half a cosine from lr0 / 25 up to lr0 at t = pct_start * total_steps - 1, "
        "another down to lr0 / 250000 at t = total_steps - 1"
    ),
    source="torch.optim.lr_scheduler.OneCycleLR; Smith and Topin, arXiv 1708.07120",
    min_steps=3,
    warmup=False,
)


def _triangular(optimizer: Optimizer, step_size_up: int) -> CyclicLR:
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return CyclicLR(
        optimizer,
        base_lr=[lr / 4 for lr in peaks],
        max_lr=peaks,
        step_size_up=step_size_up,
        cycle_momentum=False,
    )


def _triangular_code(step_size_up: int) -> str:
    return call(
        "CyclicLR",
        'base_lr=[float(group["lr"]) / 4 for group in optimizer.param_groups]',
        'max_lr=[float(group["lr"]) for group in optimizer.param_groups]',
        f"step_size_up={step_size_up}",
        "cycle_momentum=False",
    )


def _triangular_space(trial: Trial, budget: Budget) -> Params:
    return {"step_size_up": trial.suggest_int("step_size_up", 1, budget.steps - 1)}


TRIANGULAR = Family(
    name="triangular",
    label="CyclicLR",
    params={"step_size_up": COUNT},
    build=builder(_triangular),
    code=writer(_triangular_code),
    space=_triangular_space,
    defaults=lambda budget: [{"step_size_up": budget.steps // 2}],
    formula="straight lines from lr0 / 4 up to lr0 in step_size_up steps, and down, and so on",
    source="torch.optim.lr_scheduler.CyclicLR; Smith, arXiv 1506.01186",
    min_steps=3,
    warmup=False,
)
