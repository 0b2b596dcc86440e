"""What a run says, in words: report.md, and the lines and table that a terminal shows.

Everything is read from a finished run; nothing is computed here but the wording.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrfinder import plots
from lrfinder.comparing import BASELINE, Comparison, Standing
from lrfinder.records import Run, RunFolder
from lrfinder.suggest import Suggestion

PARAMETERS = "parameters"
"""Header of the column that may be broken over lines."""
PICTURES = {
    "range_test.png": "Range test: loss against learning rate",
    "comparison.png": "Comparison on fresh seeds",
    "schedules.png": "The best schedule of each family: learning rate and validation loss",
    "parameters.png": "What the studies tried: searched parameters and the value of each trial",
}
"""Files and titles of a run's pictures."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = tuple("---" for _ in self.header)
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows))


def write(run: Run, folder: RunFolder) -> None:
    """Write the pictures and report.md of a finished run."""
    for name, draw in plots.figures(run).items():
        folder.replace(name, draw)
    folder.write_text("report.md", markdown(run))


def suggestion_line(suggestion: Suggestion) -> str:
    """Return one line for a terminal.

    >>> suggestion_line(Suggestion(0.1, 0.05, 0.2, "suggested", "favoured by 4 runs"))
    'range test: lr 0.1 (90% interval 0.05 to 0.2), favoured by 4 runs'
    """
    if suggestion.lr is None:
        return f"range test: inconclusive, {suggestion.reason}"
    low, high = suggestion.low, suggestion.high
    bounds = "" if low is None else f" (90% interval {low:.3g} to {high:.3g})"
    return f"range test: lr {suggestion.lr:.3g}{bounds}, {suggestion.reason}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits its length.

    >>> [duration(seconds) for seconds in (0.034, 1.537, 42.2, 1000, 7700)]
    ['0.034 s', '1.5 s', '42 s', '16.7 min', '2.1 h']
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def engine_line(engine: Mapping[str, Any]) -> str:
    """Return what trained in one line, from its record in summary.json.

    >>> engine_line({"trainer": "batched", "threads": 1, "workers": 2, "reason": "as asked"})
    'batched trainer, 1 thread, 2 workers: as asked'
    """
    threads, workers = engine["threads"], engine["workers"]
    beside = f", {workers} workers" if workers > 1 else ""
    plural = "s"[: threads != 1]
    return f"{engine['trainer']} trainer, {threads} thread{plural}{beside}: {engine['reason']}"


def validity(suggestion: Suggestion) -> str:
    """What a suggestion is valid for, in one line.

    >>> validity(Suggestion(0.1, None, None, "suggested", "", optimizer="SGD", batch_size=64))
    'valid for SGD, batches of 64, a constant lr'
    """
    length = "" if suggestion.budget is None else f" over {suggestion.budget} updates"
    rows = "unknown size" if suggestion.batch_size is None else suggestion.batch_size
    schedule = "a constant lr" if suggestion.schedule == "constant" else suggestion.schedule
    return f"valid for {suggestion.optimizer}, batches of {rows}, {schedule}{length}"


def ranking(run: Run) -> Table:
    """Candidates from best to worst on fresh seeds."""
    comparison = _comparison(run)
    name = str(run.summary["objective"]["name"])
    families = run.summary["families"]
    metrics = list(next(iter(families.values()))["metrics"])
    metrics = [metric for metric in metrics if metric != name]
    other = metrics if name == "valid_loss" else ["valid_loss", *metrics]
    header = ("", "lr", PARAMETERS, f"{name} (±95%)", "to the best", *other)
    rows = tuple(
        (
            s.candidate,
            f"{families[s.candidate]['lr']:.3g}",
            _parameters(families[s.candidate]["searched"]),
            _value(s),
            verdict(s, comparison),
            *(_other(families[s.candidate], metric) for metric in other),
        )
        for s in comparison.ranking
    )
    return Table(header, rows)


