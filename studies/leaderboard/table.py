"""The leaderboard as Markdown."""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from studies.leaderboard.finders import OWN
from studies.leaderboard.results import GOOD, calibration, moved, summary
from studies.leaderboard.score import Truth, truths
from studies.leaderboard.tasks import TASKS


def written(rows: pd.DataFrame) -> str:
    """All tables of a leaderboard, with a heading each."""
    parts: list[str] = []
    for kind, own in rows.groupby("kind", sort=False):
        parts += [f"# {KINDS[str(kind)]}", *_of_kind(own)]
    return "\n\n".join(parts) + "\n"


KINDS = {
    "short": "Short trainings, 225 to 1,140 updates",
    "long": "Long trainings, 2,300 to 16,200 updates",
    "fine-tuning": "Fine-tuning, 300 to 2,000 updates",
}


def _of_kind(rows: pd.DataFrame) -> list[str]:
    """The tables of the tasks of one kind."""
    return [
        "## Constant lr",
        ranking(summary(rows)),
        "## Cosine",
        "lrfinder's lr is moved with `Suggestion.for_schedule`; the others say one lr for all.",
        ranking(summary(rows, "cosine")),
        "Mean regret at the lr that a finder says, and with every lr moved as lrfinder's is:",
        movings(rows),
        "## Tuning tasks and held-out tasks",
        halves(rows),
        "## Intervals and bands",
        calibrations(rows),
        "## Tasks",
        tasks(rows),
        "## Refusals and failures",
        refusals(rows),
    ]


_COLUMNS: dict[str, Callable[[pd.Series], str]] = {
    "mean regret": lambda r: f"{r['mean']:.3f} ± {r['error']:.3f}",
    "more than lrfinder": lambda r: _difference(r["least"], r["most"]),
    "held-out tasks": lambda r: _number(r["held_out"]),
    "median": lambda r: f"{r['median']:.3f}",
    "worst task": lambda r: f"{r['worst']:.2f}",
    f"runs under {GOOD}": lambda r: f"{100 * r['good']:.0f}%",
    "spread": lambda r: "" if pd.isna(r["spread"]) else f"x{r['spread']:.3g}",
    "error": lambda r: _direction(r["decades"]),
    "updates": lambda r: f"{r['updates']:.0f}",
    "CPU s": lambda r: f"{r['seconds']:.2f}",
    "refused": lambda r: f"{r['refused']:.0f} of {r['runs']:.0f}",
}


def ranking(lines: pd.DataFrame) -> str:
    """One row per finder, the best first."""
    body = [
        [finder, *(show(line) for show in _COLUMNS.values())] for finder, line in lines.iterrows()
    ]
    return _table(["finder", *_COLUMNS], body)


def movings(rows: pd.DataFrame) -> str:
    """What moving an lr to the cosine is worth, whoever said it."""
    lines = moved(rows).sort_values("moved").iterrows()
    body = [
        [str(finder), *(_number(line[key]) for key in ("same", "moved"))] for finder, line in lines
    ]
    return _table(["finder", "same lr", "moved"], body)


def calibrations(rows: pd.DataFrame) -> str:
    """Whether what is said about an lr holds, of the finders that say it."""
    lines = calibration(rows)
    body = [
        [
            str(finder),
            f"{line['runs']:.0f}",
            f"{100 * line['holds']:.0f}%",
            f"{line['decades']:.2f}",
            "" if pd.isna(line["ends"]) else f"{100 * line['ends']:.0f}%",
            _number(line["band_decades"]),
        ]
        for finder, line in lines.iterrows()
    ]
    head = ["finder", "runs", "interval touches the best", "decades wide"]
    return _table([*head, f"band ends under {GOOD}", "decades wide"], body)


def halves(rows: pd.DataFrame) -> str:
    """Mean and worst regret of lrfinder on the tasks for tuning and on the held-out tasks."""
    body: list[list[str]] = []
    for schedule in ("constant", "cosine"):
        for finder, line in summary(rows, schedule).iterrows():
            if finder in OWN:
                keys = ("tuning", "tuning_worst", "held_out", "held_out_worst")
                body.append([schedule, str(finder), *(_number(line[key]) for key in keys)])
    head = ["schedule", "finder", "tuning: mean", "worst", "held-out: mean", "worst"]
    return _table(head, body)


def tasks(rows: pd.DataFrame) -> str:
    """What each task is, which lrs are right for it, and the best two finders' regrets."""
    shown = [str(finder) for finder in summary(rows).index]
    own = [finder for finder in shown if finder in OWN][:1]
    other = [finder for finder in shown if finder not in OWN][:1]
    means = rows.groupby(["task", "finder"]).regret.mean()
    body: list[list[str]] = []
    for name in dict.fromkeys(rows.task):
        truth, cosine = truths()[name], truths("cosine")[name]
        regrets = [f"{means[name, finder]:.3f}" for finder in own + other]
        body.append([*_about(name, truth), f"{cosine.best_lr:.2g}", *regrets])
    head = ["task", "", "best lr", "regret under 0.05", "signal", "best cosine peak", *own, *other]
    return _table(head, body)


def refusals(rows: pd.DataFrame) -> str:
    """Every refusal, exception or number that is none, by finder, task and reason."""
    refused = rows[rows.refused == 1]
    if refused.empty:
        return "None."
    grouped = refused.groupby(["finder", "task"]).agg(n=("lr", "size"), reason=("reason", "first"))
    body = [[f, t, f"{line.n}", str(line.reason)] for (f, t), line in grouped.iterrows()]
    return _table(["finder", "task", "runs", "reason of the first"], body)


def _about(name: str, truth: Truth) -> list[str]:
    entry, (low, high) = TASKS[name], truth.acceptable()
    label = f"{name} (held out)" if entry.held_out else name
    signal = f"{truth.drop / max(truth.noise, 1e-12):.0f}" + ("" if truth.counts else ", left out")
    return [label, entry.about, f"{truth.best_lr:.2g}", f"{low:.2g} to {high:.2g}", signal]


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _difference(least: float, most: float) -> str:
    """An interval of differences; a tie where it holds 0."""
    if pd.isna(least) or pd.isna(most):
        return ""
    return "tie" if least <= 0 <= most else f"{least:+.3f} to {most:+.3f}"


def _direction(decades: float) -> str:
    if pd.isna(decades):
        return ""
    return f"{abs(decades):.2f} {'high' if decades > 0 else 'low'}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
