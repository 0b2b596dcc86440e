"""Which trainer a run uses: a few real updates of each are timed, and the fastest is taken.

Small models train many times faster together than one after another, large ones do not, and several
intra-op threads help only large ones. No rule predicts it, so both trainers are tried, the batched
one with populations of several sizes. On a processor they are compared by CPU time, so that the
choice is the same on a busy machine as on an idle one; several threads, and accelerators, need the
wall clock. The choice and its timings are part of the run's record.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.speed import Speed, Work, measure_speed
from lrfinder.training.trainers.driven import DrivenTrainer
from lrfinder.training.trainers.sequential import SequentialTrainer
from lrfinder.training.trainers.trainer import AnyTrainer
from lrfinder.types import EngineName

Name = Literal["sequential", "batched", "driven"]
_CLEARLY_FASTER = 1.5  # for several threads: on a busy machine they may turn out far slower
_FASTER, _AS_FAST = 1.1, 1.3
_WORTH_TIMING = 3.0  # seconds; less work than that is trained before both are timed
_SIZES = (8, 32, 128)  # populations that are timed
_TIMED = 10**9  # updates
_FEWEST = 4  # runs below which stacking costs more than it saves


@dataclass(frozen=True)
class Timing:
    """How fast one way to train was."""

    trainer: Name
    runs: int
    """Runs trained together."""
    threads: int
    speed: Speed
    """Of one run by the wall clock; its share where several are trained together."""
    cpu: Speed | None = None
    """The same in time of the processor; None in records that have none."""


@dataclass(frozen=True)
class Engine:
    """A trainer, the number of threads it uses, and why it was chosen."""

    trainer: AnyTrainer
    chosen: Timing
    reason: str
    timings: tuple[Timing, ...]

    @property
    def speed(self) -> Speed:
        """Measured speed of the choice."""
        return self.chosen.speed

    @property
    def threads(self) -> int:
        """Intra-op threads to train with."""
        return self.chosen.threads

    @property
    def population(self) -> int:
        """Runs that are best trained together."""
        return self.chosen.runs

    def record(self, workers: int = 1) -> "EngineRecord":
        """The choice, for so many worker processes, as the run's record keeps it."""
        chosen = self.chosen
        return EngineRecord(
            workers, chosen.trainer, chosen.threads, chosen.runs, self.reason, self.timings
        )


@dataclass(frozen=True)
class EngineRecord:
    """What trained a run, and why."""

    workers: int
    trainer: Name
    threads: int
    runs: int
    """Runs trained together."""
    reason: str
    timings: tuple[Timing, ...]
    """Every way that was timed."""


def choose(
    task: Problem,
    device: torch.device | None,
    work: Work,
    asked: EngineName = "auto",
    *,
    on_subset: bool = False,
) -> Engine:
    """Trainer for the work on the device, as asked for or the fastest.

    The work evaluates on the validation set, or `on_subset` on the fixed one: nothing else is read.

    Raises InvalidArgument where the batched trainer is asked for and cannot train the task.
    """
    check(task, device, asked)
    if isinstance(task, Loop):
        return _driven(task, device)
    bench = _Bench(task, device, on_subset=on_subset)
    if asked != "auto":
        return bench.sequential("as asked") if asked == "sequential" else bench.batched("as asked")
    alone = bench.sequential("the work is small")
    if work.seconds(alone.speed) < _WORTH_TIMING:
        return alone
    why_not = bench.why_not()
    if why_not is not None:
        return bench.sequential(f"the task cannot be batched: {why_not}")
    return bench.fastest(work.runs)


def check(
    task: Problem,
    device: torch.device | None,
    asked: EngineName | Name,
    cure: str = "use --engine auto",
) -> None:
    """Raise InvalidArgument where the batched trainer is asked for and cannot train the task."""
    if asked != "batched":
        return
    if isinstance(task, Loop):
        why_not = "a loop trains as it is written, one training after another"
    else:
        why_not = BatchedTrainer(device).why_not(task)
    if why_not is not None:
        raise InvalidArgument(
            f"engine must be able to train the task, but batched cannot: {why_not}; {cure}"
        )


def again(device: torch.device | None, record: EngineRecord) -> Engine:
    """Return the choice of an earlier record, so that a run ends as it began."""
    by_way = {(t.trainer, t.runs, t.threads): t for t in record.timings}
    chosen = by_way.get((record.trainer, record.runs, record.threads))
    if chosen is None:
        raise InvalidArgument(
            "the engine of the record must be among its timings, but "
            f"{record.trainer} with {record.runs} runs is not; start a new run instead"
        )
    return _engine(device, chosen, record.reason, record.timings)


