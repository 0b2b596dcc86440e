"""Moving a batch to a device.

Where all its tensors lie there already, a batch is handed on untouched. Else it is moved by its own
`.to`, where its class has one (tensors, packed sequences, graphs, the encodings of tokenizers), or
part by part, each part in its own class: mappings with their attributes, named tuples, dataclasses.
What is of no such kind stays as it is.

The training loop that is written for users holds these functions word for word where its batches
need them, so that it does to a batch what lrfinder does.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

_MOST_PARTS = 10_000
"""Parts of one batch in which tensors are looked for: an object may lead to a whole data set."""


def to_device(batch: Any, device: torch.device | None) -> Any:  # noqa: ANN401 (any batch)
    """Return the batch on the device, of the same class; itself where nothing has to move."""
    if device is None:
        return batch
    device = torch.empty(0, device=device).device  # "cuda" with its number
    places = {tensor.device for tensor in tensors_in(batch)}
    on_device = places == {device} if places else device.type == "cpu"
    return batch if on_device else moved(batch, device)


def tensors_in(batch: Any) -> list[torch.Tensor]:  # noqa: ANN401
    """Return the tensors in a batch, depth first, also those that its objects hold."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    waiting = [batch]
    while waiting and len(seen) < _MOST_PARTS:
        part = waiting.pop()
        if isinstance(part, torch.Tensor):
            found.append(part)
        elif id(part) not in seen:
            seen.add(id(part))
            waiting += reversed(parts_of(part))
    return found


def parts_of(value: Any) -> list[Any]:  # noqa: ANN401
    """Return what a mapping, a sequence or an object holds; of anything else nothing."""
    parts = list(value.values()) if isinstance(value, Mapping) else []
    parts += list(value) if isinstance(value, tuple | list) else []
    if hasattr(value, "__dict__") and not callable(value):
        return parts + list(vars(value).values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return parts + [getattr(value, field.name) for field in dataclasses.fields(value)]
    return parts


def moved(batch: Any, device: torch.device) -> Any:  # noqa: ANN401
    """Return the batch with everything in it that can be moved on the device."""
    if callable(getattr(type(batch), "to", None)):
        result = batch.to(device)
        return batch if result is None else result
    if isinstance(batch, tuple):
        parts = [moved(part, device) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    if isinstance(batch, type):
        return batch
    if isinstance(batch, list | dict) or dataclasses.is_dataclass(batch):
        return _moved_twin(batch, device)
    if isinstance(batch, Mapping):
        if hasattr(batch, "__dict__"):
            return _moved_twin(batch, device)
        kind: Any = type(batch)
        return kind({key: moved(value, device) for key, value in batch.items()})
    return batch


def _moved_twin(batch: Any, device: torch.device) -> Any:  # noqa: ANN401
    """Return a copy whose items and attributes are on the device."""
    twin = copy.copy(batch)
    if isinstance(batch, list):
        twin[:] = [moved(part, device) for part in batch]
    if isinstance(batch, dict):
        for key, value in batch.items():
            twin[key] = moved(value, device)
    if getattr(batch, "__dict__", None) is batch:  # its items are its attributes
        twin.__dict__ = twin
    elif hasattr(batch, "__dict__"):
        vars(twin).update({name: moved(value, device) for name, value in vars(batch).items()})
    elif dataclasses.is_dataclass(batch):
        for field in dataclasses.fields(batch):
            object.__setattr__(twin, field.name, moved(getattr(batch, field.name), device))
    return twin
