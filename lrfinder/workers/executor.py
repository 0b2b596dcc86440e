"""Trains here, and lets workers that join by the storage train beside it.

Nothing is posted while there are no workers. Chunks keep together what shares a beginning, and
become smaller towards the end, so that nobody waits long for the last one. A chunk whose worker has
died is trained by another.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from optuna.trial import TrialState

from lrfinder.training.executors.job import Crew, Job
from lrfinder.training.history import Plan
from lrfinder.training.prefix_tree import together
from lrfinder.workers.claims import DEAD_AFTER, Claim, Watch
from lrfinder.workers.mailbox import Mailbox

_WAIT = 0.1
"""Seconds between two looks at what workers have returned."""


@dataclass
class _Posted:
    rows: list[int]
    plans: list[Plan]


class WithWorkers:
    """The crew of a run's parent: trains by another crew, and by workers that join.

    Args:
        here: trains in this process, or by processes of this machine.
        mailbox: by which workers are found.
        claim: on the run; it is checked between chunks.
        capacity: most runs that a chunk should hold.
        say: told in one line when workers come and go.
        patience: seconds after which a worker that shows no sign of life is dead.
    """

    def __init__(
        self,
        here: Crew,
        mailbox: Mailbox,
        claim: Claim,
        capacity: int,
        say: Callable[[str], None] = lambda _: None,
        patience: float = DEAD_AFTER,
    ) -> None:
        self._here, self._mailbox, self._claim = here, mailbox, claim
        self._capacity, self._say, self._count = capacity, say, 0
        self._watch = Watch(patience)
        for worker, beats in mailbox.workers().items():  # those of before count once they move
            self._watch.expect(worker, beats)

    @property
    def workers(self) -> int:
        """Those that are here; others come and go."""
        return self._here.workers

    def fit(self, job: Job) -> None:
        """Train every plan; see `Crew`. Raises StorageFailed where the claim is lost."""
        plans = job.plans
        groups = together(plans, self._capacity)
        todo = [[row for run in group for row in run] for group in groups]
        posted: dict[int, _Posted] = {}

        try:
            while todo or posted:
                self._claim.check()
                todo += self._collect(posted, job)
                workers = self._workers()
                waiting = self._waiting(posted)
                while todo and waiting < workers:
                    rows = _next(todo, workers)
                    own = [plans[row] for row in rows]
                    posted[self._mailbox.post(own, job.watch)] = _Posted(rows, own)
                    waiting += 1
                rows = _next(todo, workers) if todo else self._taken_back(posted)
                if rows:
                    self._here.fit(job.part(rows))
                elif posted:
                    time.sleep(_WAIT)
        finally:
            for chunk in posted:
                self._mailbox.give_up(chunk)

    def _collect(self, posted: dict[int, _Posted], job: Job) -> list[list[int]]:
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
            history = self._mailbox.returned(chunk, sent.plans)
            if history is None or state != TrialState.COMPLETE:
                again.append(sent.rows)
                continue
            job.hand_out(sent.rows, history)
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

    def _workers(self) -> int:
        """Workers that are alive."""
        known = self._mailbox.workers()
        count = sum(self._watch.alive(worker, beats) for worker, beats in known.items())
        if count != self._count:
            self._say(f"{count} worker{'s'[: count != 1]} beside this process")
            self._count = count
        return count


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
