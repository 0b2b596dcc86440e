"""How long the trainings of a range test are, and how many: by the training, or by a limit.

Without a limit a test is a sweep of 100 updates and at most 8 probes of a tenth of the training,
120 to 200 updates. A limit first takes probes away, down to three, and then shortens sweep and
probes alike. Shorter probes make a wider interval: it grows with the training's length over theirs.
"""

import math
from dataclasses import dataclass, replace

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests import defaults
from lrfinder.range_tests.rules.probes import probe_updates
from lrfinder.types import Every

_SHORTEST = 0.25
"""Share of the usual lengths below which a test shows too little."""


@dataclass(frozen=True)
class Lengths:
    """What one seed of a range test trains, at most."""

    steps: int
    """Learning rates of the sweep."""
    sweep: int
    """Updates of the sweep."""
    probe: int
    """Updates of a probe."""
    probes: int
    """Most probes."""

    @property
    def updates(self) -> int:
        """Updates of the sweep and all probes."""
        return self.sweep + self.probes * self.probe


def lengths(
    steps: int | None,
    every: Every,
    probes: int,
    updates_per_epoch: int,
    budget: int,
    *,
    cost: float | None = None,
    seeds: int = 1,
) -> Lengths:
    """Return how long the trainings of each seed are.

    Args:
        steps: how many learning rates; None for the default number.
        every: when the lr grows.
        probes: most probes.
        updates_per_epoch: of the task.
        budget: updates of a whole training.
        cost: most that all seeds may take, as a share of a whole training; None for no limit.
        seeds: how many there are.

    Raises InvalidArgument for a cost that is none, is given together with what it decides, or is
    too low for a test.
    """
    number = steps or defaults.STEPS[every]
    sweep = number * (1 if every == "batch" else updates_per_epoch)
    by_budget = steps is None and every == "batch"
    usual = Lengths(
        number, sweep, min(probe_updates(budget) if by_budget else sweep, budget), probes
    )
    if cost is None:
        return usual
    check_cost(cost, steps, every, probes)
    return _limited(usual, cost, budget, seeds)


def check_cost(cost: float, steps: int | None, every: Every, probes: int) -> None:
    """Raise InvalidArgument for a cost that is no share, or beside what it decides."""
    if not 0 < cost < math.inf:
        raise InvalidArgument(f"cost must be a positive share of the training, but got {cost}")
    for name, given in (
        ("steps", steps is not None),
        ("every", every != defaults.EVERY),
        ("probes", probes != defaults.PROBES),
    ):
        if given:
            raise InvalidArgument(f"cost and {name} exclude each other, but got both")


def _limited(usual: Lengths, cost: float, budget: int, seeds: int) -> Lengths:
    most = int(round(cost * budget / seeds, 9))  # 1.15 * 200 is less than 230
    if usual.updates <= most:
        return usual
    fewest = replace(usual, probes=defaults.FEWEST_PROBES)
    if fewest.updates <= most:
        return replace(usual, probes=(most - usual.sweep) // usual.probe)
    part = most / fewest.updates
    if part < _SHORTEST:
        needed = 100 * seeds * math.ceil(_SHORTEST * fewest.updates) / budget
        raise InvalidArgument(
            f"cost must be at least {math.ceil(needed)}% here, {_SHORTEST * fewest.updates:.0f} "
            f"updates a seed of a training of {budget}, but got {100 * cost:.3g}%"
        )
    steps = int(part * usual.steps)
    return Lengths(steps, steps, (most - steps) // fewest.probes, fewest.probes)
