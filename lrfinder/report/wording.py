"""What a run says, in sentences: each fact is put into words once."""

import math
from collections.abc import Mapping

from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import RunFolderError
from lrfinder.range_tests.by_epoch import compared
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report.comparing import answers_in_words
from lrfinder.results.saved_run import Run
from lrfinder.results.summary import BestFacts, FamilyFacts, RunSummary
from lrfinder.training.engine import EngineRecord
from lrfinder.training.speed import Speed, Work
from lrfinder.tuning.shares import total


def suggestion_line(suggestion: Suggestion) -> str:
    """Return one line for a terminal.

    >>> suggestion_line(Suggestion(0.1, 0.05, 0.2, "suggested", "favoured by 4 runs"))
    'range test: lr 0.1 (90% interval 0.05 to 0.2), favoured by 4 runs'
    """
    return f"range test: {suggested_lr(suggestion)}, {suggestion.reason}"


def suggestion_lines(suggestion: Suggestion) -> list[str]:
    """All that a range test alone says, a line each."""
    schedules = other_schedules(suggestion)
    return [
        suggestion_line(suggestion),
        *filter(None, [how_wrong(suggestion)]),
        validity(suggestion),
        *(f"{suggestion.schedule}: {said}" for said in suggestion.problems),
        *([f"other schedules: {schedules}"] if schedules else []),
        f"other rules: {other_rules(suggestion)}",
    ]


def by_epoch(curve: Curve, suggestion: Suggestion) -> list[str]:
    """Where each measure of a sweep per epoch was best, a line each; none of one per batch."""
    return compared(curve, suggestion)


def suggested_lr(suggestion: Suggestion) -> str:
    """Return the suggested lr with its interval, in a few words.

    >>> suggested_lr(Suggestion(None, None, None, "inconclusive", "the loss never fell"))
    'inconclusive'
    """
    if suggestion.lr is None:
        return "inconclusive"
    low, high = suggestion.low, suggestion.high
    bounds = "" if low is None else f" (90% interval {low:.3g} to {high:.3g})"
    return f"lr {suggestion.lr:.3g}{bounds}"


def how_wrong(suggestion: Suggestion) -> str:
    """What a wrong lr would cost, and what to beware of, in sentences; empty where not known.

    >>> band = {"band_low": 0.04, "band_high": 0.3}
    >>> how_wrong(Suggestion(0.1, 0.05, 0.2, "suggested", "", **band))
    'From 0.04 to 0.3 a training should lose less than 5% of what it can gain.'
    >>> how_wrong(Suggestion(0.1, 0.05, 0.2, "suggested", "", **band, broke_at=0.9)).split("; ")[1]
    'at 0.9 a run diverged or learnt nothing.'
    >>> turned = {"budget": 900, "turned_up_at": 90, "over_fitted": True}
    >>> how_wrong(Suggestion(0.1, 0.05, 0.2, "suggested", "", **turned))
    'The validation loss turned up after 90 updates; for 900 stop early or regularise.'
    """
    found: list[str] = []
    if suggestion.band_low is not None and suggestion.band_high is not None:
        broke = suggestion.broke_at
        edge = "" if broke is None else f"; at {broke:.2g} a run diverged or learnt nothing"
        found.append(
            f"From {suggestion.band_low:.2g} to {suggestion.band_high:.2g} a training should lose "
            f"less than 5% of what it can gain{edge}."
        )
    turn, budget = suggestion.turned_up_at, suggestion.budget
    if turn is not None and suggestion.over_fitted:
        longer = f"; for {budget} stop early or regularise" if budget and budget > turn else ""
        found.append(f"The validation loss turned up after {turn} updates{longer}.")
    elif turn is not None:
        cure = (
            "; where its batches come from few rows, stop early or regularise; "
            "else let the lr decay"
            if suggestion.over_fitted is None
            else ", which is no over-fitting; let the lr decay"
        )
        found.append(f"The loss of a short run rose again after {turn} updates{cure}.")
    return " ".join(found)


def other_rules(suggestion: Suggestion) -> str:
    """What other finders' rules read off the same curves.

    >>> other_rules(Suggestion(0.1, 0.05, 0.2, "suggested", "", alternatives={"valley": 0.0123}))
    'valley 0.0123'
    """
    named = suggestion.alternatives.items()
    return ", ".join(f"{k} {'none' if lr is None else format(lr, '.3g')}" for k, lr in named)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits its length.

    >>> [duration(seconds) for seconds in (0.034, 1.537, 42.2, 1000, 7700)]
    ['0.034 s', '1.5 s', '42 s', '16.7 min', '2.1 h']
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def engine_line(engine: EngineRecord) -> str:
    """Return what trained, and why, in one line.

    >>> engine_line(EngineRecord(2, "batched", 1, 8, "as asked", ()))
    'batched trainer, 1 thread, 2 workers: as asked'
    """
    beside = f", {engine.workers} workers" if engine.workers > 1 else ""
    threads = f"{engine.threads} thread{'s'[: engine.threads != 1]}"
    return f"{engine.trainer} trainer, {threads}{beside}: {engine.reason}"


