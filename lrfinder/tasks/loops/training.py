"""One training of a loop: it runs in a greenlet, and waits where lrfinder wants it to.

    outside                     inside: train(training)

    begin()        ────────>    builds, drives, registers; waits before its first step
    advance(lrs)   ────────>    makes so many updates, each at its lr; waits in the last `log`
    close()        ────────>    `log` raises LeaveLoop, so that finally blocks run

Nothing is switched from update to update: `log` returns at once while there are lrs left. While it
waits, the loop's random states, gradient mode and autocast are kept apart from the caller's, and
generators that stand outside of `train` stand where their owner left them.
"""

import gc
import inspect
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, cast

import numpy as np
import torch
from greenlet import getcurrent, greenlet
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.batches import outline
from lrfinder.tasks.optimizer_copies import unwrapped
from lrfinder.tasks.own_generators import GeneratorState, find_generators
from lrfinder.tasks.random_states import Stream
from lrfinder.tasks.user_code import user_code

Measuring = Callable[[], Any]
_READ_EVERY = 16
"""Updates after which losses on an accelerator are read, at the latest."""
_ONCE_PER_UPDATE = (
    "training.log(loss) must be called once per update, after optimizer.step(), but no driven "
    "optimizer was stepped since {since}; where gradients are accumulated, log after the step"
)
_DRIVES_NONE = (
    "the loop must hand its optimizer over before its first update, but it drives none; "
    "call training.drive(optimizer) where it is built"
)
_SWALLOWED = (
    "the loop must let go when it is left, but it catches the exception that training.log raises; "
    "write `except Exception:` in place of `except:` or `except BaseException:`"
)
_NOT_LET_GO: list[greenlet] = []
"""Loops that would not end; kept, for ending them again would not help."""


class LeaveLoop(BaseException):
    """Raised by `Training.log` where a training ends before the loop does."""


class Training:
    """What a loop is handed: how long to train, what is driven, where each update is reported."""

    def __init__(self, epochs: int, updates: int | None, seed: int, device: torch.device) -> None:
        self.epochs = epochs
        """Epochs to go on for; the loop may be left before."""
        self.seed = seed
        """Seed that the random states of Python, NumPy and torch were set to."""
        self.device = device
        """Where lrfinder was asked to train; a loop is free to train elsewhere."""
        self._updates = updates
        self._line = _Line()

    @property
    def updates(self) -> int:
        """Updates to go on for, where an epoch's length is given: Loop(steps_per_epoch=...)."""
        if self._updates is None:
            self._line.refuse(
                "training.updates is not known before an epoch is counted; "
                "give Loop(train, steps_per_epoch=...)"
            )
        return self._updates

    def drive(self, *optimizers: Optimizer, **named: Optimizer) -> None:
        """Hand over the optimizers whose learning rates are set, before their first step.

        The lr asked for is that of the group with the largest lr; all groups, of all optimizers,
        keep their ratio to it, as they were built. So several optimizers share one schedule. What
        is given by name is only called so in messages.
        """
        line, known = self._line, len(self._line.optimizers)
        given = {f"optimizer {known + k + 1}": one for k, one in enumerate(optimizers)} | named
        if not given:
            line.refuse("training.drive(...) must be given an optimizer, but got none")
        for name, optimizer in given.items():
            line.add(name, optimizer)

    def measure(self, function: Measuring) -> None:
        """Register what evaluates the loop: function() -> {"valid_loss": number, ...}.

        It is called before the first update, after epochs, and wherever a test needs it. Random
        states, train flags, buffers and attributes of the modules that it uses are put back
        afterwards. A number alone is the valid_loss.
        """
        line = self._line
        if not callable(function):
            got = type(function).__name__
            line.refuse(
                f"training.measure(...) must be given a function, but got a {got}; write "
                'training.measure(lambda: {"valid_loss": evaluate(model)})'
            )
        if line.measuring is not None or line.begun:
            when = "after the first update" if line.begun else "twice"
            line.refuse(
                "training.measure(...) must be called once, before the first update, "
                f"but was called {when}; return all measures in one dict"
            )
        line.measuring = function

    def log(self, loss: Tensor | float) -> None:
        """Report one update, after the optimizer's step; waits here until it may go on.

        A loss that is not finite, or rises far above its first values, says that the training has
        diverged; of a GAN, log the discriminator's.
        Raises LeaveLoop, which is no Exception, where the training ends: only `finally` sees it.
        """
        self._line.log(loss)


