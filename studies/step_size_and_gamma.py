"""The linear program under step decay that comes too early, too late, or not at all.

Beside the families that are searched there are some that have nothing left to search: a tenfold
drop every 3, 10 or 90 epochs, and a constant lr of a tenth. The comparison trains them on the same
fresh seeds as the best step decay.
"""

from dataclasses import replace

import optuna
from torch.optim.lr_scheduler import ConstantLR

from lrfinder import FAMILIES, Family, Task, load_task
from lrfinder.schedules import Budget, Params


def make_task() -> Task:
    """Return the built-in task `linear` with the fixed schedules."""
    schedules = {f"every_{size}": _dropping_every(size) for size in (3, 10, 90)}
    return replace(load_task("linear"), schedules={**schedules, "tenth": TENTH})


def _dropping_every(step_size: int) -> Family:
    """StepLR with gamma 0.1 and nothing to search."""

    def space(_trial: optuna.Trial, _budget: Budget) -> Params:
        return {"step_size": step_size, "gamma": 0.1}

    name = f"every_{step_size}"
    return replace(FAMILIES["step"], name=name, space=space, defaults=lambda _: [])


TENTH = Family(
    name="tenth",
    build=lambda optimizer, _: ConstantLR(optimizer, factor=0.1, total_iters=2**31),
    space=lambda _trial, _budget: {},
)
"""A tenth of the lr from the first update on."""
