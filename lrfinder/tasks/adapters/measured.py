"""Loss and metrics that one function gives together, as fields of a Task."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lrfinder.tasks.batches import Batch

Step = Callable[[Any, Batch], Mapping[str, Any]]
"""step(model, batch) -> "loss", and further values by name."""


def measured_by(step: Step, metrics: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a Task whose loss and metrics a step gives; `metrics` are names and their keys."""

    def loss(model: nn.Module, batch: Batch) -> Any:  # noqa: ANN401 (checked where it is used)
        return step(model, batch)["loss"]

    def metric(key: str) -> Callable[[nn.Module, Batch], Any]:
        return lambda model, batch: step(model, batch)[key]

    return {"loss": loss, "metrics": {name: metric(key) for name, key in metrics.items()}}