def verdict(standing: Standing, comparison: Comparison) -> str:
    """How a candidate stands to the best, in a few words."""
    if standing.diverged:
        return f"diverged on {standing.diverged} of {len(comparison.seeds)} seeds"
    if standing is comparison.best:
        return "best"
    return f"{standing.difference.mean:+.3g}{' (tie)' if standing.ties else ''}"


def conclusions(run: Run) -> list[str]:
    """Sentences that answer the question."""
    comparison, best = _comparison(run), run.summary["best"]
    name, seeds = run.summary["objective"]["name"], len(comparison.seeds)
    extreme = "lowest" if comparison.direction == "minimize" else "highest"
    said = [
        f"Best: {best['schedule']} at lr {best['lr']:.3g}, {extreme} {name} "
        f"{_value(comparison.best)} "
        f"over {seeds} fresh seed{'s'[: seeds != 1]}."
    ]
    ties = list(comparison.ties)
    if ties:
        said.append(f"Not distinguishable from it with these seeds: {', '.join(ties)}.")
    constant = next((s for s in comparison.ranking if s.candidate == "constant"), None)
    if constant is not None and constant is not comparison.best and constant.diverged == 0:
        tuned = "a constant lr" if "lr" in run.config else "a tuned constant lr"
        said.append(_against(constant, tuned))
    if "constant" in ties or comparison.best.candidate == "constant":
        said.append("These seeds do not show that any decay helps here.")
    baseline = next((s for s in comparison.ranking if s.candidate == BASELINE), None)
    if baseline is not None and baseline is not comparison.best and baseline.diverged == 0:
        said.append(_against(baseline, "the baseline in use today"))
    said += _cautions(run)
    return said


def markdown(run: Run) -> str:
    """Return the text of report.md."""
    summary = run.summary
    parts = [
        f"# Learning rate and decay for {summary['task']}",
        "\n".join(f"- {line}" for line in conclusions(run)),
        f"```python\n{_code(summary['best'])}\n```",
    ]
    if summary["suggestion"] is not None and run.suggestion is not None:
        parts += ["## Initial learning rate", *_range_test_section(run.suggestion)]
    parts += [
        "## Decays on fresh seeds",
        ranking(run).markdown(),
        _how_to_read(run),
        *(f"![{PICTURES[name]}]({name})" for name in ("comparison.png", "schedules.png")),
        "## Studies",
        _studies(run).markdown(),
        *_parameters_section(run),
        f"{summary['lr_search']['why'].capitalize()}. The searched value is the luckiest of its "
        "trials and is no forecast; the table above is.",
        "## How it was made",
        _cost(run),
    ]
    return "\n\n".join(parts) + "\n"


def _range_test_section(suggestion: Suggestion) -> list[str]:
    others = ", ".join(
        f"{name} {'none' if lr is None else format(lr, '.3g')}"
        for name, lr in suggestion.alternatives.items()
    )
    edge = (
        ""
        if suggestion.diverged_at is None
        else (f" Training diverged at about {suggestion.diverged_at:.2g}.")
    )
    line = suggestion_line(suggestion).removeprefix("range test: ")
    return [
        f"{line[:1].upper()}{line[1:]}.{edge} V{validity(suggestion)[1:]}.",
        f"Other common rules, read off the training loss of each batch: {others}.",
        f"![{PICTURES['range_test.png']}](range_test.png)",
    ]


def _parameters_section(run: Run) -> list[str]:
    if not plots.parameter_panels(run.trials):
        return []
    return [
        f"![{PICTURES['parameters.png']}](parameters.png)",
        "Each point is a trial at two of its family's parameters, dark is good. Where a panel says "
        '"also", trials beside each other may differ in what it names.',
    ]


def _how_to_read(run: Run) -> str:
    seeds = len(_comparison(run).seeds)
    return (
        f"Means over {seeds} seeds that no search has seen, with 95% intervals (Student's t). "
        '"To the best" is the paired difference on the same seeds; a *tie* is a difference that '
        "the seeds do not show (paired t at 5%, Holm's correction over all pairs). The best of "
        "several is a little lucky: its own mean is slightly optimistic."
    )


