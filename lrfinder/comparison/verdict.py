"""What a comparison says: what to use, and how sure that is.

The best of the finalists is the one with the best mean. Those that it is not shown to be better
than are *as good*, as far as the seeds tell, and what is recommended is the simplest of them: the
constant lr, then whatever has the fewest searched parameters, then in the order of the families.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrfinder.comparison.candidates import BASELINE, CONSTANT, START
from lrfinder.comparison.policy import CONTINUED, ERROR_RATE
from lrfinder.comparison.ranking import LEVEL, Comparison, Standing
from lrfinder.statistics import Mean, detectable, seeds_to_show, student_t

NO_SEARCH_NEEDED = 0.01
"""Distance of the start to the best, as a share of the best, below which no search was needed."""


@dataclass(frozen=True)
class Against:
    """The best against another finalist."""

    candidate: str
    better_by: Mean
    """Paired difference, with its interval: positive where the best is better."""
    share: float
    """The same as a share of what the other one has; nan where that is 0."""
    p: float
    """Of no difference, corrected."""
    shown: bool
    could_show: float
    """The difference that these seeds would have shown in four of five such comparisons."""
    could_show_share: float
    runs_to_show: int | None
    """Runs in all by which a continued comparison would show this difference, in four of five.

    None where it is shown, or no number of seeds would do.
    """


@dataclass(frozen=True)
class Verdict:
    """What a comparison says."""

    recommended: str
    best: str
    as_good: tuple[str, ...]
    """Finalists that the best is not shown to be better than, from best to worst."""
    against: tuple[Against, ...]
    """The constant lr and the baseline, where they did not diverge and are not the best."""
    dropped: tuple[tuple[int, tuple[str, ...]], ...]
    """Who was dropped after how many seeds, the first ones first."""
    start_within: float | None
    """Upper end of the interval of the start's distance to the best, as a share of the best.

    nan where there is no interval; None without a start.
    """


def verdict(comparison: Comparison, searched: Mapping[str, int]) -> Verdict:
    """Read a comparison that has a seed.

    `searched` holds the number of searched parameters of each candidate, in the order in which they
    are recommended where these are equal; one that it does not name has none.
    """
    best = comparison.best
    standings = {s.candidate: s for s in comparison.ranking}
    order = [*searched, *standings]
    as_good = [s for s in comparison.ranking if s.ties and s.same_as is None]

    def simplicity(name: str) -> tuple[bool, int, int]:
        return name != CONSTANT, searched.get(name, 0), order.index(name)

    against = [standings[name] for name in (CONSTANT, BASELINE) if name in standings]
    return Verdict(
        recommended=min([best.candidate, *(s.candidate for s in as_good)], key=simplicity),
        best=best.candidate,
        as_good=tuple(s.candidate for s in as_good),
        against=tuple(
            _against(comparison, s)
            for s in against
            if best.candidate not in (s.candidate, s.same_as) and not s.diverged
        ),
        dropped=_dropped(comparison),
        start_within=_start_within(comparison, standings.get(START)),
    )


def _against(comparison: Comparison, other: Standing) -> Against:
    sign = 1 if comparison.direction == "minimize" else -1
    name = other.same_as or other.candidate
    differences = sign * comparison.differences(name, comparison.best.candidate)
    pairs = max(1, len(comparison.p_of_pairs))
    alpha = comparison.looks[-1].alpha if comparison.looks else ERROR_RATE
    could_show = detectable(differences, alpha / pairs)
    level = abs(other.value.mean) or float("nan")
    shown = not (other.ties or np.isnan(other.p))
    needed = None if shown else seeds_to_show(differences, CONTINUED / pairs)
    finalists, made = len(comparison.finalists), comparison.counted
    more = None if needed is None else max(0, needed - len(differences)) * finalists
    better = student_t(differences, LEVEL)
    return Against(
        candidate=other.candidate,
        better_by=better,
        share=better.mean / level,
        p=other.p,
        shown=shown,
        could_show=could_show,
        could_show_share=could_show / level,
        runs_to_show=None if more is None else made + max(finalists, more),
    )


def _dropped(comparison: Comparison) -> tuple[tuple[int, tuple[str, ...]], ...]:
    out = [s for s in comparison.ranking if s.dropped_at is not None and s.same_as is None]
    counts: Sequence[int] = sorted({s.seeds for s in out})
    return tuple((n, tuple(s.candidate for s in out if s.seeds == n)) for n in counts)


def _start_within(comparison: Comparison, start: Standing | None) -> float | None:
    if start is None:
        return None
    best = comparison.best
    if best.candidate in (start.candidate, start.same_as) or best.same_as == start.candidate:
        return 0.0
    if start.diverged or not best.value.mean:
        return float("nan")
    distance = start.difference
    upper = distance.high if comparison.direction == "minimize" else -distance.low
    return upper / abs(best.value.mean)
