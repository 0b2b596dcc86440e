"""Who trains for a run: a line where that changes, and a note for the dashboard."""

import math
from collections.abc import Callable, Mapping

from lrfinder.report.tables import Table
from lrfinder.workers.claims import Clock, Watch
from lrfinder.workers.mailbox import Sign

_SAID_EVERY, _WRITTEN_EVERY = 60.0, 10.0
"""Seconds between two lines on what the workers do, and between two notes."""


class Board:
    """Keeps the count of a run's workers by the signs of life that they leave.

    Args:
        say: told in one line who has joined, left or died, and now and then what all of them do.
        write: given a note, as Markdown, where it has changed.
        watch: by which the living are told from the dead.
        clock: of this process.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        write: Callable[[str], None],
        watch: Watch,
        clock: Clock | None = None,
    ) -> None:
        self._say, self._write, self._watch = say, write, watch
        self._now = (clock or Clock()).now
        self._alive: dict[str, Sign] = {}
        self._known: dict[str, Sign] = {}
        self._said = self._written = -math.inf
        self._note = ""

    def count(self, signs: Mapping[str, Sign], doing: str) -> int:
        """How many live, by the signs of all that have ever joined; `doing` is what is done here.

        Those that are dead when they are first seen, or are expected to be, are never mentioned.
        """
        before = self._alive
        self._alive = {
            worker: sign
            for worker, sign in signs.items()
            if not sign.left and self._watch.alive(worker, sign)
        }
        self._known |= self._alive
        changes = [f"worker {worker} has joined" for worker in self._alive.keys() - before.keys()]
        for worker in before.keys() - self._alive.keys():
            left = worker not in signs or signs[worker].left
            self._known[worker] = signs.get(worker, before[worker])
            changes.append(
                f"worker {worker} has left"
                if left
                else f"worker {worker} shows no sign of life; what it held is trained by another"
            )
        for change in sorted(changes):
            self._say(f"{change}; {self._how_many()}")
        now = self._now()
        if changes:
            self._said = now
        elif self._alive and now - self._said > _SAID_EVERY:
            self._said = now
            each = ", ".join(f"{worker} {sign.does}" for worker, sign in self._alive.items())
            self._say(f"{self._how_many()}: {each}")
        if self._known and (changes or now - self._written > _WRITTEN_EVERY):
            self._written = now
            self._write_note(doing)
        return len(self._alive)

    def _how_many(self) -> str:
        count = len(self._alive)
        return f"{count} worker{'s'[: count != 1]} beside this process"

    def _write_note(self, doing: str) -> None:
        rows = [("the run itself", doing, "", "")]
        for worker, sign in self._known.items():
            if worker in self._alive:
                does, seen = sign.does, f"{self._watch.seconds_still(worker):.0f} s ago"
            else:
                does, seen = "has left" if sign.left else "shows no sign of life", ""
            rows.append((worker, does, str(sign.chunks), seen))
        table = Table(("worker", "does", "chunks returned", "last seen"), tuple(rows))
        note = f"# {self._how_many()}\n\n{table.markdown()}"
        if note != self._note:
            self._note = note
            self._write(note)
