"""Where each measure of a sweep was best, and why a suggestion lies elsewhere.

The way of choosing an lr that courses teach: raise it after every epoch, write down lr, loss and
accuracy, and take the lr at which the accuracy is highest. It is read off here as it is taught. A
suggestion lies below it where a training is longer than a few epochs, and above it where the sweep
had learnt most there is to learn before it came to the best lr.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion

_ALIKE = 1.25  # factor between lrs that are as good as the same


@dataclass(frozen=True)
class BestStep:
    """The step of a sweep at which a measure was best."""

    measure: str
    """The loss, or a metric."""
    extreme: Literal["highest", "lowest"]
    """Which of its values is best: what it moves to while the loss falls."""
    lr: float
    value: float
    """Mean over the seeds."""
    step: int
    """From 0."""


def measured(curve: Curve) -> dict[str, Floats]:
    """Means over the seeds after each step, by measure, the loss first; nan from a divergence."""
    return {"loss": curve.mean, **{k: v.mean(axis=0) for k, v in curve.metrics.items()}}


def best_steps(curve: Curve) -> list[BestStep]:
    """Where each measure was best, the earliest of equals; none for one that was never finite."""
    means = measured(curve)
    if not np.isfinite(means["loss"]).any():
        return []
    lowest = int(np.nanargmin(means["loss"]))
    found: list[BestStep] = []
    for name, values in means.items():
        finite = np.flatnonzero(np.isfinite(values))
        if not finite.size:
            continue
        falls = name == "loss" or values[lowest] < values[finite[0]]
        step = int(np.nanargmin(values) if falls else np.nanargmax(values))
        extreme = "lowest" if falls else "highest"
        found.append(BestStep(name, extreme, float(curve.lr[step]), float(values[step]), step))
    return found


def compared(curve: Curve, suggestion: Suggestion) -> list[str]:
    """A sentence for each measure: where it was best, and why the suggestion is another lr.

    None where the lr grew per batch: a single batch shows no accuracy.
    """
    if curve.every != "epoch":
        return []
    return [_compared(best, curve, suggestion) for best in best_steps(curve)]


def _compared(best: BestStep, curve: Curve, suggestion: Suggestion) -> str:
    where = (
        f"{best.measure} is {best.extreme} at {best.lr:.2g} ({best.value:.3g}), "
        f"epoch {best.step + 1} of {len(curve.lr)}"
    )
    if suggestion.lr is None:
        return f"{where}; nothing is suggested: {suggestion.verdict}"
    if max(suggestion.lr / best.lr, best.lr / suggestion.lr) <= _ALIKE:
        return f"{where}; the suggestion is about the same"
    if suggestion.schedule != "constant":
        return f"{where}; the suggestion is the peak of {suggestion.schedule}"
    if suggestion.lr > best.lr:
        return (
            f"{where}; the suggestion is higher because the sweep had learnt at lower lrs already "
            "when it came there, while a training starts with nothing"
        )
    updates = "" if suggestion.budget is None else f" over {suggestion.budget} updates"
    return (
        f"{where}; the suggestion is lower because one epoch after many at lower lrs bears a "
        f"higher lr than a whole training{updates}"
    )


def facts_by_epoch(curve: Curve, suggestion: Suggestion) -> dict[str, Any]:
    """The table of the sweep, where each measure was best, and the sentences, as JSON has them.

    Nothing where the lr grew per batch.
    """
    if curve.every != "epoch":
        return {}
    columns = {"lr": curve.lr, **measured(curve)}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return {
        "steps": [dict(zip(columns, row, strict=True)) for row in rows],
        "best_steps": [asdict(best) for best in best_steps(curve)],
        "compared": compared(curve, suggestion),
    }