@dataclass
class _Line:
    """What goes on between a loop and what drives it."""

    optimizers: list[Optimizer] = field(default_factory=list[Optimizer])

    built: list[list[float]] = field(default_factory=list[list[float]])
    """The lr of every group of every optimizer, as it was built."""
    measuring: Measuring | None = None
    lrs: Sequence[Sequence[float]] = ()
    """Of the updates to make: one for each group, optimizer after optimizer."""
    losses: list[Any] = field(default_factory=list[Any])
    """Of the updates made, as floats, or as tensors on an accelerator."""
    begun: bool = False
    ended: bool = False
    broken: bool = False
    """A loss was not finite."""
    fault: InvalidArgument | None = None
    _stepped: bool = False
    _scaled: bool = False
    _hooks: list[Any] = field(default_factory=list[Any])

    def refuse(self, message: str) -> NoReturn:
        """Leave the loop, whatever it catches; the message is raised outside."""
        self.fault = InvalidArgument(message)
        raise LeaveLoop

    def add(self, name: str, given: Any) -> None:  # noqa: ANN401 (whatever was given)
        optimizer = unwrapped(given) if isinstance(given, Optimizer) else given
        if not isinstance(optimizer, Optimizer):
            kind = type(given).__name__
            hint = "; return its .optimizer" if hasattr(given, "optimizer") else ""
            self.refuse(
                f"training.drive(...) must be given torch optimizers, but got a {kind}{hint}"
            )
        if self.begun or any(optimizer is other for other in self.optimizers):
            when = "after the first update" if self.begun else "twice"
            self.refuse(
                f"every optimizer must be handed to training.drive(...) once, before the first "
                f"update, but {name} was {when}; build all of them at the beginning of train"
            )
        lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        first = sum(map(len, self.built))
        hook = partial(self._before_step, first, first + len(lrs))
        self._hooks.append(optimizer.register_step_pre_hook(hook))
        self.optimizers.append(optimizer)

        self.built.append(lrs)

    def _before_step(
        self, first: int, end: int, optimizer: Optimizer, _args: object, _kwargs: object
    ) -> None:
        """Set the lrs of an optimizer, in front of its step."""
        self._stepped = True
        if not self.begun:
            self._wait_to_begin()
        lrs, groups = self.lrs[len(self.losses)][first:end], optimizer.param_groups
        if len(groups) != len(lrs):
            self.refuse(
                "a driven optimizer must keep its parameter groups, but one that had "
                f"{len(lrs)} has {len(groups)}; add them before training.drive(...)"
            )
        for group, lr in zip(groups, lrs, strict=True):
            group["lr"] = lr

    def log(self, loss: Any) -> None:  # noqa: ANN401 (whatever was given)
        if self.ended:
            _wait()  # it has caught what it was to leave by
        if not self.optimizers:
            self.refuse(_DRIVES_NONE)
        if not self._stepped and not self._may_skip():
            first = not self.begun or not self.losses
            self.refuse(_ONCE_PER_UPDATE.format(since="the beginning" if first else "the last"))
        if not self.begun:
            self._wait_to_begin()
        self._stepped = False
        self.losses.append(self._number(loss))
        if len(self.losses) % _READ_EVERY == 0:
            self.read()
        if self.broken or len(self.losses) == len(self.lrs):
            _wait()

    def _number(self, loss: Any) -> float | Tensor:  # noqa: ANN401
        if isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex():
            if loss.device.type != "cpu":
                return loss.detach().reshape(())
            loss = loss.item()
        if not isinstance(loss, int | float | np.generic):
            self.refuse(
                "training.log(...) must be given the loss of the update, one number, "
                f"but got {described(loss)}"
            )
        number = float(loss)
        self.broken = self.broken or not math.isfinite(number)
        return number

    def read(self) -> list[float]:
        """The losses so far as numbers; those on an accelerator are waited for."""
        waiting = [k for k, loss in enumerate(self.losses) if isinstance(loss, Tensor)]
        if waiting:
            numbers = torch.stack([self.losses[k].double() for k in waiting]).tolist()
            for k, number in zip(waiting, numbers, strict=True):
                self.losses[k] = number
            self.broken = self.broken or not all(map(math.isfinite, numbers))
        return self.losses

    def _may_skip(self) -> bool:
        """Whether the loop has a gradient scaler, which leaves out steps."""
        self._scaled = self._scaled or any(
            issubclass(type(one), torch.amp.GradScaler) and one.is_enabled()
            for one in gc.get_objects()
        )
        return self._scaled

    def _wait_to_begin(self) -> None:
        self.begun = True
        _wait()

    def free(self) -> None:
        """Take the hooks off the optimizers."""
        self.ended = True
        for hook in self._hooks:
            hook.remove()


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
        self._handed = Training(epochs, updates, seed, self.accelerator or cpu)
        self._line = cast(_Line, vars(self._handed)["_line"])
        self._random = Stream(seed, self.accelerator)
        self._own = _Generators(train)
        self._measurings: _Generators | None = None
        self._greenlet = greenlet(partial(_run, train, self._handed))
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
                else _DRIVES_NONE
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
    def optimizers(self) -> Sequence[Optimizer]:
        """What it drives."""
        return self._line.optimizers

    @property
    def lrs_built(self) -> list[float]:
        """The lr of every group as it was built, optimizer after optimizer."""
        return [lr for lrs in self._line.built for lr in lrs]

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
        outside = _ThreadStates.now()
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


def described(value: object) -> str:
    """What stands in the place of a number, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}; average it"
    return outline(value)


def accelerator(asked: torch.device | None) -> torch.device | None:
    """The accelerator that was asked for, or that there is where nothing was asked for."""
    if asked is None:
        return torch.device("cuda") if torch.cuda.is_available() else None
    return None if asked.type == "cpu" else asked


def _run(train: Callable[[Training], object], handed: Training) -> None:
    with suppress(LeaveLoop):
        train(handed)


def _wait() -> None:
    """Go on outside; what belongs to the thread is put back on return."""
    inside, parent = _ThreadStates.now(), getcurrent().parent
    if parent is None:
        raise InvalidArgument(
            "training.log(loss) and the optimizer's steps must be called where train(training) "
            "runs, but were called elsewhere, or after its end"
        )
    try:
        parent.switch()
    finally:
        inside.restore()


@dataclass(frozen=True)
class _ThreadStates:
    """Modes of torch that belong to a thread, and are not those of a greenlet."""

    gradients: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]

    @classmethod
    def now(cls) -> "_ThreadStates":
        kinds = ("cpu", "cuda")
        return cls(
            torch.is_grad_enabled(),
            tuple(
                (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
                for kind in kinds
            ),
        )

    def restore(self) -> None:
        torch.set_grad_enabled(self.gradients)
        for kind, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)


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


def takes_one_argument(train: Callable[..., object]) -> bool:
    """Whether train(training) can be called; True where Python does not say."""
    try:
        inspect.signature(train).bind(object())
    except TypeError:
        return False
    except ValueError:
        return True
    return True
