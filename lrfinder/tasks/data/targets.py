"""Where the target of a batch lies, and the same batch with another target.

A target is what a task names (`Task.target`). Where it names none, it is the second part of a pair,
or what is called labels, label, target, targets or y in a mapping, a named tuple or any other
object; a batch of one part is searched inside that part. Most batches of other kinds have a target
too, but nothing in them tells which part it is.

A batch is never rebuilt: it is copied, with one part of the copy put in place of the old one, so
that its class, its attributes and all other parts stay what they are.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, cast

import numpy as np
from torch import Tensor

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch, outline

Target = str | int | Callable[[Any], Any] | Literal[False] | None
"""A key or an attribute, an index, or a function that returns a part of a batch; False for none."""
NAMES = ("labels", "label", "target", "targets", "y")
"""What a target is called, where nothing else tells it."""
_DEEPEST = 8  # parts inside each other, down to which a target is looked for


@dataclass(frozen=True)
class _Step:
    """One step from a part to a part of it."""

    key: Any
    is_item: bool

    def of(self, part: Any) -> Any:  # noqa: ANN401
        return part[self.key] if self.is_item else getattr(part, self.key)

    def put(self, part: Any, value: Any) -> Any:  # noqa: ANN401
        """Return a copy of the part that holds the value here."""
        if isinstance(part, tuple):
            return self._put_in_tuple(cast("tuple[Any, ...]", part), value)
        if self.is_item and isinstance(part, Mapping) and not hasattr(part, "__setitem__"):
            kind: Any = type(part)
            return kind({**part, self.key: value})
        twin: Any = copy.copy(cast(object, part))
        if self.is_item:
            if getattr(part, "__dict__", None) is part:  # its items are its attributes
                twin.__dict__ = twin
            twin[self.key] = value
            return twin
        try:
            setattr(twin, self.key, value)
        except AttributeError:  # a frozen dataclass
            object.__setattr__(twin, self.key, value)
        return twin

    def _put_in_tuple(self, part: tuple[Any, ...], value: object) -> Any:  # noqa: ANN401
        kind: Any = type(part)
        if hasattr(part, "_fields"):
            name = kind._fields[self.key] if self.is_item else self.key
            return cast(Any, part)._replace(**{name: value})
        place = range(len(part))[self.key]
        twin = kind((*part[:place], value, *part[place + 1 :]))
        if hasattr(part, "__dict__"):
            vars(twin).update(vars(part))
        return twin


@dataclass(frozen=True)
class Place:
    """Where the target of a batch lies: the steps to it, from the outside in."""

    steps: tuple[_Step, ...]

    def of(self, batch: Batch) -> Any:  # noqa: ANN401 (any target)
        """Return the target of the batch."""
        for step in self.steps:
            batch = step.of(batch)
        return batch

    def put(self, batch: Batch, target: Any) -> Batch:  # noqa: ANN401
        """Return a copy of the batch with another target; the other parts are shared.

        Raises ValueError where the batch cannot be copied so.
        """
        before = self.of(batch)
        twin = _put(batch, self.steps, target)
        if self.of(batch) is not before:  # the copy is no copy
            _put(batch, self.steps, before)
            raise ValueError("the batch shares its target with its copies")
        return twin


def _put(part: Any, steps: Sequence[_Step], value: Any) -> Any:  # noqa: ANN401
    first, *rest = steps
    inner = _put(first.of(part), rest, value) if rest else value
    return first.put(part, inner)


def place_of(batch: Batch, target: Target = None) -> Place | None:
    """Where the target of the batch lies; None where there is none, or none can be told.

    Raises InvalidArgument where the batch has nothing of the name that is given.
    """
    if target is False:
        return None
    if target is None:
        return _found(batch)
    if isinstance(target, str | int):
        return Place((_named(batch, target),))
    return _returned(batch, target)


def check_target(target: Any) -> None:  # noqa: ANN401 (whatever was given)
    """A key, an index, the name of an attribute, a function of a batch, False or None."""
    is_name = isinstance(target, str | int) and target is not True and target != ""
    if target is not None and not is_name and not callable(target):
        raise InvalidArgument(
            "target must be a key, an index, the name of an attribute or a function of a batch, "
            f"or False where there is none, but got {target!r}"
        )


def _found(batch: Batch) -> Place | None:
    """The target of a batch that nobody has named."""
    if isinstance(batch, tuple | list):
        parts = cast(Sequence[Any], batch)
        if hasattr(parts, "_fields"):
            named = _by_name(parts)
            if named is not None:
                return named
        if len(parts) == 1:
            inner = _found(parts[0])
            return None if inner is None else Place((_Step(0, is_item=True), *inner.steps))
        is_pair = len(parts) == 2 and _is_data(parts[1]) and not isinstance(parts[1], str | int)
        return Place((_Step(1, is_item=True),)) if is_pair else None
    return _by_name(batch)


def _by_name(batch: Batch) -> Place | None:
    if isinstance(batch, Tensor | np.ndarray | str | bytes):
        return None
    steps = (_step(batch, name) for name in NAMES)
    known = (step for step in steps if step is not None and _is_data(step.of(batch)))
    step = next(known, None)
    return None if step is None else Place((step,))


def _step(batch: Batch, name: str) -> _Step | None:
    """The step to what has the name; None where nothing has it."""
    if isinstance(batch, Mapping) and name in batch:
        return _Step(name, is_item=True)
    try:
        getattr(batch, name)
    except Exception:  # a class of the user's own may raise anything
        return None
    return _Step(name, is_item=False)


def _is_data(part: Any) -> bool:  # noqa: ANN401
    """Whether the part is no mere flag, no method and not nothing at all."""
    return part is not None and not callable(part) and not isinstance(part, bool)


def _named(batch: Batch, name: str | int) -> _Step:
    """The step to what is named, which must be there."""
    found = None
    if isinstance(name, str):
        found = _step(batch, name)
    elif isinstance(batch, Mapping):
        found = _Step(name, is_item=True) if name in batch else None
    elif isinstance(batch, tuple | list):
        count = len(cast(Sequence[Any], batch))
        found = _Step(name, is_item=True) if -count <= name < count else None
    if found is None:
        what = "a key or an attribute" if isinstance(name, str) else "an index"
        raise InvalidArgument(
            f"target must be {what} of every batch, but {name!r} is none of {outline(batch)}"
        )
    return found


def _returned(batch: Batch, target: Callable[[Any], Any]) -> Place:
    """Where the part lies that the function returns."""
    part = target(batch)
    steps = next((steps for steps, one in _parts(batch, ()) if one is part), None)
    if not steps:
        raise InvalidArgument(
            "target(batch) must return a part of the batch as it is, not one that it makes, but "
            f"got {outline(part)} from {outline(batch)}"
        )
    return Place(steps)


def _parts(part: Any, steps: tuple[_Step, ...]) -> Iterator[tuple[tuple[_Step, ...], Any]]:  # noqa: ANN401
    """The part and what is in it, each with the steps to it."""
    yield steps, part
    if len(steps) == _DEEPEST or isinstance(part, Tensor | np.ndarray | str | bytes):
        return
    for step in _steps_into(part):
        yield from _parts(step.of(part), (*steps, step))


def _steps_into(part: Any) -> list[_Step]:  # noqa: ANN401
    if isinstance(part, Mapping):
        return [_Step(key, is_item=True) for key in cast(Mapping[Any, Any], part)]
    if isinstance(part, tuple | list):
        return [_Step(k, is_item=True) for k in range(len(cast(Sequence[Any], part)))]
    if is_dataclass(part) and not isinstance(part, type):
        return [_Step(field.name, is_item=False) for field in fields(part)]
    if hasattr(part, "__dict__") and not callable(part):
        return [_Step(name, is_item=False) for name in vars(part)]
    return []
