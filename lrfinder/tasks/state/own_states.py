"""Random states that data keep for themselves, found and swapped in and out like the global ones.

A data set, sampler or collate function may draw from a generator of its own: torch.Generator,
NumPy's Generator or RandomState, random.Random (`own_generators.py` finds them). While lrfinder
draws from them they stand where (seed, epoch) puts them; afterwards they stand where their owner
left them.

So does what `set_epoch` changes. A sampler that has it draws a new order for each number that it is
given, and the same order for ever if nobody calls it.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.tasks.state.held_objects import attribute
from lrfinder.tasks.state.own_generators import GeneratorState, find_generators
from lrfinder.tasks.state.random_states import Stream, derive

_MOST_PARTS = 20
"""Samplers and data sets inside each other."""
_EPOCHS = 2**31
"""Numbers given to set_epoch lie below: they are added to seeds, which NumPy wants below 2**32."""


class _State(Protocol):
    """Something of the user's that has a state."""

    def get(self) -> Any:  # noqa: ANN401 (a state of any kind)
        ...

    def set(self, state: Any) -> None:  # noqa: ANN401
        ...


class OwnStates:
    """The random states of a loader and of its parts while one iteration draws from them."""

    def __init__(self, loader: DataLoader[Any], seed: int, *, set_epoch: bool) -> None:
        """Put them where the seed says, by `set_epoch` too where it is asked for and there is one.

        The states that the owner sees do not move.
        """
        self._stream = Stream(seed)
        states = _of_generators(find_generators(loader))
        outside = [state.get() for state in states]
        changed: list[tuple[_OfAttribute, Any]] = []
        try:
            if set_epoch:
                with self._stream.active():
                    changed = _tell_epoch(loader, seed % _EPOCHS)
                known = {id(state.generator) for state in states}
                made = [g for g in find_generators(loader) if id(g) not in known]
                states += _of_generators(made)
                outside += [state.get() for state in states[len(outside) :]]
            for k, state in enumerate(states):
                state.seed(seed if k == 0 else derive(seed, "generator", k))
            self._states: list[_State] = [*states, *(state for state, _ in changed)]
            self._inside = [state.get() for state in self._states]
        finally:
            _put(
                [*states, *(state for state, _ in changed)],
                [*outside, *(old for _, old in changed)],
            )

    @contextmanager
    def active(self) -> Generator[None]:
        """Draw from these states inside the block; the owner's come back afterwards."""
        outside = [state.get() for state in self._states]
        _put(self._states, self._inside)
        try:
            with self._stream.active():
                yield
        finally:
            self._inside = [state.get() for state in self._states]
            _put(self._states, outside)


class _OfAttribute:
    """What an object holds under a name, or _MISSING."""

    def __init__(self, owner: object, name: str) -> None:
        self._owner, self._name = owner, name

    def get(self) -> Any:  # noqa: ANN401
        return vars(self._owner).get(self._name, _MISSING)

    def set(self, state: Any) -> None:  # noqa: ANN401
        if state is _MISSING:
            vars(self._owner).pop(self._name, None)
        else:
            vars(self._owner)[self._name] = state


_MISSING = object()


def _of_generators(generators: list[Any]) -> list[GeneratorState]:
    return [GeneratorState(generator) for generator in generators]


def _put(states: Sequence[_State], values: Sequence[Any]) -> None:
    for state, value in zip(states, values, strict=True):
        state.set(value)


def _tell_epoch(loader: DataLoader[Any], number: int) -> list[tuple[_OfAttribute, Any]]:
    """Call `set_epoch`; returns the attributes that it changes, with what they were."""
    owners = [owner for _, owner in parts_of_loader(loader) if hasattr(owner, "__dict__")]
    before = [{name: (v, _number_in(v)) for name, v in vars(owner).items()} for owner in owners]
    for _, owner in parts_with_epochs(loader):
        owner.set_epoch(number)
    changed: list[tuple[_OfAttribute, Any]] = []
    for owner, was in zip(owners, before, strict=True):
        for name, value in list(vars(owner).items()):
            old, old_number = was.get(name, (_MISSING, None))
            if value is old and old_number is not None and not torch.equal(value, old_number):
                vars(owner)[name] = value.clone()  # another tensor: worker processes may share it
                value.copy_(old_number)
            if vars(owner)[name] is not old:
                changed.append((_OfAttribute(owner, name), old))
    return changed


def _number_in(value: Any) -> Tensor | None:  # noqa: ANN401
    """A copy of a tensor with one number, as some data sets keep their epoch in."""
    return value.clone() if isinstance(value, Tensor) and value.dim() == 0 else None


def parts_of_loader(loader: DataLoader[Any]) -> list[tuple[str, Any]]:
    """A loader and its samplers, and its data set, each once, by their names inside the loader."""
    found: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any]] = [("", loader)]
    while waiting:
        name, part = waiting.pop(0)
        if part is None or any(part is other for _, other in found):
            continue
        found.append((name, part))
        if len(found) < _MOST_PARTS:
            inner = ("batch_sampler", "sampler", "dataset")
            waiting += [(f"{name}.{k}", v) for k in inner if (v := attribute(part, k)) is not None]
    return found


def parts_with_epochs(loader: DataLoader[Any]) -> list[tuple[str, Any]]:
    """Those of its parts whose class has a method `set_epoch`, by name: ".sampler"."""
    return [
        (name, part)
        for name, part in parts_of_loader(loader)
        if callable(getattr(type(part), "set_epoch", None))
    ]
