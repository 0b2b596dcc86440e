"""Second looks: the best trials of a family are trained on seeds to which they owe nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lrfinder.training.records.history import Outcome
from lrfinder.tuning.storages.facts import rounded

_REFERENCE = "constant"
"""The family that all others are compared with; its lr is chosen on more seeds than theirs."""


class Stage(NamedTuple):
    """The best so many trials of a family are trained on so many other seeds in all."""

    trials: int
    seeds: int


_STAGES = (Stage(3, 1),)
_OF_REFERENCE = (Stage(5, 1), Stage(3, 3), Stage(2, 7))
"""Of the constant lr: with the seed of the search on 2, 4 and 8; see studies/constant_lr.md."""
MOST_STAGES = len(_OF_REFERENCE)


@dataclass(frozen=True)
class SecondLook:
    """What a trial came to on other seeds."""

    values: tuple[float, ...]
    """On each of them; what it had before training where it diverged."""
    lost: tuple[bool, ...]
    """On which of them it diverged."""
    updates: int

    @property
    def value(self) -> float:
        """Mean over them."""
        return sum(self.values) / len(self.values)

    @property
    def diverged(self) -> bool:
        """Whether it did on any of them."""
        return any(self.lost)

    @property
    def runs(self) -> int:
        """How many seeds they were."""
        return len(self.values)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> "SecondLook":
        """What a study holds of it; an older one holds the mean alone."""
        count = len(facts["seeds"])
        values = facts.get("values", [facts.get("value")] * count)
        lost = facts.get("lost", [facts.get("diverged", False)] * count)
        return cls(tuple(map(float, values)), tuple(lost), int(facts["updates"]))

    def extended(self, outcomes: Sequence[Outcome], updates: int) -> "SecondLook":
        """With the outcomes on further seeds, which took so many updates."""
        return SecondLook(
            values=(*self.values, *(outcome.value for outcome in outcomes)),
            lost=(*self.lost, *(outcome.diverged for outcome in outcomes)),
            updates=self.updates + updates,
        )

    def facts(self, seeds: Sequence[int]) -> dict[str, Any]:
        """What a study holds of it."""
        values = [rounded(value) for value in self.values]
        lost, updates = list(self.lost), self.updates
        return {"seeds": list(seeds), "values": values, "lost": lost, "updates": updates}


def stages(family: str, trials: int, seeds: int) -> list[Stage]:
    """How the best of so many trials of a family are trained on these other seeds, in turn.

    The best three on one of them, but no more than half, and not one alone. The constant lr, by
    which a decay is judged, on all: chosen on two noisy runs it would be a poor one, and any decay
    shown to be better. The worse ones do not go on, so that few runs choose among many lrs.

    >>> [stages("step", n, 7) for n in (2, 3, 20)]
    [[], [Stage(trials=2, seeds=1)], [Stage(trials=3, seeds=1)]]
    >>> [tuple(stage) for stage in stages("constant", 10, 7)]
    [(5, 1), (3, 3), (2, 7)]
    >>> [tuple(stage) for stage in stages("constant", 3, 2)]
    [(3, 1), (3, 2)]
    """
    is_reference = family == _REFERENCE
    if trials < (2 if is_reference else 3):
        return []
    most = trials if is_reference else (trials + 1) // 2
    planned = _OF_REFERENCE if is_reference else _STAGES
    cut = [Stage(min(most, stage.trials), min(seeds, stage.seeds)) for stage in planned]
    return [stage for k, stage in enumerate(cut) if stage.seeds > (cut[k - 1].seeds if k else 0)]


def second_looks(family: str, trials: int, seeds: int) -> int:
    """Runs of the best of so many trials on other seeds.

    >>> second_looks("step", 10, 7), second_looks("constant", 10, 7)
    (3, 19)
    """
    found, before = 0, 0
    for stage in stages(family, trials, seeds):
        found += stage.trials * (stage.seeds - before)
        before = stage.seeds
    return found


def count_of_second_seeds(trials: int) -> int:
    """On how many further seeds the best of a search are trained at most; see `stages`.

    `trials` is how many each family has on average: where they are few, so are these.

    >>> [count_of_second_seeds(trials) for trials in (1, 3, 4, 6, 10, 100)]
    [1, 1, 2, 3, 7, 7]
    """
    return min(_OF_REFERENCE[-1].seeds, max(1, trials // 2, trials - 3))
