"""Trains here, and lets workers that join by the storage train beside it.

Nothing is posted while there are no workers. Chunks keep together what shares a beginning, and
become smaller towards the end, so that nobody waits long for the last one. A chunk whose worker has
died is trained by another; what comes back a second time is trained here.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from lrfinder.training.executors import Executor
from lrfinder.training.history import History, Plan
from lrfinder.training.prefix_tree import Finished, together
from lrfinder.workers.board import Board
from lrfinder.workers.claims import DEAD_AFTER, Claim, Watch
from lrfinder.workers.description import Extent
from lrfinder.workers.mailbox import Mailbox

_WAIT = 0.1
"""Seconds between two looks at what workers have returned."""


@dataclass
class _Posted:
    rows: list[int]
    plans: list[Plan]


class WithWorkers:
    """An Executor for the parent of a run: trains by another executor, and by workers that join.

    Args:
        here: trains in this process, or by processes of this machine.
        mailbox: by which workers are found.
        claim: on the run; it is checked between chunks.
        capacity: most runs that a chunk should hold.
        extent: of the task; what a worker returns of another one is trained again.
        say: told in one line when workers come and go.
        write: given a note on who trains, where that has changed.
        patience: seconds after which a worker that shows no sign of life is dead.
    """

    def __init__(
        self,
        here: Executor,
        mailbox: Mailbox,
        claim: Claim,
        capacity: int,
        extent: Extent | None = None,
        say: Callable[[str], None] = lambda _: None,
        write: Callable[[str], None] = lambda _: None,
        patience: float = DEAD_AFTER,
    ) -> None:
        self._here, self._mailbox, self._claim = here, mailbox, claim
        self._capacity, self._extent, self._say = capacity, extent, say
        self._watch = Watch(patience)
        self._board = Board(say, write, self._watch)
        for worker, sign in mailbox.workers().items():  # those of before count once they move
            self._watch.expect(worker, sign)

    def fit(
        self,
        plans: Sequence[Plan],
        *,
        watch: str = "loss",
        progress: Callable[[int], None] | None = None,
        finished: Finished | None = None,
    ) -> None:
        """Train every plan; see `Executor`. Raises StorageFailed where the claim is lost."""
        groups = together(plans, self._capacity)
        todo = [[row for run in group for row in run] for group in groups]
        posted: dict[int, _Posted] = {}
        own: list[list[int]] = []
        came_back: set[int] = set()

        def hand_out(rows: Sequence[int], history: History) -> None:
            if finished is not None:
                finished(rows, history)

        try:
            while todo or posted or own:
                self._claim.check()
                for rows in self._collect(posted, progress, hand_out):
                    (own if came_back.intersection(rows) else todo).append(rows)
                    came_back.update(rows)
                doing = f"trains, {_runs(sum(map(len, todo)))} are left" if todo else "waits"
                workers = self._board.count(self._mailbox.workers(), doing)
                waiting = self._waiting(posted)
                while todo and waiting < workers:
                    rows = _next(todo, workers)
                    sent = [plans[row] for row in rows]
                    posted[self._mailbox.post(sent, watch)] = _Posted(rows, sent)
                    waiting += 1
                if own:
                    rows = own.pop()
                else:
                    rows = _next(todo, workers) if todo else self._taken_back(posted)
                if rows:
                    self._train(rows, plans, watch, progress, hand_out)
                elif posted:
                    time.sleep(_WAIT)
        finally:
            for chunk in posted:
                self._mailbox.give_up(chunk)

    def _train(
        self,
        rows: Sequence[int],
        plans: Sequence[Plan],
        watch: str,
        progress: Callable[[int], None] | None,
        hand_out: Finished,
    ) -> None:
        """Train some of the plans here."""

        def finished(places: Sequence[int], history: History) -> None:
            hand_out([rows[place] for place in places], history)

        own = [plans[row] for row in rows]
        self._here.fit(own, watch=watch, progress=progress, finished=finished)

    def _collect(
        self,
        posted: dict[int, _Posted],
        progress: Callable[[int], None] | None,
        hand_out: Finished,
    ) -> list[list[int]]:
        """Hand out what workers have returned; rows that are to be trained again."""
        again: list[list[int]] = []
        for chunk, sent in list(posted.items()):
            state, beats = self._mailbox.state(chunk)
            if state == TrialState.RUNNING and not self._watch.alive(f"chunk {chunk}", beats):
                self._mailbox.give_up(chunk)
                state, _ = self._mailbox.state(chunk)  # it may have ended just now
            if not state.is_finished():
                continue
            del posted[chunk]
            history = self._returned(chunk, sent.plans)
            if history is None or state != TrialState.COMPLETE:
                again.append(sent.rows)
                continue
            if progress is not None:
                progress(history.updates_asked)
            hand_out(sent.rows, history)
        return again

    def _waiting(self, posted: dict[int, _Posted]) -> int:
        states = [self._mailbox.state(chunk)[0] for chunk in posted]
        return states.count(TrialState.WAITING)

    def _taken_back(self, posted: dict[int, _Posted]) -> list[int]:
        """Rows of one chunk that nobody has begun; none where all are in training."""
        for chunk, sent in list(posted.items()):
            if self._mailbox.take_back(chunk):
                del posted[chunk]
                return sent.rows
        return []

    def _returned(self, chunk: int, plans: Sequence[Plan]) -> History | None:
        """What a worker has returned; None where that is nothing, or nothing of use."""
        try:
            history = self._mailbox.returned(chunk, plans)
            if history is not None and self._extent is not None:
                self._extent.check(history)
        except ValueError as error:
            self._say(f"what a worker returned cannot be used and is trained again: {error}")
            return None
        return history


def _runs(count: int) -> str:
    return f"{count} run{'s'[: count != 1]}"


def _next(todo: list[list[int]], workers: int) -> list[int]:
    """Rows to train next; a part of those that share a beginning where they are the last."""
    rows = todo.pop(0)
    if not workers:
        return rows
    left = len(rows) + sum(map(len, todo))
    most = math.ceil(left / (2 * (workers + 1)))
    if len(rows) > most:
        todo.insert(0, rows[most:])
        rows = rows[:most]
    return rows
