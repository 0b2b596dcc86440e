"""report.md: the pictures and the text of a finished run."""

from lrfinder import plots
from lrfinder.imports import importing
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report.comparing import seeds_in_words
from lrfinder.report.tables import Table, ranking, steps_of
from lrfinder.report.wording import (
    by_epoch,
    code_of_answer,
    comparison_of,
    conclusions,
    duration,
    engine_line,
    how_wrong,
    other_rules,
    other_schedules,
    suggestion_line,
    validity,
)
from lrfinder.results.folder import RunFolder
from lrfinder.results.saved_run import Run
from lrfinder.results.summary import RunSummary

PICTURES = {
    "range_test.png": "Range test: loss against learning rate",
    "comparison.png": "Comparison on fresh seeds",
    "schedules.png": "The best schedule of each family: learning rate and validation loss",
    "parameters.png": "What the studies tried: searched parameters and the value of each trial",
}
"""Files and titles of a run's pictures."""


def write(run: Run, folder: RunFolder) -> None:
    """Write the pictures and report.md of a finished run."""
    with importing():
        pictures = plots.figures(run)
    for name, draw in pictures.items():
        folder.replace(name, draw)
    folder.write_text("report.md", markdown(run))


def markdown(run: Run) -> str:
    """Return the text of report.md."""
    answers = run.answers
    parts = [
        f"# Learning rate and decay for {answers.task}",
        "\n".join(f"- {line}" for line in conclusions(run)),
        f"```python\n{code_of_answer(answers)}\n```",
    ]
    if run.suggestion is not None:
        parts += ["## Initial learning rate", *_range_test_section(run.suggestion)]
        parts += steps_by_epoch(run.curve, run.suggestion)
    parts += [
        "## Decays on fresh seeds",
        ranking(run).markdown(),
        _how_to_read(run),
        *(f"![{PICTURES[name]}]({name})" for name in ("comparison.png", "schedules.png")),
        "## Studies",
        _studies(run).markdown(),
        *_parameters_section(run),
        *_words(run),
        f"{_searched(answers)}The searched value is that of the luckiest trial, "
        "on all seeds of the search that it had, and no forecast; the table above is one.",
        "## How it was made",
        _cost(run),
    ]
    return "\n\n".join(parts) + "\n"


def _range_test_section(suggestion: Suggestion) -> list[str]:
    edge = (
        ""
        if suggestion.diverged_at is None
        else (f" Training diverged at about {suggestion.diverged_at:.2g}.")
    )
    line = suggestion_line(suggestion).removeprefix("range test: ")
    return [
        f"{line[:1].upper()}{line[1:]}.{edge} V{validity(suggestion)[1:]}.",
        *filter(None, [how_wrong(suggestion)]),
        *_other_schedules(suggestion),
        f"Other common rules, read off the training loss of each batch: {other_rules(suggestion)}.",
        f"![{PICTURES['range_test.png']}](range_test.png)",
    ]


def steps_by_epoch(curve: Curve | None, suggestion: Suggestion) -> list[str]:
    """The table of a sweep that grew per epoch, and how the suggestion stands to it."""
    if curve is None or curve.every != "epoch":
        return []
    return [
        "After each epoch of the sweep:",
        steps_of(curve).markdown(),
        "\n".join(f"- {line[:1].upper()}{line[1:]}." for line in by_epoch(curve, suggestion)),
    ]


def _other_schedules(suggestion: Suggestion) -> list[str]:
    if not suggestion.by_schedule:
        return []
    return [
        "As the peak lr of the usual decays over as many updates, from theory and not from "
        f"training: {other_schedules(suggestion)}."
    ]


def _parameters_section(run: Run) -> list[str]:
    if not plots.parameter_panels(run.trials):
        return []
    return [
        f"![{PICTURES['parameters.png']}](parameters.png)",
        "Each point is a trial at two of its family's parameters, dark is good. Where a panel says "
        '"also", trials beside each other may differ in what it names. The star is the trial that '
        "is compared; where the best ones were trained on more seeds, it has the best mean.",
    ]


def _words(run: Run) -> list[str]:
    """What T_max, the unit of a step and a warm-up are, where they occur."""
    per, warmup = run.settings.per, run.settings.warmup
    families = run.answers.families.values()
    said: list[str] = []
    if any("T_max" in facts.params for facts in families):
        said.append(
            "T_max is how many scheduler steps a cosine takes to fall; after it the lr climbs again"
        )
    if any(facts.params for facts in families):
        unit = "epochs" if per != "batch" else "updates (but epochs for plateau)"
        said.append(f"step_size, milestones, T_max and their like count {unit} here")
    if warmup == "search":
        said.append("what a decay counts begins after the warm-up, in which the lr rises")
    elif warmup:
        said.append(
            f"the lr rises in a straight line for {warmup:g} epochs of warm-up, and what a decay "
            "counts begins after them"
        )
    return [" ".join(f"{line[:1].upper()}{line[1:]}." for line in said)] if said else []


def _how_to_read(run: Run) -> str:
    compared = comparison_of(run)
    found = (
        f"Means over {seeds_in_words(compared)}, which no search has seen, with 95% intervals "
        '(Student\'s t). "To the best" is the paired difference on the same seeds; a *tie* is a '
        "difference that the seeds do not show (paired t at 5%, Holm's correction over all pairs). "
        "The best of several is a little lucky: its own mean is slightly optimistic."
    )
    if len(compared.looks) < 2:
        return found
    looks = "; ".join(
        f"{len(look.candidates)} candidates on {len(look.seeds)} seeds" for look in compared.looks
    )
    return (
        f"{found} Compared by halving: {looks}. Means and differences of those that are left are "
        "over the seeds after the first look. The error rate of 5% is shared among the looks, with "
        "1% kept for one continuation. A candidate that was dropped is ranked, and not shown to be "
        "worse."
    )


def _studies(run: Run) -> Table:
    search = run.answers.lr_search
    ranges = {} if search is None else search.ranges
    rows = tuple(
        (
            name,
            str(facts.trials),
            str(facts.diverged),
            f"{facts.search_value:.4g}",
            "{:.2g} to {:.2g}".format(*ranges[name]),
        )
        for name, facts in run.answers.families.items()
        if facts.trials
    )
    return Table(("family", "trials", "diverged", "best searched value", "lr range"), rows)


def _searched(answers: RunSummary) -> str:
    return "" if answers.lr_search is None else f"{answers.lr_search.why.capitalize()}. "


def _cost(run: Run) -> str:
    cost, engine = run.answers.cost, run.answers.engine
    packages = ", ".join(f"{name} {number}" for name, number in run.answers.versions.items())
    trained_by = "" if engine is None else f", {engine_line(engine)}"
    return (
        f"{cost.updates_trained:,} updates trained of {cost.updates_asked:,} asked for, "
        f"{duration(cost.wall_seconds)}{trained_by}. {packages}. "
        "Options: config.toml; every number: summary.json."
    )
