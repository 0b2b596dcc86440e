"""What a range test suggests: a learning rate with an interval, or why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.prior import Prior
from lrfinder.schedules import Schedule
from lrfinder.schedules.transfer import peak_multiplier

Verdict = Literal["suggested", "inconclusive"]
RULE = "constant-lr probes"
SWEEP_RULE = "centre of the fall"
"""The rule where there are no probes."""
_FROM_BROKEN = 4.0  # a peak keeps so far from where a run broke: between probes nothing is known
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
    band_low: float | None = None
    band_high: float | None = None
    """Tolerance band: lrs at which the training should lose less than 5% of the loss's fall."""
    broke_at: float | None = None
    """The lowest lr above the suggested one at which a run diverged."""
    turned_up_at: int | None = None
    """Update after which the validation loss of a short run rose again."""

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

        lr, interval and tolerance band are multiplied by `peak_multiplier` of the schedule's shape;
        among parameter groups, whose lrs are in these ratios, or are those of an optimizer that was
        built for lr 1, that is the largest lr of each update. They are not
        raised so far that the lr comes nearer than a quarter to where a run broke. An
        inconclusive suggestion stays as it is, and so does one for plateau, whose shape is not
        known before training.
        """
        factor = 1.0
        if not schedule.family.by_measure:
            steps = updates if schedule.per == "batch" else -(-updates // updates_per_epoch)
            lrs = lr_ratios
            if isinstance(lrs, Optimizer):
                lrs = [float(group["lr"]) for group in lrs.param_groups]
            shape = schedule.rows(lr_ratios, steps).max(axis=1) / (max(lrs) or 1.0)
            repeats = 1 if schedule.per == "batch" else updates_per_epoch
            factor = peak_multiplier(np.repeat(shape, repeats)[:updates])
        if self.lr is not None and self.broke_at is not None:
            factor = min(factor, max(1.0, self.broke_at / _FROM_BROKEN / self.lr))
        lrs = {name: getattr(self, name) for name in _LRS}
        moved = {name: None if lr is None else lr * factor for name, lr in lrs.items()}
        return replace(self, **moved, schedule=str(schedule))
