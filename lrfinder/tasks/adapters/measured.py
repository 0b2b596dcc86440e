"""Loss and metrics that one function gives together, as fields of a Task."""

from collections.abc import Callable, Mapping
from typing import Any

from lrfinder.tasks.data.batches import Batch

Step = Callable[[Any, Batch], Mapping[str, Any]]
"""step(model, batch) -> "loss", and further values by name."""


def measured_by(step: Step, metrics: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a Task whose loss and metrics a step gives; `metrics` are names and their keys."""
    own = {name: _value_of(key) for name, key in metrics.items()}
    return {"forward": step, "loss": _value_of("loss"), "metrics": own}


def _value_of(key: str) -> Callable[[Mapping[str, Any], Batch], Any]:
    return lambda found, _: found[key]
