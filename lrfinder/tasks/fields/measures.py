"""The loss and the metrics of a run.

A Module among them may keep something from call to call, and may measure otherwise in eval mode. So
it is a copy, on the device of the model, and each run has its own. Its train flags are used like
those of the model: as given while training, eval mode while evaluating. Its parameters are not
trained.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch, outline
from lrfinder.tasks.user_code import describe

Measure = Callable[..., Any]
_Value = TypeVar("_Value")
VALID_LOSS = "valid_loss"
"""What people call the loss on the validation set."""


@dataclass(frozen=True)
class Measures:
    """What a task is measured by, on one device."""

    by_name: Mapping[str, Measure]
    """"loss", the metrics, and "valid_loss" where it is another one than the loss."""
    forward: "Callable[[nn.Module, Batch], Any] | None"
    """What they compute from, with the target of a pair or the batch; None: the model itself."""
    device: torch.device
    autocast: torch.dtype | None

    def copy(self) -> "Measures":
        """Return the same with copies of the Modules; what else can be called is shared."""
        memo: dict[int, Any] = {}
        return replace(self, by_name={k: self._copied(k, f, memo) for k, f in self.by_name.items()})

    def _copied(self, name: str, function: Measure, memo: dict[int, Any]) -> Measure:
        if not isinstance(function, nn.Module):
            return function
        try:
            return copy.deepcopy(function, memo).to(self.device)
        except Exception as error:
            what = {"loss": "the loss", VALID_LOSS: VALID_LOSS}.get(name, f"metric {name}")
            raise InvalidArgument(
                f"{what} must be copyable for each run, but got {describe(error)}; "
                "give a function that calls the module instead"
            ) from error

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Those that are Modules."""
        return {name: f for name, f in self.by_name.items() if isinstance(f, nn.Module)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Training loss of a batch as a scalar with its graph."""
        with self._precision():
            return _scalar(self.by_name["loss"](*self._arguments(model, batch)))

    def measure(
        self, model: nn.Module, batch: Batch, only: Collection[str] | None = None
    ) -> dict[str, float | Tensor]:
        """Loss and metrics of a batch, as means over its rows; of `only` these, where given.

        The loss is the one that is compared: `valid_loss`, where the task has one.
        """
        values = gradients_where_taken(lambda: self._values(model, batch, only))
        if "loss" not in values or VALID_LOSS in self.by_name:
            return values
        return values | {"loss": _scalar(values["loss"])}

    def take_gradients(self, model: nn.Module, batch: Batch) -> bool:
        """Whether a measure of the batch takes gradients itself, so that it needs a graph."""
        try:
            with torch.no_grad():
                self._values(model, batch, None)
        except Exception as error:
            return _wants_graph(error)
        return False

    def _values(
        self, model: nn.Module, batch: Batch, only: Collection[str] | None
    ) -> dict[str, float | Tensor]:
        with self._precision():
            arguments = self._arguments(model, batch)
            asked = {k: f for k, f in self._evaluated.items() if only is None or k in only}
            return {name: f(*arguments) for name, f in asked.items()}

    @property
    def _evaluated(self) -> dict[str, Measure]:
        """What is evaluated, under its name in the records."""
        functions = dict(self.by_name)
        valid_loss = functions.pop(VALID_LOSS, functions["loss"])
        return functions | {"loss": valid_loss}

    def _arguments(self, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
        """What the criterion or the loss, and every metric, is called with."""
        if self.forward is None:
            return model, batch
        output = self.forward(model, batch)
        return output, batch[1] if self.forward is forward_of_pair else batch

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)


def gradients_where_taken(compute: Callable[[], _Value]) -> _Value:
    """What is computed without gradients, or with them where it takes some itself.

    A residual of a differential equation, a force, a penalty on gradients and the inner loop of
    meta-learning call torch.autograd.grad where they are evaluated, too.
    """
    try:
        return compute()
    except RuntimeError as error:
        if torch.is_grad_enabled() or not _wants_graph(error):
            raise
    with torch.enable_grad():
        return compute()


def _wants_graph(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "does not require grad" in str(error)


def forward_of_pair(model: nn.Module, batch: Batch) -> Any:  # noqa: ANN401 (any output)
    """Output for the inputs x of a batch (x, y), which a criterion takes with y."""
    return model(_pair(batch)[0])


def _pair(batch: Batch) -> Sequence[Any]:
    if isinstance(batch, tuple | list) and len(cast(Sequence[Any], batch)) == 2:
        return cast(Sequence[Any], batch)
    is_sequence = isinstance(batch, tuple | list)
    got = f"{len(cast(Sequence[Any], batch))} parts" if is_sequence else outline(batch)
    raise InvalidArgument(
        f"criterion needs batches (x, y), but got {got}; give loss=f(model, batch) instead"
    )


def check_has_gradient(loss: Tensor) -> None:
    """Raise InvalidArgument for a loss that nothing can be learned from."""
    if not loss.requires_grad:
        raise InvalidArgument(
            f"the loss of a batch must have a gradient, but got a {loss.dtype} without one; "
            "compute it from the model's output, without .detach() or torch.no_grad()"
        )


def _scalar(loss: Any) -> Tensor:  # noqa: ANN401 (whatever the user's loss returned)
    if isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex():
        return loss.reshape(())
    raise InvalidArgument(
        f"the loss of a batch must be one number in a tensor, but got {_got(loss)}"
    )


def _got(loss: Any) -> str:  # noqa: ANN401
    """What a loss is instead of a number in a tensor, and what to do about it."""
    if isinstance(loss, Tensor) and loss.is_complex():
        return f"a {loss.dtype}; take its .abs() or its .real"
    if isinstance(loss, Tensor):
        return f"shape {tuple(loss.shape)}; average it over the batch"
    if loss is None:
        return "None; return the loss at the end of the function"
    if isinstance(loss, tuple | list):
        return f"{outline(loss)}; return the loss alone, without the other parts"
    if isinstance(loss, Mapping):
        return f"{outline(loss)}; return the loss alone, as in result['loss']"
    if isinstance(loss, int | float):
        return f"{type(loss).__name__} {loss}; return the tensor itself, without .item()"
    cure = "return its .loss" if hasattr(loss, "loss") else "return a tensor with its gradient"
    return f"{outline(loss)}; {cure}"


BEST = "best_"
"""Begins the name of an objective for which a run's best epoch counts: best_loss."""


def measure_column(measure: str) -> str:
    """Name that people see for a measure: the loss on the validation set is "valid_loss".

    >>> measure_column("loss"), measure_column("best_loss"), measure_column("accuracy")
    ('valid_loss', 'best_valid_loss', 'accuracy')
    """
    return {"loss": VALID_LOSS, f"{BEST}loss": f"{BEST}{VALID_LOSS}"}.get(measure, measure)


def measure_name(column: str, known: Sequence[str], what: str = "objective") -> str:
    """Measure behind the name that people use; InvalidArgument for an unknown one.

    An objective may be that of the best epoch.

    >>> measure_name("best_valid_loss", ["loss", "accuracy"])
    'best_loss'
    """
    best = [BEST + name for name in known] if what == "objective" else []
    named = {measure_column(name): name for name in reversed([*known, *best])}
    if column not in named:
        names = ", ".join(measure_column(name) for name in known)
        either = f", or {BEST} before one of them" if best else ""
        raise InvalidArgument(f"{what} must be one of {names}{either}, but got {column!r}")
    return named[column]


def evaluated(measure: str, known: Collection[str]) -> str:
    """Measure that is evaluated for an objective: for best_loss the loss.

    A metric of that very name is itself.

    >>> evaluated("best_loss", ["loss"]), evaluated("best_f1", ["loss", "f1", "best_f1"])
    ('loss', 'best_f1')
    """
    return measure if measure in known else measure.removeprefix(BEST)
