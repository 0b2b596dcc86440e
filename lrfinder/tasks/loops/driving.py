"""One training of a loop: it runs in a greenlet, and waits where lrfinder wants it to.

    outside                     inside: train(training)

    begin()        ────────>    builds, drives, registers; waits before its first step
    advance(lrs)   ────────>    makes so many updates, each at its lr; waits in the last `log`
    close()        ────────>    `log` raises LeaveLoop, so that finally blocks run

Nothing is switched from update to update: `log` returns at once while there are lrs left. While it
waits, the loop's random states, gradient mode and autocast are kept apart from the caller's, and
generators that stand outside of `train` stand where their owner left them.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.schedules.groups import names_of
from lrfinder.tasks.loops.switching import ThreadStates
from lrfinder.tasks.loops.training import DRIVES_NONE, LeaveLoop, Line, Measuring, Training
from lrfinder.tasks.state.own_generators import GeneratorState, find_generators
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.user_code import user_code

_SWALLOWED = (
    "the loop must let go when it is left, but it catches the exception that training.log raises; "
    "write `except Exception:` in place of `except:` or `except BaseException:`"
)
_NOT_LET_GO: list[greenlet] = []
"""Loops that would not end; kept, for ending them again would not help."""


class DrivenTraining:
    """One training of a loop, of which the outside holds the lrs."""

    def __init__(
        self,
        train: Callable[[Training], object],
        seed: int,
        *,
        epochs: int,
        updates: int | None,
        device: torch.device | None,
    ) -> None:
        self.seed = seed
        self.accelerator = accelerator(device)
        """Whose random states are kept apart beside those of the processor; None without one."""
        cpu = torch.device("cpu")
        self._line = Line()
        handed = Training(self._line, epochs, updates, seed, self.accelerator or cpu)
        self._random = Stream(seed, self.accelerator)
        self._own = _Generators(train)
        self._measurings: _Generators | None = None
        self._greenlet = greenlet(partial(_run, train, handed))
        self._greenlet.gr_context = copy_context()
        self.made = 0
        """Updates made."""

    def __del__(self) -> None:
        with suppress(BaseException):
            self.close()

    def begin(self) -> None:
        """Go on to the front of the first step; raises what the loop raises until then."""
        with user_code("starting the loop"):
            self._switch()
        if self.ended:
            raise InvalidArgument(
                "the loop must report its updates, but train(training) ended without a call of "
                "training.log(loss); call it once per update, after optimizer.step()"
                if self._line.optimizers
                else DRIVES_NONE
            )
        if not max(self.lrs_built) > 0:
            raise InvalidArgument(
                "a driven optimizer must be built with an lr above 0, to which its groups keep "
                f"their ratios, but got {max(self.lrs_built):g}"
            )

    def advance(self, lrs: Floats, losses: Floats) -> None:
        """Make updates at the lrs float64[updates, groups], whose losses are written as they come.

        The losses float64[updates] stay as they are after one that is not finite, and where the
        loop raises. Where the loop ends before, `ended` says so.
        """
        line = self._line
        line.lrs, line.losses = lrs.tolist(), []
        try:
            self._switch()
        finally:
            made = line.read()
            lost = next((k for k, loss in enumerate(made) if not math.isfinite(loss)), len(made))
            kept = made[: lost + 1]
            losses[: len(kept)] = kept
            self.made += len(made)

    @property
    def ended(self) -> bool:
        """Whether the loop has returned."""
        return self._greenlet.dead

    @property
    def broken(self) -> bool:
        """Whether a loss was not finite."""
        return self._line.broken

    @property
    def length_read(self) -> bool:
        """Whether the loop has asked how long to go on."""
        return self._line.length_read

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """What it drives."""
        return self._line.optimizers

    @property
    def lrs_built(self) -> list[float]:
        """The lr of every group as it was built, optimizer after optimizer."""
        return [lr for lrs in self._line.built for lr in lrs]

    @property
    def group_names(self) -> list[str]:
        """What the groups are called: by their key "name", or as their optimizer where alone."""
        named: list[dict[str, Any]] = []
        for name, optimizer in zip(self._line.names, self._line.optimizers, strict=True):
            groups = optimizer.param_groups
            usual = name if len(groups) == 1 and name else None
            named += [{"name": group.get("name", usual)} for group in groups]
        return names_of(named)

    @property
    def measuring(self) -> Measuring | None:
        """What was registered to measure it with."""
        return self._line.measuring

    @contextmanager
    def generators_kept(self) -> Generator[None]:
        """Put generators that its measuring function draws from back on leaving."""
        if self._measurings is None:
            self._measurings = _Generators(self._line.measuring)
        with self._measurings.active(go_on=False):
            yield

    def close(self) -> None:
        """Leave the loop, so that its finally blocks run; raises what these raise."""
        self._line.free()
        if self._greenlet.dead or not self._greenlet:
            return
        with user_code("leaving the loop"):
            self._switch(LeaveLoop)
        if not self._greenlet.dead:
            _NOT_LET_GO.append(self._greenlet)
            raise InvalidArgument(_SWALLOWED)

    def _switch(self, thrown: type[BaseException] | None = None) -> None:
        """Go on inside, with the states that belong there, until it waits or ends."""
        self._greenlet.parent = getcurrent()
        outside = ThreadStates.now()
        with self._random.active(), self._own.active():
            try:
                if thrown is None:
                    self._greenlet.switch()
                else:
                    self._greenlet.throw(thrown)
            finally:
                outside.restore()
        fault, self._line.fault = self._line.fault, None
        if fault is not None:
            raise fault


def accelerator(asked: torch.device | None) -> torch.device | None:
    """The accelerator that was asked for, or that there is where nothing was asked for."""
    if asked is None:
        return torch.device("cuda") if torch.cuda.is_available() else None
    return None if asked.type == "cpu" else asked


def _run(train: Callable[[Training], object], handed: Training) -> None:
    with suppress(LeaveLoop):
        train(handed)


class _Generators:
    """Generators that a loop uses and does not make, such as a data loader's.

    Every training begins where their owner left them, and they stand there again while it waits.
    """

    def __init__(self, root: object) -> None:
        self._states = [GeneratorState(one) for one in find_generators(root)]
        self._inside = [state.get() for state in self._states]

    @contextmanager
    def active(self, *, go_on: bool = True) -> Generator[None]:
        """Draw from them inside the block; the next one goes on, or begins where this one did."""
        outside = [state.get() for state in self._states]
        self._put(self._inside)
        try:
            yield
        finally:
            if go_on:
                self._inside = [state.get() for state in self._states]
            self._put(outside)

    def _put(self, values: Sequence[Any]) -> None:
        for state, value in zip(self._states, values, strict=True):
            state.set(value)
