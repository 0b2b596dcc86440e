"""Tables of text, and the ranking of a run as one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lrfinder.range_tests.by_epoch import measured
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.series import Series
from lrfinder.report.comparing import best_epochs_differ, standing_in_words, with_interval
from lrfinder.report.wording import comparison_of
from lrfinder.results.saved_run import Run

PARAMETERS = "parameters"
"""Header of the column that may be broken over lines."""
_FEWEST_COLUMNS = 5


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = tuple("---" for _ in self.header)
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows))

    def width(self, folded: str = "") -> int:
        """Characters of a line, where one column may be broken between its words."""
        columns = zip(self.header, *self.rows, strict=True)
        return sum(_longest(one, words=one[0] == folded) + 2 for one in columns) - 2

    def within(self, width: int, folded: str = "") -> "Table":
        """The table without the columns that a line of so many characters has no room for.

        The last ones go first, down to the fifth; then the one that may be broken goes.
        """
        fits = self
        while fits.width(folded) > width and len(fits.header) > _FEWEST_COLUMNS:
            fits = fits._without(fits.header[-1])
        return fits if fits.width(folded) <= width else fits._without(folded)

    def _without(self, name: str) -> "Table":
        kept = [place for place, own in enumerate(self.header) if own != name]
        header, *rows = (tuple(row[place] for place in kept) for row in (self.header, *self.rows))
        return Table(header, tuple(rows))

    def html(self, title: str) -> str:
        """Return the table as HTML under a title; every text is escaped."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{cells}</tr>" for cells in rows)
        parts = f"{caption(title)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return f"<table>{parts}</table>"


def series_of(series: Series) -> Table:
    """What is suggested at each value of a series."""
    rows: list[tuple[str, ...]] = []
    for value, one in zip(series.values, series.suggestions, strict=True):
        interval = "" if one.low is None else f"{one.low:.3g} to {one.high:.3g}"
        lr = "inconclusive" if one.lr is None else f"{one.lr:.3g}"
        rows.append((str(value), str(one.batch_size), str(one.budget), lr, interval))
    header = (series.over.replace("_", " "), "rows", "updates", "lr", "90% interval")
    return Table(header, tuple(rows))


def steps_of(curve: Curve) -> Table:
    """The lrs of a range test with what was measured after each, means over the seeds."""
    values = measured(curve)
    rows = (
        (f"{lr:.3g}", *("diverged" if v != v else f"{v:.4g}" for v in row))
        for lr, *row in zip(curve.lr.tolist(), *(v.tolist() for v in values.values()), strict=True)
    )
    return Table(("lr", *values), tuple(rows))


def caption(title: str) -> str:
    """Return the title of a table as HTML."""
    return f'<caption style="text-align:left">{escape(title)}</caption>'


def ranking(run: Run) -> Table:
    """Candidates from best to worst on fresh seeds."""
    comparison = comparison_of(run)
    name, families = run.answers.objective.name, run.answers.families
    measured = ["valid_loss", *families[comparison.best.candidate].metrics]
    other = [column for column in measured if column != name]
    on_the_way = best_epochs_differ(run, families)
    further = [*other, *["best epoch"][:on_the_way], *["seeds"][: bool(comparison.looks)]]
    header = ("", "lr", PARAMETERS, f"{name} (±95%)", "to the best", *further)
    rows = tuple(
        (
            s.candidate,
            f"{families[s.candidate].lr:.3g}",
            _parameters(families[s.candidate].searched),
            with_interval(s),
            standing_in_words(s, comparison),
            *(_mean(families[s.candidate].mean(column)) for column in other),
            *[_mean(families[s.candidate].best_epoch)][:on_the_way],
            *[str(s.seeds)][: bool(comparison.looks)],
        )
        for s in comparison.ranking
    )
    return Table(header, rows)


def _longest(texts: Sequence[str], *, words: bool) -> int:
    """Characters of the longest text, or of the longest word."""
    parts = [part for text in texts for part in (text.split() if words else [text])]
    return max(map(len, parts), default=0)


def _parameters(params: Mapping[str, Any]) -> str:
    shown = (f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())
    return ", ".join(shown)


def _mean(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
