"""Learning-rate schedules: decay families, their search spaces, and PyTorch code.

torch's own scheduler classes do the arithmetic. A family (`FAMILIES`) names one of them, or a
small function for LambdaLR, with a search space; a `Schedule` is a family with its
parameters and a warm-up; a `LiveSchedule` gives the learning rates of one run, epoch by epoch. The
given lr is always the peak, and parameter groups keep their ratios (torch's eta_min aside).

>>> schedule = Schedule(family("cosine"), {"T_max": 4, "eta_min": 0.0})
>>> schedule.rows([0.1], steps=5).round(4).ravel().tolist()
[0.1, 0.0854, 0.05, 0.0146, 0.0]
>>> print(schedule.code())
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.0)
# after every epoch: scheduler.step()

    groups       a rule for each parameter group: a schedule and an lr of its own
    lint         what is probably wrong with a schedule, seen without training
    families     the decay families and growths, and their code
"""

from lrfinder.checks import Rule
from lrfinder.schedules.families.family import Budget, Family, Params
from lrfinder.schedules.families.registry import DEFAULT_FAMILIES, FAMILIES, GROWTHS, family
from lrfinder.schedules.live import LiveSchedule
from lrfinder.schedules.schedule import Schedule
from lrfinder.types import Value

__all__ = [
    "DEFAULT_FAMILIES",
    "FAMILIES",
    "GROWTHS",
    "Budget",
    "Family",
    "LiveSchedule",
    "Params",
    "Rule",
    "Schedule",
    "Value",
    "family",
]
