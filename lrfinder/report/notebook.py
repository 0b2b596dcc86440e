"""How a notebook shows a range test, a suggestion, a comparison and a run: a table and the picture.

Each function gives the HTML that the `_repr_html_` of a value returns. All text is escaped. Where a
value holds too little for a picture, or a run's files are damaged, the table stands alone and says
so.
"""

from base64 import b64encode
from collections.abc import Mapping
from functools import singledispatch
from html import escape

import numpy as np

from lrfinder import plots
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import RunFolderError
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report.comparing import seeds_in_words, standing_in_words
from lrfinder.report.tables import Table, caption, ranking
from lrfinder.report.wording import (
    by_epoch,
    conclusions,
    duration,
    how_wrong,
    other_rules,
    other_schedules,
    suggested_lr,
    validity,
)
from lrfinder.results.saved_run import Run
from lrfinder.results.summary import RunSummary

_WIDTH = 700  # pixels
_RUN_FACTS = ("task", "status", "optimizer", "epochs")


@singledispatch
def html(shown: object) -> str:
    """HTML of a value, by its type; TypeError for any other value."""
    raise TypeError(f"{type(shown).__name__} has no HTML")


@html.register
def curve(shown: Curve) -> str:
    """A range test: what was done, what it suggests, and the picture."""
    facts = {
        "seeds": ", ".join(map(str, shown.seeds)),
        "steps": f"{len(shown.lr)}, growing every {shown.every}",
        "lr": _range(shown),
        "diverged": f"{np.isfinite(shown.diverged_at).sum()} of {len(shown.seeds)} seeds",
        "optimizer": shown.optimizer,
        "updates": f"{shown.updates:,} in {duration(shown.wall_seconds)}",
    }
    if not np.isfinite(shown.loss).any():
        return _facts("Range test", facts) + _paragraph("There is no finite loss to draw or read.")
    suggested = shown.suggest()
    facts["suggestion"] = f"{suggested_lr(suggested)}: {suggested.reason}"
    if how_wrong(suggested):
        facts["how wrong it may be"] = how_wrong(suggested)
    if said := by_epoch(shown, suggested):
        facts["best epochs"] = "; ".join(said)
    picture = plots.png(plots.range_test_figure(shown, suggested))
    return _facts("Range test", facts) + _image(picture, "loss against learning rate")


@html.register
def suggestion(shown: Suggestion) -> str:
    """A suggestion: lr, interval, verdict, reason and what it is valid for."""
    facts = {
        "lr": suggested_lr(shown).removeprefix("lr "),
        "verdict": shown.verdict,
        "reason": shown.reason,
        "valid for": validity(shown).removeprefix("valid for "),
    }
    if shown.problems:
        facts["problems"] = "; ".join(shown.problems)
    if how_wrong(shown):
        facts["how wrong it may be"] = how_wrong(shown)
    if shown.diverged_at is not None:
        facts["diverged at"] = f"{shown.diverged_at:.3g}"
    if shown.by_schedule:
        facts["other schedules"] = other_schedules(shown)
    if shown.alternatives:
        facts["other rules"] = other_rules(shown)
    return _facts("Suggested learning rate", facts)


@html.register
def comparison(shown: Comparison) -> str:
    """A comparison: the ranking and the picture."""
    title = f"Comparison of {shown.measure} on {seeds_in_words(shown)}"
    if not shown.seeds:
        return _facts(title, {"finished runs": str(len(shown.runs))}) + _paragraph(
            "There is no seed yet on which every candidate has finished."
        )
    header = ("", "mean", "95% interval", "to the best", "p", "diverged", "seeds")
    rows = tuple(
        (
            standing.candidate,
            f"{standing.value.mean:.4g}",
            _interval(standing.value.low, standing.value.high),
            standing_in_words(standing, shown),
            "" if np.isnan(standing.p) else f"{standing.p:.2g}",
            str(standing.diverged),
            str(standing.seeds),
        )
        for standing in shown.ranking
    )
    picture = plots.png(plots.comparison_figure(shown, shown.measure))
    return Table(header, rows).html(title) + _image(picture, "candidates with intervals")


@html.register
def run(shown: Run) -> str:
    """A run: its answers with the comparison, or how far it came."""
    try:
        answers = shown.record
        finished = isinstance(answers, RunSummary) and answers.best is not None
        return _finished(shown) if finished else _unfinished(shown)
    except RunFolderError as error:
        return _facts("Run", _run_facts(shown)) + _paragraph(f"{error}.")


def _finished(shown: Run) -> str:
    table, name = ranking(shown), shown.answers.objective.name
    said = "".join(f"<li>{escape(line)}</li>" for line in conclusions(shown))
    text = _facts("Run", _run_facts(shown)) + f"<ul>{said}</ul>"
    text += table.html("Best of each family on fresh seeds")
    if shown.comparison is not None:
        picture = plots.png(plots.comparison_figure(shown.comparison, name))
        text += _image(picture, "candidates with intervals")
    return text


def _unfinished(shown: Run) -> str:
    text = _facts("Run", _run_facts(shown))
    if shown.comparison is not None:
        return text + comparison(shown.comparison)
    return text if shown.curve is None else text + curve(shown.curve)


def _run_facts(shown: Run) -> dict[str, str]:
    known = {"folder": shown.path, **{k: shown.summary.get(k) for k in _RUN_FACTS}}
    return {name: str(value) for name, value in known.items() if value is not None}


def _range(shown: Curve) -> str:
    return f"{shown.lr[0]:.3g} to {shown.lr[-1]:.3g}" if shown.lr.size else "none"


def _interval(low: float, high: float) -> str:
    return "none" if np.isnan(low) else f"{low:.4g} to {high:.4g}"


def _facts(title: str, facts: Mapping[str, str]) -> str:
    """A table with a fact in each row."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<table>{caption(title)}<tbody>{rows}</tbody></table>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _image(png: bytes, what: str) -> str:
    data = b64encode(png).decode()
    style = f"width:{_WIDTH}px;max-width:100%"
    return f'<img alt="{escape(what)}" style="{style}" src="data:image/png;base64,{data}">'
