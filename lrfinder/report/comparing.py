"""What a comparison says, in sentences."""

from collections.abc import Iterable

from lrfinder.comparison.candidates import BASELINE, CONSTANT, START
from lrfinder.comparison.ranking import Comparison, Standing
from lrfinder.comparison.verdict import NO_SEARCH_NEEDED, Against, Verdict, verdict
from lrfinder.results.answers import searched_parameters
from lrfinder.results.saved_run import Run

_WORTH_IT = 6
"""Continuing is advised for at most so many times the runs that were made."""
_EPOCHS_DIFFER = 0.03
"""Share of the final value by which the best epoch is better, from which on it is shown."""


def standing_in_words(standing: Standing, comparison: Comparison) -> str:
    """How a candidate stands to the best, in a few words."""
    if standing.diverged:
        return f"diverged on {standing.diverged} of {standing.seeds} seeds"
    if standing.candidate == comparison.best.candidate:
        return "best"
    if standing.same_as is not None:
        return f"same as {standing.same_as}"
    if standing.dropped_at is not None:
        return f"{standing.difference.mean:+.3g} (dropped)"
    return f"{standing.difference.mean:+.3g}{' (tie)' if standing.ties else ''}"


def with_interval(standing: Standing) -> str:
    """Mean of a candidate over the seeds, and half the width of its interval."""
    mean, low, high = standing.value
    return f"{mean:.4g}" if low != low else f"{mean:.4g} ±{(high - low) / 2:.2g}"


def seeds_in_words(comparison: Comparison) -> str:
    """On how many seeds candidates were trained.

    >>> seeds_in_words(Comparison(()))
    '0 fresh seeds'
    """
    counts = {standing.seeds for standing in comparison.ranking} if comparison.seeds else {0}
    fewest, most = min(counts), max(counts)
    return f"{fewest} to {most} fresh seeds" if fewest < most else _seeds(most, "fresh ")


def verdict_of(run: Run, comparison: Comparison) -> Verdict:
    """What the comparison of a run says."""
    families = run.answers.families
    return verdict(comparison, searched_parameters(families, list(families)))


def answers_in_words(run: Run, comparison: Comparison) -> list[str]:
    """What to use, how much better that is, and how sure."""
    said = verdict_of(run, comparison)
    return [
        *_what_to_use(run, comparison),
        *_as_good(said),
        *(_against(one, run) for one in said.against),
        *_no_decay_helps(said),
        *_would_more_tell(run, comparison, said),
        *_who_was_dropped(said),
        *_twins(comparison),
        *_best_epoch(run),
        *_start(said),
        *_trials(run),
    ]


def best_epochs_differ(run: Run, names: Iterable[str]) -> bool:
    """Whether one of these candidates was clearly better on its way than at its end.

    Where the best epoch is the objective, that goes without saying.
    """
    if run.answers.objective.of_best_epoch:
        return False
    name, minimize = run.answers.objective.name, run.answers.objective.direction == "minimize"
    for candidate in names:
        facts = run.answers.families[candidate]
        final = facts.mean(name)
        gain = (final - facts.best_epoch) * (1 if minimize else -1)
        if gain > _EPOCHS_DIFFER * abs(final):
            return True
    return False


def _what_to_use(run: Run, comparison: Comparison) -> list[str]:
    best, use = run.answers.best or run.answers.winner, run.answers.winner
    name, standing = run.answers.objective.name, comparison.best
    extreme = "lowest" if comparison.direction == "minimize" else "highest"
    found = (
        f"Best: {best.schedule} at lr {best.lr:.3g}, {extreme} {name} {with_interval(standing)} "
        f"over {_compared_on(comparison)}."
    )
    if run.answers.recommended is None:
        return [found]
    if use.family == best.family:
        return [f"Use {use.family}.", found]
    return [
        f"Use {use.family}: {use.schedule} at lr {use.lr:.3g}, as good as the best as far as these "
        "seeds tell, and the simplest.",
        found,
    ]


def _as_good(said: Verdict) -> list[str]:
    if not said.as_good:
        return []
    return [f"Not distinguishable from it with these seeds: {_listed(said.as_good)}."]


