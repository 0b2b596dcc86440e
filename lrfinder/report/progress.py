"""How a run shows that it goes on: bars on a terminal, lines in a log, a table in a notebook."""

import html
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol

import optuna
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress(Protocol):
    """Reports how a run goes on."""

    def stage(self, name: str, updates: int) -> None:
        """Begin an act of so many updates."""
        ...

    def advance(self, updates: int) -> None:
        """Count updates that have been made, or need not be."""
        ...

    def say(self, text: str) -> None:
        """Show a line."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str, updates: int) -> None:
        """Begin an act."""

    def advance(self, updates: int) -> None:
        """Count updates."""

    def say(self, text: str) -> None:
        """Show a line."""


class Bars:
    """Progress on a terminal: a bar per act; lines above it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: Any = None

    def stage(self, name: str, updates: int) -> None:
        """Begin an act."""
        if self._task is not None:
            self._bar.update(self._task, completed=self._bar.tasks[self._task].total)
        self._task = self._bar.add_task(name, total=updates)

    def advance(self, updates: int) -> None:
        """Count updates."""
        self._bar.advance(self._task, updates)

    def say(self, text: str) -> None:
        """Show a line."""
        self._bar.console.print(escape(text))


class Lines:
    """Progress where there is no terminal: `write` gets a line for every tenth of an act."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._name, self._total, self._done, self._shown = "", 0, 0, 0

    def stage(self, name: str, updates: int) -> None:
        """Begin an act."""
        self._name, self._total, self._done, self._shown = name, updates, 0, 0

    def advance(self, updates: int) -> None:
        """Count updates."""
        self._done += updates
        tenth = min(10, 10 * self._done // max(self._total, 1))
        if tenth > self._shown:
            self._shown = tenth
            self.say(f"{self._name}: {10 * tenth}%")

    def say(self, text: str) -> None:
        """Show a line."""
        self._write(text)


class NotebookCell:
    """Progress under a notebook's cell: one output that is replaced, a bar per act above lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._acts: dict[str, tuple[int, int]] = {}
        self._lines: list[str] = []
        self._shown = -1

    def stage(self, name: str, updates: int) -> None:
        """Begin an act; the one before has ended."""
        self._acts = {name: (total, total) for name, (_, total) in self._acts.items()}
        self._acts[name] = (0, updates)
        self._draw()

    def advance(self, updates: int) -> None:
        """Count updates; drawn again at every percent."""
        name = list(self._acts)[-1]
        done, total = self._acts[name]
        self._acts[name] = (done + updates, total)
        percent = 100 * (done + updates) // max(total, 1)
        if percent != self._shown:
            self._shown = percent
            self._draw()

    def say(self, text: str) -> None:
        """Show a line."""
        self._lines.append(text)
        self._draw()

    def _draw(self) -> None:
        bars = "".join(
            f"<tr><td>{html.escape(name)}</td><td><progress value={min(done, total)} "
            f"max={max(total, 1)}></progress></td><td>{min(done, total):,} of {total:,} updates"
            "</td></tr>"
            for name, (done, total) in self._acts.items()
        )
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self._lines)
        self._show(f"{lines}<table>{bars}</table>" if bars else lines)


@contextmanager
def shown(console: Console, *, quiet: bool = False) -> Generator[Progress]:
    """Progress on the console, in the notebook or nowhere; Optuna's log kept to warnings."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if quiet:
            yield Silent()
        elif (show := _notebook_output()) is not None:
            yield NotebookCell(show)
        elif not console.is_terminal:
            yield Lines(lambda line: console.print(escape(line)))
        else:
            with _bar(console) as bar:
                yield Bars(bar)
    finally:
        optuna.logging.set_verbosity(verbosity)


def standard_error() -> Console:
    """The console that progress and notes go to."""
    return Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("updates"),
        TimeRemainingColumn(),
        console=console,
    )


def _notebook_output() -> Callable[[str], None] | None:
    """Function that shows HTML in one output of the running cell; None outside a notebook."""
    interactive = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display = sys.modules["IPython"].display
    output = display.display(display.HTML(""), display_id=True)
    return lambda text: output.update(display.HTML(text))
