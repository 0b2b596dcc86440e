"""What a study holds of a trial, and what is read back from it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from lrfinder.tasks.fields.measures import measure_column
from lrfinder.training.records.history import History, Outcome

_MOST_REPORTED = 12
_SIGNIFICANT = 6  # digits of a stored value; more do not fit the dashboard's cards


def is_own(trial: FrozenTrial) -> bool:
    """Whether a trial that ended was trained here, and not put into the study by hand."""
    return {"diverged", "updates"} <= trial.user_attrs.keys()


def counts(trial: FrozenTrial) -> bool:
    """Whether the sampler may learn from a trial that ended."""
    return trial.state == TrialState.FAIL or is_own(trial)


def asked_params(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was enqueued with, and what it had drawn."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def trial_facts(history: History, outcomes: Sequence[Outcome], objective: str) -> dict[str, Any]:
    """User attributes of a trial: means over its seeds; None where a run diverged."""
    facts: dict[str, Any] = {
        "diverged": any(outcome.diverged for outcome in outcomes),
        f"{objective} before training": rounded(np.mean([outcome.start for outcome in outcomes])),
        "updates": history.updates_trained,
        "seeds": [plan.seed for plan in history.plans],
    }
    raised = [message for message in history.raised if message is not None]
    if raised:
        facts["raised"] = raised[0]
    for name, values in history.measures.items():
        final = values[:, -1].mean()
        facts[f"final {measure_column(name)}"] = rounded(final) if np.isfinite(final) else None
    return facts


def reported_epochs(evaluations: int) -> list[int]:
    """Evaluations that are reported to the storage, about evenly spaced: the ends, at most 12.

    On SQLite each costs half a millisecond. All of them stand in curves.csv.

    >>> reported_epochs(4), len(reported_epochs(1000)), reported_epochs(1000)[-1]
    ([0, 1, 2, 3], 12, 999)
    """
    places = np.linspace(0, evaluations - 1, min(evaluations, _MOST_REPORTED))
    return places.round().astype(int).tolist()


def overhead(trials: float, evaluations: int) -> float:
    """Seconds that the storage and the sampler take for so many trials of a family.

    Measured with SQLite on a core at about 2.5 GHz: 15 ms a trial, half a millisecond for every
    point that it reports, and an ask that grows by 10 us with every trial that TPE looks at.
    """
    per_trial = 0.015 + 0.0005 * len(reported_epochs(evaluations)) + 0.00001 * trials / 2
    return trials * per_trial


def rounded(value: float | np.floating[Any]) -> float:
    """The value to the digits that the dashboard has room for."""
    return float(f"{value:.{_SIGNIFICANT}g}")