def _against(one: Against, run: Run) -> str:
    tuned = "a constant lr" if run.settings.lr is not None else "a tuned constant lr"
    what = {CONSTANT: tuned, BASELINE: "the baseline in use today"}[one.candidate]
    mean, low, high = one.better_by
    found = f"Against {what}: better by {mean:.3g}{_share(one.share)}"
    if low != low:
        return f"{found} on a single seed."
    sure = "shown" if one.shown else "not shown"
    return (
        f"{found}, 95% interval {low:.3g} to {high:.3g}, {sure} by these seeds "
        f"(p {one.p:.2g} corrected for all pairs)."
    )


def _no_decay_helps(said: Verdict) -> list[str]:
    if CONSTANT in said.as_good or said.best == CONSTANT:
        return ["These seeds do not show that any decay helps here."]
    return []


def _would_more_tell(run: Run, comparison: Comparison, said: Verdict) -> list[str]:
    """What this comparison could have shown, and whether more runs or epochs would tell."""
    unsure = [one for one in said.against if not one.shown and one.could_show == one.could_show]
    if not unsure:
        return []
    one = max(unsure, key=lambda against: against.could_show)
    found = [
        f"They would have shown a difference of {one.could_show:.2g}"
        f"{_share(one.could_show_share)} in four of five such comparisons."
    ]
    needed = max((o.runs_to_show for o in unsure if o.runs_to_show is not None), default=None)
    confirm = run.answers.confirm
    if confirm is None:
        return found
    if needed is None or needed > _WORTH_IT * comparison.counted:
        found.append(
            "More seeds would hardly tell so small a difference; a longer training (--epochs) may."
        )
    elif confirm.continued is None:
        found.append(
            "If the difference is what was seen, more seeds would probably show it: go on with "
            f"`lrfinder run --resume DIR --confirm-runs {needed}` (DIR: this folder)."
        )
    else:
        found.append(
            "This comparison was continued and has ended; a new run with "
            f"--confirm-runs {needed} would probably show it."
        )
    return found


def _who_was_dropped(said: Verdict) -> list[str]:
    if not said.dropped:
        return []
    parts = [f"{_listed(names)} after {_seeds(seeds)}" for seeds, names in said.dropped]
    return [
        f"Dropped on the way: {'; '.join(parts)}. This ranks them, but does not show that they are "
        "worse."
    ]


def _twins(comparison: Comparison) -> list[str]:
    return [
        f"{s.candidate} trained by the very same lrs as {s.same_as}, which stands for both."
        for s in comparison.ranking
        if s.same_as is not None
    ]


def _best_epoch(run: Run) -> list[str]:
    use, name = run.answers.winner.family, run.answers.objective.name
    if not best_epochs_differ(run, [use]):
        return []
    facts = run.answers.families[use]
    return [
        f"At the best epoch of each run, {use} had {name} {facts.best_epoch:.4g}, against "
        f"{facts.mean(name):.4g} after the last: the best checkpoint is worth keeping, though part "
        "of that is luck."
    ]


def _start(said: Verdict) -> list[str]:
    within = said.start_within
    if within is None:
        return []
    if said.best == START or within == 0:
        return ["No search was needed: the start, which was not searched, came out best."]
    if within < NO_SEARCH_NEEDED:
        return [f"No search was needed: the start is within {within:.1%} of the best."]
    return [
        "Whether the search was needed is not shown: the start, without any, may be worse by 1% or "
        "more."
    ]


def _trials(run: Run) -> list[str]:
    counts = {name: facts.trials for name, facts in run.answers.families.items() if facts.study}
    if not counts:
        return []
    if len(set(counts.values())) == 1:
        return [f"Every family was searched with {_plural(max(counts.values()), 'trial')}."]
    return [f"Trials: {', '.join(f'{name} {count}' for name, count in counts.items())}."]


def _compared_on(comparison: Comparison) -> str:
    """Seeds that the mean of the best is over: not those by which others were first dropped."""
    best = comparison.best
    counted = len(comparison.differences(best.candidate, best.candidate))
    if counted == best.seeds:
        return _seeds(counted, "fresh ")
    return f"{counted} of its {_seeds(best.seeds, 'fresh ')}, those after the first look"


def _share(share: float) -> str:
    if share != share:
        return ""
    return f" ({abs(share):.0%})" if abs(share) >= 0.1 else f" ({abs(share):.1%})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _seeds(count: int, kind: str = "") -> str:
    return _plural(count, f"{kind}seed")


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s'[: count != 1]}"
