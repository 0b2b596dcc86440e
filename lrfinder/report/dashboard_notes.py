"""What the dashboard says about a run, as Markdown: a note for every study and every best trial.

A note answers the question of the whole run first, and then says what its own page adds. Links and
pictures are addresses on the dashboard itself, so that they hold on any port. Everything is read
from the run; nothing is computed here but the wording.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lrfinder.report.markdown import PICTURES, steps_by_epoch
from lrfinder.report.tables import Table, ranking
from lrfinder.report.wording import (
    code_of,
    code_of_answer,
    conclusions,
    how_wrong,
    other_schedules,
    suggestion_line,
)
from lrfinder.results.folder import command_to_resume
from lrfinder.results.saved_run import Run

BEST_TRIAL = "best_trial.png"
"""Picture of a study's best trial."""
_PICTURES = {**PICTURES, BEST_TRIAL: "Best trial: learning rate and objective over epochs"}


@dataclass(frozen=True)
class Pages:
    """Addresses on the dashboard.

    >>> Pages({"step": 2, "cosine": 5}).compare
    '/dashboard/compare-studies?ids=2,5'
    """

    studies: Mapping[str, int]
    """Number of each family's study."""

    home = "/dashboard"

    @property
    def compare(self) -> str:
        """All studies in one picture."""
        return f"/dashboard/compare-studies?ids={','.join(map(str, self.studies.values()))}"

    def study(self, family: str, page: str = "") -> str:
        """A page of a family's study; the first one shows its history."""
        return f"/dashboard/studies/{self.studies[family]}{page}"

    def note(self, family: str) -> str:
        """The note of a family's study."""
        return self.study(family, "/note")

    def trial(self, family: str, number: int) -> str:
        """The page of a trial."""
        return self.study(family, f"/trials?numbers={number}")


def answer(run: Run) -> str:
    """Return the answer of a finished run in one line, and where the rest stands."""
    best = run.answers.winner
    found = f"{best.family} at lr {best.lr:.3g}: {best.schedule}"
    return f"{found}. The note of this study (last symbol on the left) says more."


def standing(run: Run, family: str) -> str:
    """Return a family's place on fresh seeds in one line."""
    rows = ranking(run).rows
    place = next(place for place, row in enumerate(rows) if row[0] == family)
    name, verdict = run.answers.objective.name, rows[place][4]
    to_best = "" if place == 0 else f", {verdict} to the best"
    return f"place {place + 1} of {len(rows)}, {name} {rows[place][3]} on fresh seeds{to_best}"


def study_note(run: Run, family: str, pages: Pages, pictures: Mapping[str, str]) -> str:
    """Return the note of a family's study; `pictures`: addresses by file name."""
    if run.comparison is None or run.answers.best is None:
        parts = _without_answer(run)
    else:
        parts = [*_answer(run, pages, pictures), *_own_part(run, family, pages, pictures)]
    parts += _range_test(run, pictures)
    if not pictures:
        parts.append(f"`lrfinder dashboard {run.path}` draws the pictures of this note.")
    return "\n\n".join([*parts, *_guide(run, family, pages)])


def trial_note(run: Run, family: str, pages: Pages, pictures: Mapping[str, str]) -> str:
    """Return the note of a family's best trial."""
    facts, name = run.answers.families[family], run.answers.objective.name
    fresh = next(row[3] for row in ranking(run).rows if row[0] == family)
    parts = [
        f"# Best trial of {family}: lr {facts.lr:.3g}",
        f"{facts.schedule}. Searched {name}: {facts.search_value:.4g}, the luckiest of "
        f"{facts.trials} trials. On fresh seeds: {fresh}, which is the better forecast. "
        f"[The answer of the run]({pages.note(family)})",
        *_picture(pictures, BEST_TRIAL),
        f"```python\n{code_of(facts)}\n```",
    ]
    return "\n\n".join(parts)


def _without_answer(run: Run) -> list[str]:
    return [
        "# No answer yet",
        "The decays are still being searched, or the run was interrupted. The answer will stand "
        "here when they have been compared on fresh seeds. An interrupted run goes on with "
        f"`{command_to_resume(run.path)}`.",
    ]


def _answer(run: Run, pages: Pages, pictures: Mapping[str, str]) -> list[str]:
    best = run.answers.winner
    table = ranking(run)
    linked = tuple((_linked(row[0], pages), *row[1:]) for row in table.rows)
    return [
        f"# Answer: {best.family} at lr {best.lr:.3g}",
        "\n".join(f"- {sentence}" for sentence in conclusions(run)),
        f"```python\n{code_of_answer(run.answers)}\n```",
        "Every decay at its best, trained again on seeds that no search has seen:",
        Table(("decay", *table.header[1:]), linked).markdown(),
        *_picture(pictures, "comparison.png"),
        *_picture(pictures, "schedules.png"),
    ]


def _own_part(run: Run, family: str, pages: Pages, pictures: Mapping[str, str]) -> list[str]:
    facts, name = run.answers.families.get(family), run.answers.objective.name
    if facts is None or facts.best_trial is None:
        return [f"## This study: {family}", "None of its trials could be compared."]
    trial = f"[Trial {facts.best_trial}]({pages.trial(family, facts.best_trial)})"
    return [
        f"## This study: {family}",
        f"{_sentence(standing(run, family))} {trial} is its best: {facts.schedule} at lr "
        f"{facts.lr:.3g}; the search saw {name} {facts.search_value:.4g}.",
        *_picture(pictures, BEST_TRIAL),
        *_picture(pictures, "parameters.png"),
    ]


def _range_test(run: Run, pictures: Mapping[str, str]) -> list[str]:
    if run.suggestion is None:
        return []
    line = suggestion_line(run.suggestion).removeprefix("range test: ")
    said = f"Verdict: {run.suggestion.verdict}. {_sentence(line)}"
    text = f"{said} {how_wrong(run.suggestion)}".rstrip()
    if run.suggestion.by_schedule:
        text += f" For other schedules: {other_schedules(run.suggestion)}."
    return [
        "## Range test, for a constant lr",
        text,
        *_picture(pictures, "range_test.png"),
        *steps_by_epoch(run.curve, run.suggestion),
    ]


def _guide(run: Run, family: str, pages: Pages) -> list[str]:
    name, seeds = run.answers.objective.name, len(run.answers.seeds.search)
    others = ", ".join(_linked(other, pages) for other in pages.studies if other != family)
    over = f", the mean over {seeds} training seeds" if seeds > 1 else ""
    lines = [
        f"The objective of a trial is {name} after the last epoch, on the whole validation "
        f"set{over}. A trial that diverged counts what it had before training.",
        "The best value of a study is the luckiest of its trials. It is no forecast: the fresh "
        "seeds of the comparison are.",
        f"Worth opening: [history and intermediate values]({pages.study(family)}), "
        f"[where good lrs and parameters lie]({pages.study(family, '/analytics')}), "
        f"[all families in one picture]({pages.compare}).",
        *([f"The other studies: {others}."] if others else []),
    ]
    return ["## How to read these pages", "\n".join(f"- {line}" for line in lines)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _linked(family: str, pages: Pages) -> str:
    return f"[{family}]({pages.note(family)})" if family in pages.studies else family


def _picture(pictures: Mapping[str, str], name: str) -> list[str]:
    return [f"![{_PICTURES[name]}]({pictures[name]})"] if name in pictures else []