def validity(suggestion: Suggestion) -> str:
    """What a suggestion is valid for, in one line.

    >>> validity(Suggestion(0.1, None, None, "suggested", "", optimizer="SGD", batch_size=64))
    'valid for SGD, batches of 64, a constant lr'
    >>> validity(Suggestion(0.1, None, None, "suggested", "", optimizer="Adam", lr_scale=0.04))
    'valid for Adam at 0.04 times this lr, batches as the program makes them, a constant lr'
    """
    length = "" if suggestion.budget is None else f" over {suggestion.budget} updates"
    rows = suggestion.batch_size
    batches = "batches as the program makes them" if rows is None else f"batches of {rows}"
    schedule = "a constant lr" if suggestion.schedule == "constant" else suggestion.schedule
    if suggestion.stepped_per is not None:
        schedule += f" stepped every {suggestion.stepped_per}"
    scale = suggestion.lr_scale
    optimizer = suggestion.optimizer + ("" if scale == 1 else f" at {scale:.3g} times this lr")
    return f"valid for {optimizer}, {batches}, {schedule}{length}"


def other_schedules(suggestion: Suggestion) -> str:
    """What the peak lr would be for the usual decays; empty where it is not known.

    >>> other_schedules(Suggestion(0.1, None, None, "suggested", "", by_schedule={"cosine": 0.21}))
    'cosine 0.21'
    """
    return ", ".join(f"{name} {lr:.2g}" for name, lr in suggestion.by_schedule.items())


def conclusions(run: Run) -> list[str]:
    """Sentences that answer the question."""
    answers = answers_in_words(run, comparison_of(run))
    if run.answers.objective.of_best_epoch:
        answers.append(best_epoch_line(run))
    return [*answers, *_cautions(run)]


def best_epoch_line(run: Run) -> str:
    """What an objective of the best epoch asks for, and about where that epoch was."""
    objective, best = run.answers.objective, comparison_of(run).best.candidate
    curve = run.mean_curves[best][objective.column].iloc[1:]
    at = curve.idxmin() if objective.direction == "minimize" else curve.idxmax()
    return (
        f"{objective.name} is the {objective.column} of each run's best epoch, so keep that "
        f"checkpoint; the mean of the winner's runs is best after {at:g} of {run.answers.epochs} "
        "epochs."
    )


def _cautions(run: Run) -> list[str]:
    """What to doubt."""
    families, suggestion = run.answers.families, run.suggestion
    found = [f"Note: {note}." for note in run.answers.notes]
    found += [f"About {run.answers.winner.schedule}: {p}." for p in run.answers.winner.problems]
    if suggestion is not None and suggestion.lr is None and run.answers.lr_search is not None:
        found.append(f"{run.answers.lr_search.why.capitalize()}.")
    bounded = [name for name, facts in families.items() if facts.at_lr_bound]
    if bounded:
        found.append(
            f"The best lr of {', '.join(bounded)} lies at the bound of its range: "
            "a wider --lr-range may do better."
        )
    if suggestion is not None and suggestion.lr is None:
        found.append(f"The range test was inconclusive: {suggestion.reason}.")
    made, asked = _trials_made_and_asked(run)
    if made < asked:
        found.append(f"The timeout cut the studies short, to {made} of {asked} trials.")
    best = comparison_of(run).best
    if best.diverged:
        found.append(f"Even the best diverged on {best.diverged} seeds: lower the lr.")
    before, ended = _before_training(run), best.value[0]
    gained = ended < before if comparison_of(run).direction == "minimize" else ended > before
    if not (gained or best.diverged):
        found.append(
            f"Even the best ended no better than before training ({before:.4g}): "
            "no lr that was tried helps this model, and no decay."
        )
    if best.seeds < 3:
        found.append("Fewer than 3 seeds: intervals say little.")
    return found


def _trials_made_and_asked(run: Run) -> tuple[int, int]:
    """Trials of the families that are compared, and as many as they were to get in all."""
    studied = [facts for facts in run.answers.families.values() if facts.trials]
    points = [facts.trials if facts.exhausted else None for facts in studied]
    made = sum(facts.trials for facts in studied)
    return made, total(points, run.settings.trials, even=run.settings.even)


def _before_training(run: Run) -> float:
    """Mean objective of the best before its first update, over the fresh seeds."""
    curve = run.mean_curves[comparison_of(run).best.candidate]
    return float(curve[run.answers.objective.column].iloc[0])


def code_of(best: BestFacts | FamilyFacts) -> str:
    """PyTorch code of a recipe: its lr, and its scheduler with the line that steps it."""
    return f"# lr = {best.lr!r}\n{best.code}"


def code_of_answer(answers: RunSummary) -> str:
    """Code of what to use, for the kind of program that was run; for PyTorch where it has none."""
    best, kind = answers.winner, answers.code_for
    return code_of(best) if kind == "torch" else best.codes.get(kind) or code_of(best)


def comparison_of(run: Run) -> Comparison:
    """Return the comparison of a run that has one."""
    comparison = run.comparison
    if comparison is None:
        raise RunFolderError(f"{run.path / 'comparison.csv'} is missing or damaged")
    if not set(comparison.values.columns) <= set(run.answers.families):
        raise RunFolderError(f"{run.path}: summary.json and comparison.csv hold other candidates")
    return comparison


def estimate(
    works: Mapping[str, Work], speed: Speed, workers: int = 1, training: int | None = None
) -> str:
    """One line that says what is to come: updates, their share of a training, and minutes."""
    parts = ", ".join(f"{name} {w.runs} x {w.updates}" for name, w in works.items())
    updates = sum(work.runs * work.updates for work in works.values())
    seconds = sum(work.seconds(speed) for work in works.values()) / workers
    length, per_update = duration(math.ceil(seconds)), speed.seconds_per_update * 1000
    share = "" if training is None else f"at most {updates / training:.2g} trainings, "
    return f"{updates:,} updates ({parts}), {share}about {length} at {per_update:.2g} ms an update"
