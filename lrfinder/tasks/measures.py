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
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.batches import Batch
from lrfinder.tasks.user_code import describe

Measure = Callable[..., Any]


@dataclass(frozen=True)
class Measures:
    """What a task is measured by, on one device."""

    by_name: Mapping[str, Measure]
    """"loss" and the metrics."""
    of_output: bool
    """They take (model(x), y) of a batch (x, y), instead of (model, batch)."""
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
            what = "the loss" if name == "loss" else f"metric {name}"
            raise InvalidArgument(
                f"{what} must be copyable for each run, but got {describe(error)}; "
                "give a function that calls the module instead"
            ) from error

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Those that are Modules."""
        return {name: f for name, f in self.by_name.items() if isinstance(f, nn.Module)}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss of a batch as a scalar with its graph."""
        with self._precision():
            return _scalar(self.by_name["loss"](*self._arguments(model, batch)))

    def measure(
        self, model: nn.Module, batch: Batch, only: Collection[str] | None = None
    ) -> dict[str, float | Tensor]:
        """Loss and metrics of a batch, as means over its rows; of `only` these, where given."""
        with self._precision():
            arguments = self._arguments(model, batch)
            asked = {k: f for k, f in self.by_name.items() if only is None or k in only}
            values = {name: f(*arguments) for name, f in asked.items()}
        return values | ({"loss": _scalar(values["loss"])} if "loss" in values else {})

    def _arguments(self, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
        """What the criterion or the loss, and every metric, is called with."""
        if not self.of_output:
            return model, batch
        x, y = _pair(batch)
        return model(x), y

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)


def _pair(batch: Batch) -> tuple[Any, Any]:
    if isinstance(batch, tuple) and len(batch) == 2:
        return batch
    names = f"a dict with {', '.join(batch)}" if isinstance(batch, dict) else f"{len(batch)} parts"
    raise InvalidArgument(
        f"criterion needs batches (x, y), but got {names}; give loss=f(model, batch) instead"
    )


def _scalar(loss: Any) -> Tensor:  # noqa: ANN401 (whatever the user's loss returned)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InvalidArgument(
            f"the loss of a batch must be one number in a tensor, but got {got}; "
            "average it over the batch"
        )
    return loss.reshape(())


def measure_column(measure: str) -> str:
    """Name that people see for a measure: the loss on the validation set is "valid_loss"."""
    return "valid_loss" if measure == "loss" else measure


def measure_name(column: str, known: Sequence[str]) -> str:
    """Measure behind the name that people use; InvalidArgument for an unknown one."""
    name = "loss" if column == "valid_loss" else column
    if name not in known or column == "loss":
        names = ", ".join(measure_column(k) for k in known)
        raise InvalidArgument(f"objective must be one of {names}, but got {column!r}")
    return name