def _studies(run: Run) -> Table:
    rows = tuple(
        (
            name,
            str(facts["trials"]),
            str(facts["diverged"]),
            f"{facts['search_value']:.4g}",
            "{:.2g} to {:.2g}".format(*run.summary["lr_search"]["ranges"][name]),
        )
        for name, facts in run.summary["families"].items()
        if facts["trials"]
    )
    return Table(("family", "trials", "diverged", "best searched value", "lr range"), rows)


def _cautions(run: Run) -> list[str]:
    """What to doubt."""
    families: Mapping[str, Any] = run.summary["families"]
    found = [f"Note: {note}." for note in run.summary["notes"]]
    if run.suggestion is not None and run.suggestion.lr is None:
        found.append(f"{run.summary['lr_search']['why'].capitalize()}.")
    bounded = [name for name, facts in families.items() if facts.get("at_lr_bound")]
    if bounded:
        found.append(
            f"The best lr of {', '.join(bounded)} lies at the bound of its range: "
            "a wider --lr-range may do better."
        )
    suggestion = run.suggestion
    if suggestion is not None and suggestion.lr is None:
        found.append(f"The range test was inconclusive: {suggestion.reason}.")
    short = [n for n, f in families.items() if f["trials"] and not f["exhausted"]]
    least = min((families[name]["trials"] for name in short), default=run.config["trials"])
    if least < run.config["trials"]:
        found.append(f"The timeout cut the studies short, to {least} trials for some families.")
    best = _comparison(run).best
    if best.diverged:
        found.append(f"Even the best diverged on {best.diverged} seeds: lower the lr.")
    before, ended = _before_training(run), best.value[0]
    gained = ended < before if _comparison(run).direction == "minimize" else ended > before
    if not (gained or best.diverged):
        found.append(
            f"Even the best ended no better than before training ({before:.4g}): "
            "no lr that was tried helps this model, and no decay."
        )
    if len(_comparison(run).seeds) < 3:
        found.append("Fewer than 3 seeds: intervals say little.")
    return found


def _before_training(run: Run) -> float:
    """Mean objective of the best before its first update, over the fresh seeds."""
    curve = run.mean_curves[_comparison(run).best.candidate]
    return float(curve[run.summary["objective"]["name"]].iloc[0])


def _against(standing: Standing, what: str) -> str:
    better = f"Against {what}: better by {abs(standing.difference.mean):.3g}"
    if standing.p != standing.p:
        return f"{better} on a single seed."
    sure = "not shown" if standing.ties else "shown"
    return f"{better}, {sure} by these seeds (p {standing.p:.2g} corrected for all pairs)."


def _code(best: Mapping[str, Any]) -> str:
    return f"# lr = {best['lr']!r}\n{best['code']}"


def _parameters(params: Mapping[str, Any]) -> str:
    shown = (f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())
    return ", ".join(shown)


def _value(standing: Standing) -> str:
    mean, low, high = standing.value
    return f"{mean:.4g}" if low != low else f"{mean:.4g} ±{(high - low) / 2:.2g}"


def _other(facts: Mapping[str, Any], measure: str) -> str:
    mean = facts["valid_loss"] if measure == "valid_loss" else facts["metrics"][measure]
    return "-" if mean["mean"] is None else f"{mean['mean']:.4g}"


def _cost(run: Run) -> str:
    cost, versions = run.summary["cost"], run.summary["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    engine = run.summary["engine"]
    return (
        f"{cost['updates_trained']:,} updates of {cost['updates_asked']:,} asked, "
        f"{duration(cost['wall_seconds'])}, {engine_line(engine)}. {packages}. "
        "Options: config.toml; every number: summary.json."
    )


def _comparison(run: Run) -> Comparison:
    comparison = run.comparison
    if comparison is None:
        raise ValueError(f"{run.path} has no comparison yet")
    return comparison
