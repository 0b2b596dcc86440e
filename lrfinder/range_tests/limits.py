"""When a range test ends before its end: at a timeout, or where updates become absurdly slow.

Some updates take longer the higher the lr is, as those of an adaptive solver whose step underflows;
at a high one they may never end. A training ends where an update takes 30 times as long as the
median of the earlier ones and more than two seconds, three times in a row, or more than a minute
once, unless updates at next to no lr are slow just then, too, as on a machine that does other work.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from lrfinder.range_tests.curve import Curve
from lrfinder.tasks.problem import Problem
from lrfinder.training.trainers.raised import NO_LR
from lrfinder.training.trainers.trainer import AnyTrainer

OUT_OF_TIME = "out of time"
_FACTOR, _LEAST, _ONCE = 30.0, 2.0, 60.0
"""Over the median; seconds that are slow at all, and that end a training at once."""
_IN_A_ROW = 3
_FEWEST = 8
"""Updates, or pieces of several, that a median is of."""


Control = Callable[[Callable[[], float]], float]
"""Seconds of an update at next to no lr, by the clock that is given."""
_TIMED = 3


def seconds_at_no_lr(
    task: Problem, trainer: AnyTrainer, seed: int, clock: Callable[[], float]
) -> float:
    """Seconds of an update at next to no lr."""
    state = trainer.start(task, [seed], [NO_LR])
    lrs = np.full((1, _TIMED, len(state.stand_ins[0].param_groups)), NO_LR)
    began = clock()
    trainer.advance(state, lrs)
    seconds = (clock() - began) / _TIMED
    trainer.select(state, [])
    return seconds


class Limits:
    """Watches the trainings of one range test; called by `fit` as they go on.

    `timeout` is in seconds from now on. One piece of training is always made.
    """

    def __init__(
        self, timeout: float | None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self.control: Control | None = None
        """Times updates at next to no lr."""
        self._deadline = float("inf") if timeout is None else clock() + timeout
        self._usual: list[float] = []
        self._began, self._made, self._in_a_row = clock(), 0, 0
        self._started = False

    @property
    def out_of_time(self) -> bool:
        """Whether the timeout has passed."""
        return self._clock() >= self._deadline

    def __call__(self, made: int) -> str | None:
        """Why a population ends after so many updates, 0 where it begins; None where it goes on."""
        now, began, before = self._clock(), self._began, self._made
        self._began, self._made = now, made
        if made == 0:
            self._in_a_row = 0
            started, self._started = self._started, True
            return OUT_OF_TIME if started and self.out_of_time else None
        return self._slow((now - began) / (made - before)) or (
            OUT_OF_TIME if self.out_of_time else None
        )

    def _slow(self, seconds: float) -> str | None:
        usual = median(self._usual) if len(self._usual) >= _FEWEST else float("inf")
        if not seconds > max(_FACTOR * usual, _LEAST):
            self._usual.append(seconds)
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        if self._in_a_row < _IN_A_ROW and seconds < _ONCE:
            return None
        if self.control is not None and seconds < _FACTOR * self.control(self._clock):
            self._began, self._in_a_row = self._clock(), 0
            return None
        return f"an update took {seconds:.3g} s, {seconds / usual:.0f} times as long as before"


def only_with_probes(curve: Curve, fewest: int) -> Curve:
    """The curve with those of its seeds alone that have so many probes; all without any probe."""
    counts = [sum(probe.seed == seed for probe in curve.probes) for seed in curve.seeds]
    rows = [row for row, count in enumerate(counts) if count >= fewest]
    if not rows:
        return replace(curve, probes=())
    seeds = tuple(curve.seeds[row] for row in rows)
    return replace(
        curve,
        loss=curve.loss[rows],
        train_loss=curve.train_loss[rows],
        start=curve.start[rows],
        metrics={name: values[rows] for name, values in curve.metrics.items()},
        seeds=seeds,
        probes=tuple(probe for probe in curve.probes if probe.seed in seeds),
    )


def timeout_note(timeout: float, curve: Curve, seeds: int) -> str:
    """What there is of a range test, of so many seeds, that the timeout ended."""
    up_to = f"lrs up to {curve.lr[-1]:.3g}" if curve.lr.size else "no lr"
    return (
        f"the timeout of {timeout:.3g} s ended the range test: "
        f"{len(curve.seeds)} of {seeds} seeds, "
        f"{up_to}, {len(curve.probes)} probes"
    )


def slow_note(slow: Sequence[str]) -> list[str]:
    """A note on trainings that became too slow, where there are any."""
    others = f" (and {len(slow) - 1} more)" if len(slow) > 1 else ""
    return [f"a training was ended where it became too slow{others}: {slow[0]}"] if slow else []
