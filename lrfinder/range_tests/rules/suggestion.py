"""What a range test suggests: a learning rate with an interval, or why there is none."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.rules.prior import Prior
from lrfinder.schedules import Schedule
from lrfinder.schedules.live import stand_in
from lrfinder.schedules.spec import default_schedules
from lrfinder.schedules.transfer import peak_multiplier
from lrfinder.types import Per

Verdict = Literal["suggested", "inconclusive"]
RULE = "constant-lr probes"
SWEEP_RULE = "centre of the fall"
"""The rule where there are no probes."""
_FROM_BROKEN = 4.0  # a peak keeps so far from where a run broke: between probes nothing is known
_ROUNDS = 6
_LRS = ("lr", "low", "high", "band_low", "band_high")  # what moves with the schedule


@dataclass(frozen=True)
class Suggestion:
    """An initial learning rate with an interval, or the reason why there is none."""

    lr: float | None
    """None exactly when the verdict is "inconclusive"."""
    low: float | None
    high: float | None
    """Bounds of the 90% interval of the best lr; None where there is no lr, or a single seed
    without probes."""
    verdict: Verdict
    reason: str
    rule: str = RULE
    alternatives: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    """What other common rules read off the same curves."""
    diverged_at: float | None = None
    """Median over seeds of the lr at which training diverged; None where most runs did not."""
    schedule: str = "constant"
    optimizer: str = ""
    batch_size: int | None = None
    """What the suggestion is valid for; batch_size counts the rows of one update."""
    budget: int | None = None
    """Updates of the training that it is for, where known."""
    lr_scale: float = 1.0
    """What the optimizer's own lr is, over the lr that it is asked to be built for."""
    band_low: float | None = None
    band_high: float | None = None
    """Tolerance band: lrs at which the training should lose less than 5% of the loss's fall."""
    broke_at: float | None = None
    """The lowest lr above the suggested one at which a run diverged, or learnt nothing."""
    unknown_above: float | None = None
    """The highest lr tried, where the probes do not show what a training does at higher ones: they
    were cut shorter than usual for it, or did best at the highest lr."""
    turned_up_at: int | None = None
    """Update after which the loss of a short run rose again."""
    over_fitted: bool | None = None
    """Whether it rose again by over-fitting; None where that is not known, or it did not rise."""
    exponent: float | None = None
    """Power of the training's length by which the best lr falls, where probes show it."""
    stepped_per: Per | None = None
    """How often the schedule is stepped; None for a constant lr."""
    by_schedule: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the peak lr would be for the usual decays at their defaults, by family."""
    problems: tuple[str, ...] = ()
    """What is probably wrong with the schedule, a sentence each."""

    def __repr__(self) -> str:
        lrs = {name: getattr(self, name) for name in ("lr", "low", "high")}
        numbers = (f"{k}={v if v is None else format(v, '.3g')}" for k, v in lrs.items())
        return f"Suggestion({', '.join(numbers)}, verdict={self.verdict!r}, reason={self.reason!r})"

    def _repr_html_(self) -> str:
        import lrfinder

        return lrfinder.html(self)

    def as_prior(self) -> Prior:
        """The lr as a prior for a search: log-normal, its middle 90% the interval.

        Where there is no interval, a factor of ten either way stands for it. InvalidArgument where
        nothing is suggested.
        """
        if self.lr is None:
            raise InvalidArgument(
                f"a prior needs a suggested lr, but got none ({self.reason}); "
                "search a range of your own"
            )
        low, high = self.low or self.lr / 10, self.high or self.lr * 10
        return Prior.around(self.lr, low, high)

    def for_schedule(
        self,
        schedule: Schedule,
        updates: int,
        updates_per_epoch: int,
        lr_ratios: Sequence[float] | Optimizer = (1.0,),
    ) -> "Suggestion":
        """Move a suggestion for a constant lr to the peak lr of a schedule over a run's updates.

        lr, interval and tolerance band are multiplied by `peak_multiplier` of the schedule's shape,
        less where the lr falls with the length of the training;
        among parameter groups, whose lrs are in these ratios, or are those of an optimizer that was
        built for lr 1, that is the largest lr of each update. They are not
        raised so far that the lr comes nearer than a quarter to where a run broke, or to the
        highest lr tried where it is not known what would have broken (`unknown_above`). An
        inconclusive suggestion stays as it is, and so does one for plateau, whose shape is not
        known before training.
        """
        factor = 1.0
        if not schedule.family.by_measure:
            for _ in range(_ROUNDS):  # a floor such as eta_min is no share of the peak
                peak = 1.0 if self.lr is None else self.lr * factor
                shape = _shape(schedule, updates, updates_per_epoch, lr_ratios, peak)
                before, factor = factor, peak_multiplier(shape, self.exponent or 0.0)
                if math.isclose(before, factor, rel_tol=1e-3):
                    break
        bounds = [lr for lr in (self.broke_at, self.unknown_above) if lr is not None]
        free = factor
        if self.lr is not None and bounds:
            factor = min(factor, max(1.0, min(bounds) / _FROM_BROKEN / self.lr))
        lrs = {key: getattr(self, key) for key in _LRS}
        moved = {key: None if lr is None else lr * factor for key, lr in lrs.items()}
        name = schedule.family.name
        times = "" if math.isclose(factor, 1, rel_tol=0.005) else f", times {factor:.2g} for {name}"
        if factor < free and self.unknown_above == min(bounds):
            times += f", no higher for {name} with no lr above {self.unknown_above:.2g} tried"
        return replace(
            self,
            **moved,
            reason=self.reason if self.lr is None else self.reason + times,
            schedule=str(schedule),
            stepped_per=schedule.stepped_per,
        )


def for_schedules(
    constant: Suggestion,
    schedule: Schedule | None,
    updates: int,
    updates_per_epoch: int,
    per: Per = "epoch",
    lr_ratios: Sequence[float] | Optimizer = (1.0,),
) -> Suggestion:
    """Move a suggestion for a constant lr to a schedule, and say what it would be for the others.

    The arguments are those of `Suggestion.for_schedule`; without a schedule the lr stays.
    """
    length = (updates, updates_per_epoch, lr_ratios)
    epochs, moved = max(1, updates // updates_per_epoch), constant
    if schedule is not None:
        moved = constant.for_schedule(schedule, *length)
        wrong = schedule.problems(epochs, updates_per_epoch, moved.lr or 1.0)
        moved = replace(moved, problems=tuple(wrong))
    if constant.lr is None:
        return moved
    usual = default_schedules(epochs, updates_per_epoch, per)
    by_family = {kind.family.name: constant.for_schedule(kind, *length).lr for kind in usual}
    return replace(moved, by_schedule={k: lr for k, lr in by_family.items() if lr is not None})


def _shape(
    schedule: Schedule,
    updates: int,
    updates_per_epoch: int,
    lr_ratios: Sequence[float] | Optimizer,
    peak: float,
) -> Floats:
    """The largest lr of each update over the largest peak of a group: float64[updates]."""
    per_batch = schedule.stepped_per == "batch"
    steps = updates if per_batch else -(-updates // updates_per_epoch)
    if isinstance(lr_ratios, Optimizer):
        groups = stand_in(lr_ratios)
        for group in groups.param_groups:
            group["lr"] = group["lr"] * peak
        lrs, given = [float(group["lr"]) for group in groups.param_groups], groups
    else:
        lrs = given = [ratio * peak for ratio in lr_ratios]
    shape = schedule.rows(given, steps).max(axis=1) / (max(lrs) or 1.0)
    return np.repeat(shape, 1 if per_batch else updates_per_epoch)[:updates]