def _driven(loop: Loop, device: torch.device | None) -> Engine:
    """The one way to train a loop, with as many threads as it would have by itself."""
    count = torch.get_num_threads()
    long = loop.lasting(_TIMED, device)  # it does not end while it is timed
    measured = measure_speed(long, DrivenTrainer(device), 1, count)
    timing = Timing("driven", 1, count, measured.wall, measured.cpu)
    return _engine(device, timing, "a loop trains as it is written", (timing,))


class _Bench:
    """Times trainers on a task; each way once."""

    def __init__(self, task: Task, device: torch.device | None, *, on_subset: bool) -> None:
        self._task, self._device, self._on_subset = task, device, on_subset
        self._one = SequentialTrainer(device)
        self._many = BatchedTrainer(device)
        self._timings: dict[tuple[Name, int, int], Timing] = {}

    def why_not(self) -> str | None:
        return self._many.why_not(self._task)

    def sequential(self, reason: str) -> Engine:
        return self._engine(self._threaded(self._time("sequential", 1, 1)), reason)

    def batched(self, reason: str, runs: int = max(_SIZES)) -> Engine:
        """Populations of the largest size that is about as fast as any."""
        return self._engine(self._threaded(self._largest_fast(runs)), reason)

    def _largest_fast(self, runs: int) -> Timing:
        """The largest size of population that is about as fast as any: it shares the most."""
        timings = [self._time("batched", size, 1) for size in self._sizes(runs)]
        limit = _AS_FAST * min(map(self._seconds_per_epoch, timings))
        return max((t for t in timings if self._seconds_per_epoch(t) <= limit), key=_runs)

    def fastest(self, runs: int) -> Engine:
        if runs < _FEWEST:
            return self.sequential(f"there are fewer than {_FEWEST} runs to train together")
        one, many = self._time("sequential", 1, 1), self._largest_fast(runs)
        ratio = self._seconds_per_epoch(one) / self._seconds_per_epoch(many)
        if ratio > _FASTER:
            reason = f"{ratio:.1f} times faster, {many.runs} runs at a time"
            return self._engine(self._threaded(many), reason)
        return self._engine(self._threaded(one), f"batched is {ratio:.2f} times as fast")

    def _sizes(self, runs: int) -> Iterator[int]:
        """Sizes of populations to try, for work of so many runs: each at least twice the last."""
        most = min(runs, self._many.capacity(self._task))
        yield from (size for size in _SIZES if 2 * size <= most)
        yield most

    def _engine(self, chosen: Timing, reason: str) -> Engine:
        return _engine(self._device, chosen, reason, tuple(self._timings.values()))

    def _threaded(self, timing: Timing) -> Timing:
        """The same with several threads, where updates are clearly faster with them."""
        several = torch.get_num_threads()
        if not self._on_processor or several == 1:
            return timing
        other = self._time(timing.trainer, timing.runs, several)
        one, many = timing.speed.seconds_per_update, other.speed.seconds_per_update
        return other if one > _CLEARLY_FASTER * many else timing

    @property
    def _on_processor(self) -> bool:
        return (self._device or self._task.prototype.device).type == "cpu"

    def _seconds_per_epoch(self, timing: Timing) -> float:
        by_cpu = self._on_processor and timing.threads == 1 and timing.cpu is not None
        speed = timing.cpu if by_cpu and timing.cpu is not None else timing.speed
        return speed.seconds(self._task.data(self._device).updates_per_epoch, 1)

    def _time(self, name: Name, runs: int, count: int) -> Timing:
        if (name, runs, count) not in self._timings:
            trainer = self._one if name == "sequential" else self._many
            measured = measure_speed(self._task, trainer, runs, count, on_subset=self._on_subset)
            timing = Timing(name, runs, count, measured.wall, measured.cpu)
            self._timings[name, runs, count] = timing
        return self._timings[name, runs, count]


def _engine(
    device: torch.device | None, chosen: Timing, reason: str, timings: tuple[Timing, ...]
) -> Engine:
    trainer: AnyTrainer = SequentialTrainer(device)
    if chosen.trainer == "driven":
        trainer = DrivenTrainer(device)
    if chosen.trainer == "batched":
        trainer = BatchedTrainer(device, most_runs=chosen.runs)
    return Engine(trainer, chosen, reason, timings)


def _runs(timing: Timing) -> int:
    return timing.runs
