"""What a command prints: the result on stdout; progress, notes and errors on stderr."""

import json
import sys
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrfinder.cli.process import stdout_kept_clean
from lrfinder.errors import InvalidArgument, LRFinderError, TaskLoadError

OUT = Console(soft_wrap=True, highlight=False, emoji=False)
ERR = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def print_run(run: Any, *, as_json: bool) -> None:  # noqa: ANN401 (its type would import torch)
    """Print what a run suggests, how its candidates rank and what follows, with code to paste."""
    from lrfinder.report import wording as words
    from lrfinder.report.tables import PARAMETERS
    from lrfinder.report.tables import ranking as ranking_of

    if as_json:
        print_json(dict(run.summary))
        return
    if run.suggestion is not None:
        said = [words.suggestion_line(run.suggestion), words.how_wrong(run.suggestion)]
        OUT.print(escape("\n".join(filter(None, said))) + "\n")
    _print_table(ranking_of(run), folded=PARAMETERS)
    print_lines(words.conclusions(run))
    OUT.print(escape(f"\n{words.code_of_answer(run.answers)}\n"))
    OUT.print(escape(f"{run.path / 'report.md'}  {run.path / 'best_schedule.py'}"))


def print_found(name: str, curve: Any, suggestion: Any, *, as_json: bool) -> None:  # noqa: ANN401
    """Print what a range test alone says: the lr, and a table of a sweep of epochs."""
    from lrfinder.commands import found_facts
    from lrfinder.report import wording as words
    from lrfinder.report.tables import steps_of

    if as_json:
        print_json(found_facts(name, curve, suggestion))
        return
    print_lines(words.suggestion_lines(suggestion))
    if said := words.by_epoch(curve, suggestion):
        _print_table(steps_of(curve))
        print_lines(said)


def print_series(series: Any, *, as_json: bool) -> None:  # noqa: ANN401
    """Print what the range tests at several batch sizes or lengths say, and how the lr moves."""
    from lrfinder.commands import series_facts
    from lrfinder.report.tables import series_of

    if as_json:
        print_json(series_facts(series))
        return
    _print_table(series_of(series))
    print_lines(series.said())


def print_lines(lines: Iterable[str]) -> None:
    """Print sentences, a line each."""
    for line in lines:
        OUT.print(escape(line))


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object, in which what is not finite is null."""
    from lrfinder.results.facts import jsonable

    sys.stdout.write(json.dumps(jsonable(facts)) + "\n")


@contextmanager
def progress_shown(quiet: bool) -> Generator[Any]:
    """Progress on stderr."""
    from lrfinder.report.progress import shown

    with shown(ERR, quiet=quiet) as progress:
        yield progress


def tasks_output(as_json: bool) -> AbstractContextManager[None]:
    """Keep what the task prints apart from the one JSON object on stdout."""
    return stdout_kept_clean() if as_json else nullcontext()


@contextmanager
def reported() -> Generator[None]:
    """Turn what lrfinder raises into one line on stderr and an exit status."""
    try:
        yield
    except KeyboardInterrupt as error:
        _fail(str(error) or "interrupted", 130)
    except TaskLoadError as error:
        _fail(str(error), 3)
    except InvalidArgument as error:
        _fail(str(error), 2)
    except LRFinderError as error:
        _fail(str(error), 1)


def say_error(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    ERR.print(f"[bold red]lrfinder:[/] {escape(message)}")


def _fail(message: str, status: int) -> NoReturn:
    say_error(message)
    raise typer.Exit(status)


def _print_table(shown: Any, folded: str = "") -> None:  # noqa: ANN401
    """Print a table of text, and an empty line; one of its columns may be broken over lines.

    What a terminal has no room for is left out and named.
    """
    room = OUT.width if OUT.is_terminal else max(120, shown.width(folded))
    fits = shown.within(room, folded)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in fits.header:
        table.add_column(name, no_wrap=name != folded, overflow="fold")
    for row in fits.rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=room).print(table)
    if left_out := [name for name in shown.header if name not in fits.header]:
        OUT.print(escape(f"(no room here for {', '.join(left_out)})"))
    OUT.print()
