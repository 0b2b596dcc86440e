"""Digits with RMSprop, and exponential decay by 0.96 as two families: in stairs and smooth."""

from dataclasses import replace

import optuna
import torch

from lrfinder import FAMILIES, Family, Task, load_task
from lrfinder.schedules import Budget, Params

DECAY_RATE = 0.96


def make_task() -> Task:
    """Return the built-in task `digits` with RMSprop and both forms of the decay."""
    return replace(
        load_task("digits"),
        name="staircase_or_continuous",
        optimizer=lambda model, lr: torch.optim.RMSprop(model.parameters(), lr),
        schedules={
            "staircase": _decay("staircase", staircase=True),
            "continuous": _decay("continuous", staircase=False),
        },
    )


def _decay(name: str, *, staircase: bool) -> Family:
    """Exponential decay by DECAY_RATE every decay_steps batches, which are searched."""

    def space(trial: optuna.Trial, budget: Budget) -> Params:
        """From three quarters of the lr left at the end to a ten-thousandth."""
        longest, shortest = max(2, budget.steps // 7), max(1, budget.steps // 225)
        decay_steps = trial.suggest_int("decay_steps", shortest, longest, log=True)
        return {"decay_rate": DECAY_RATE, "decay_steps": decay_steps, "staircase": staircase}

    return replace(FAMILIES["exponential_steps"], name=name, space=space, defaults=lambda _: [])
