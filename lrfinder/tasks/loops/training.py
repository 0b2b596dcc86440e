"""What a loop is handed, and what goes on between it and what drives it."""

import gc
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import outline
from lrfinder.tasks.loops.switching import wait
from lrfinder.tasks.state.optimizer_copies import unwrapped

Measuring = Callable[[], Any]
_READ_EVERY = 16
"""Updates after which losses on an accelerator are read, at the latest."""
_ONCE_PER_UPDATE = (
    "training.log(loss) must be called once per update, after optimizer.step(), but no driven "
    "optimizer was stepped since {since}; where gradients are accumulated, log after the step"
)
DRIVES_NONE = (
    "the loop must hand its optimizer over before its first update, but it drives none; "
    "call training.drive(optimizer) where it is built"
)


class LeaveLoop(BaseException):
    """Raised by `Training.log` where a training ends before the loop does."""


class Training:
    """What a loop is handed: how long to train, what is driven, where each update is reported."""

    def __init__(
        self, line: "Line", epochs: int, updates: int | None, seed: int, device: torch.device
    ) -> None:
        self.seed = seed
        """Seed that the random states of Python, NumPy and torch were set to."""
        self.device = device
        """Where lrfinder was asked to train; a loop is free to train elsewhere."""
        self._epochs, self._updates = epochs, updates
        self._line = line

    @property
    def epochs(self) -> int:
        """Epochs to go on for; the loop may be left before."""
        self._line.length_read = True
        return self._epochs

    @property
    def updates(self) -> int:
        """Updates to go on for, where an epoch's length is given: Loop(steps_per_epoch=...)."""
        self._line.length_read = True
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
        is given by name is called so in messages, and so is its only parameter group.
        """
        line, known = self._line, len(self._line.optimizers)
        given = {f"optimizer {known + k + 1}": one for k, one in enumerate(optimizers)} | named
        if not given:
            line.refuse("training.drive(...) must be given an optimizer, but got none")
        for name, optimizer in given.items():
            line.add(name, optimizer)
            line.names.append(name if name in named else "")

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

        A loss that is not finite, or rises far above its first values and those of a training at
        next to no lr, says that the training has diverged; of a GAN, log the discriminator's.
        Raises LeaveLoop, which is no Exception, where the training ends: only `finally` sees it.
        """
        self._line.log(loss)


@dataclass
class Line:
    """What goes on between a loop and what drives it."""

    optimizers: list[Optimizer] = field(default_factory=list[Optimizer])
    names: list[str] = field(default_factory=list[str])
    """What each optimizer was called; "" where it has no name."""
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
    length_read: bool = False
    """Whether the loop has asked how long to go on."""
    fault: InvalidArgument | None = None
    _stepped: bool = False
    _scaled: bool = False
    _hooks: list[Any] = field(default_factory=list[Any])

    def refuse(self, message: str) -> NoReturn:
        """Leave the loop, whatever it catches; the message is raised outside."""
        self.fault = InvalidArgument(message)
        raise LeaveLoop

    def add(self, name: str, given: Any) -> None:  # noqa: ANN401 (whatever was given)
        """Drive an optimizer, which messages call by the name."""
        optimizer = unwrapped(given) if isinstance(given, Optimizer) else given
        if not isinstance(optimizer, Optimizer):
            kind = type(given).__name__
            inner = hasattr(given, "optimizer")
            cure = "give its .optimizer" if inner else "make it a torch.optim.Optimizer"
            self.refuse(
                f"training.drive(...) must be given torch optimizers, but got a {kind}; {cure}"
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
        """Count an update; wait where the lrs are used up."""
        if self.ended:
            self._wait()  # it has caught what it was to leave by
        if not self.optimizers:
            self.refuse(DRIVES_NONE)
        if not self._stepped and not self._may_skip():
            first = not self.begun or not self.losses
            self.refuse(_ONCE_PER_UPDATE.format(since="the beginning" if first else "the last"))
        if not self.begun:
            self._wait_to_begin()
        self._stepped = False
        self.losses.append(self._number(loss))
        if len(self.losses) % _READ_EVERY == 0 and isinstance(self.losses[-1], Tensor):
            self.read()
        if self.broken or len(self.losses) == len(self.lrs):
            self._wait()

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
        self._wait()

    def _wait(self) -> None:
        """Go on outside; a fault is told there, too, as a thread of the loop's keeps its own."""
        try:
            wait()
        except InvalidArgument as fault:
            self.fault = fault
            raise

    def free(self) -> None:
        """Take the hooks off the optimizers."""
        self.ended = True
        for hook in self._hooks:
            hook.remove()


def described(value: object) -> str:
    """What stands in the place of a number, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}; average it"
    return outline(value)


def takes_one_argument(train: Callable[..., object]) -> bool:
    """Whether train(training) can be called; True where Python does not say."""
    try:
        inspect.signature(train).bind(object())
    except TypeError:
        return False
    except ValueError:
        return True
    return True
