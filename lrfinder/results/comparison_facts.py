"""What summary.json holds of a comparison: its looks, and the verdict."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

from pydantic import Field

from lrfinder.comparison.policy import Halving, Look
from lrfinder.comparison.verdict import Verdict
from lrfinder.results.facts import Count, Facts, Number
from lrfinder.statistics import Mean


class MeanFacts(Facts):
    """A mean over seeds with its interval; nan where there is none."""

    mean: Number
    low: Number
    high: Number

    @classmethod
    def of(cls, mean: Mean) -> Self:
        """Facts of a mean."""
        return cls(mean=mean.mean, low=mean.low, high=mean.high)


class LookFacts(Facts):
    """Candidates that were trained on the same further seeds."""

    candidates: list[str]
    seeds: list[int]
    alpha: float
    continues: bool = False
    followers: list[str] = Field(default_factory=list[str])

    def look(self) -> Look:
        """Return it as the comparison had it."""
        return Look(
            tuple(self.candidates),
            tuple(self.seeds),
            self.alpha,
            self.continues,
            tuple(self.followers),
        )


class ConfirmFacts(Facts):
    """How the comparison was made."""

    runs: Count
    """Runs that were asked for, in all."""
    continued: Count | None = None
    """Runs in all after a continuation, if one was asked for."""
    looks: list[LookFacts] = Field(default_factory=list[LookFacts])

    @classmethod
    def of(cls, halving: Halving, looks: Sequence[Look] = ()) -> Self:
        """Facts of a comparison that has come so far."""
        facts = [LookFacts(**asdict(look)) for look in looks]
        return cls(runs=halving.runs, continued=halving.continued, looks=facts)


class AgainstFacts(Facts):
    """The best against the constant lr or the baseline; see `Against`."""

    better_by: MeanFacts
    share: Number
    p: Number
    shown: bool
    could_show: Number
    could_show_share: Number
    runs_to_show: Count | None


class VerdictFacts(Facts):
    """What the comparison says; see `Verdict`."""

    recommended: str
    best: str
    as_good: list[str]
    against: dict[str, AgainstFacts]
    dropped: dict[str, list[str]]
    """Who was dropped, by the number of seeds after which."""
    start_within: Number | None

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Facts of a verdict."""
        return cls(
            recommended=verdict.recommended,
            best=verdict.best,
            as_good=list(verdict.as_good),
            against={
                one.candidate: AgainstFacts(
                    better_by=MeanFacts.of(one.better_by),
                    **{k: getattr(one, k) for k in AgainstFacts.model_fields if k != "better_by"},
                )
                for one in verdict.against
            },
            dropped={str(seeds): list(names) for seeds, names in verdict.dropped},
            start_within=verdict.start_within,
        )
