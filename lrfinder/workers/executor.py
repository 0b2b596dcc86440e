"""Trains here, and lets workers that join by the storage train beside it.

Nothing is posted while there are no workers. Chunks keep together what shares a beginning, and
become smaller towards the end, so that nobody waits long for the last one. A chunk whose worker has
died is trained by another; what comes back a second time is trained here. Workers are served while
this process trains, too: whoever joins or ends a chunk need not wait for it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lrfinder.training.executors.job import Crew, Job
from lrfinder.training.prefix_tree import together
from lrfinder.training.records.history import History, Plan
from lrfinder.workers.board import Board
from lrfinder.workers.claims import DEAD_AFTER, Claim, Clock, Watch
from lrfinder.workers.description import Extent
from lrfinder.workers.mailbox import Mailbox, Unended

_WAIT, _SERVED_EVERY = 0.1, 1.0
"""Seconds between two looks at what workers have returned: with nothing to train, and in training.
"""
_AHEAD = 2
"""Chunks that wait for each worker, so that none is idle between two looks."""


@dataclass
class _Posted:
    rows: list[int]
    plans: list[Plan]


@dataclass
class _Work:
    """How far a job is."""

    job: Job
    todo: list[list[int]]
    """Rows of plans that nobody has."""
    own: list[list[int]] = field(default_factory=list[list[int]])
    """Rows that are trained here, because they came back twice."""
    posted: dict[int, _Posted] = field(default_factory=dict[int, _Posted])
    """Chunks that workers have, or may take."""
    came_back: set[int] = field(default_factory=set[int])

    def take_again(self, rows: list[int]) -> None:
        """Take rows that have come back untrained."""
        (self.own if self.came_back.intersection(rows) else self.todo).append(rows)
        self.came_back.update(rows)


class WithWorkers:
    """The crew of a run's parent: trains by another crew, and by workers that join.

    Args:
        here: trains in this process, or by processes of this machine.
        mailbox: by which workers are found.
        claim: on the run; it is checked between chunks.
        capacity: most runs that a chunk should hold.
        extent: of the task; what a worker returns of another one is trained again.
        say: told in one line when workers come and go.
        write: given a note on who trains, where that has changed.
        patience: seconds after which a worker that shows no sign of life is dead.
        clock: of this process.
    """

    def __init__(
        self,
        here: Crew,
        mailbox: Mailbox,
        claim: Claim,
        capacity: int,
        extent: Extent | None = None,
        say: Callable[[str], None] = lambda _: None,
        write: Callable[[str], None] = lambda _: None,
        patience: float = DEAD_AFTER,
        clock: Clock | None = None,
    ) -> None:
        self._here, self._mailbox, self._claim = here, mailbox, claim
        self._capacity, self._extent, self._say = capacity, extent, say
        self._clock = clock or Clock()
        self._watch = Watch(patience, self._clock)
        self._board = Board(say, write, self._watch, self._clock)
        self._served = -math.inf
        for worker, sign in mailbox.workers().items():  # those of before count once they move
            self._watch.expect(worker, sign)

    @property
    def workers(self) -> int:
        """Those that are here, and those that live now beside them."""
        joined = self._board.count(self._mailbox.workers(), "asks for trials")
        return self._here.workers + joined

    def fit(self, job: Job) -> None:
        """Train every plan; see `Crew`. Raises StorageFailed where the claim is lost."""
        groups = together(job.plans, self._capacity)
        todo = [[row for run in group for row in run] for group in groups]
        work = _Work(job, todo)
        try:
            while work.todo or work.posted or work.own:
                workers = self._serve(work)
                if work.own:
                    rows = work.own.pop()
                else:
                    rows = _next(work.todo, workers) if work.todo else self._taken_back(work)
                if rows:
                    self._train(work, rows)
                elif work.posted:
                    self._clock.wait(_WAIT)
        finally:
            for chunk in work.posted:
                self._mailbox.give_up(chunk)

    def _train(self, work: _Work, rows: Sequence[int]) -> None:
        """Train some of the plans here, and serve the workers meanwhile."""
        here = work.job.part(rows)

        def progress(updates: int) -> None:
            if here.progress is not None:
                here.progress(updates)
            if self._clock.now() - self._served > _SERVED_EVERY:
                self._serve(work)

        self._here.fit(replace(here, progress=progress))

    def _serve(self, work: _Work) -> int:
        """Take in what workers have returned, and post what they may take; how many live."""
        self._claim.check()
        unended = self._mailbox.unended()
        waiting = self._collect(work, unended)
        doing = f"trains, {_runs(sum(map(len, work.todo)))} are left" if work.todo else "waits"
        workers = self._board.count(self._mailbox.workers(), doing)
        while work.todo and waiting < _AHEAD * workers:
            rows = _next(work.todo, workers)
            plans = [work.job.plans[row] for row in rows]
            work.posted[self._mailbox.post(plans, work.job.watch)] = _Posted(rows, plans)
            waiting += 1
        self._served = self._clock.now()
        return workers

    def _collect(self, work: _Work, unended: Mapping[int, Unended]) -> int:
        """Hand out what workers have returned, and take again what they have not; how many wait."""
        waiting = 0
        for chunk, sent in list(work.posted.items()):
            now = unended.get(chunk)
            if now is not None and now.waits:
                waiting += 1
                continue
            if now is not None and self._watch.alive(f"chunk {chunk}", now.beats):
                continue
            if now is not None:
                self._mailbox.give_up(chunk)  # unless it has ended just now
            del work.posted[chunk]
            history = self._returned(chunk, sent.plans)
            if history is None:
                work.take_again(sent.rows)
                continue
            work.job.hand_out(sent.rows, history)
        return waiting

    def _taken_back(self, work: _Work) -> list[int]:
        """Rows of one chunk that nobody has begun; none where all are in training."""
        for chunk, sent in list(work.posted.items()):
            if self._mailbox.take_back(chunk):
                del work.posted[chunk]
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
