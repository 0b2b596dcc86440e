"""The recorded steps of a task: when one is recorded, and when it serves.

A program records its first step, and others on batches of that form. With one run, and with the
first three other numbers of runs, the recorded operations are carried out beside the plain step;
they serve from then on if the two differ by no more than rounding. What a run gives does not depend
on what was trained before it.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from lrfinder.tasks.data.batches import Batch, map_leaves
from lrfinder.tasks.fields.measures import Measures, forward_of_pair
from lrfinder.tasks.state.random_states import Stream, kept
from lrfinder.training.batched.module_state import Attributes
from lrfinder.training.batched.replay.agreement import agree
from lrfinder.training.batched.replay.pure import Watch, watch_pure
from lrfinder.training.batched.replay.recording import Operations, record

_CHECKS = 3
"""Numbers of runs, but for 1, with which it must have given what the plain step gave."""


@dataclass(frozen=True)
class Step:
    """What the losses and gradients of all runs are computed from."""

    leaves: list[Tensor]
    """Parameters that get a gradient, [runs, ...]."""
    fixed: list[Tensor]
    """Other parameters, [runs, ...]."""
    buffers: list[Tensor]
    """[runs, ...]"""
    batch: Batch
    batched: bool
    """Whether each tensor of the batch has a row for every run."""
    parts: int
    """Micro-batches of the update."""

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.leaves[0])

    def form(self) -> Hashable | None:
        """Structure and shapes of a run's batch; None where it holds anything but tensors.

        And where it is of a class of its own, whose methods may do anything.
        """
        if not all(map(_is_dense, self._of_batch())) or not _is_of_builtins(self.batch):
            return None
        return _form(self.batch, int(self.batched))

    def layout(self) -> Hashable:
        """What its operations depend on beside the batch and the number of runs."""
        return (
            self.batched,
            self.parts,
            *(tuple(t.stride()[1:] for t in own) for own in self._stacked()),
        )

    def tensors(self) -> list[Tensor]:
        """All its tensors, one after another."""
        return [*self.leaves, *self.fixed, *self.buffers, *self._of_batch()]

    def _stacked(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self.leaves, self.fixed, self.buffers

    def _of_batch(self) -> list[Any]:
        """What its batch holds: tensors, where it is of a kind."""
        found: list[Any] = []
        map_leaves(found.append, self.batch)
        return found

    def of(self, tensors: Sequence[Tensor]) -> "Step":
        """The same of other tensors."""
        rest = iter(tensors)
        leaves, fixed, buffers = ([next(rest) for _ in own] for own in self._stacked())

        def following(_: Tensor) -> Tensor:
            return next(rest)

        batch = map_leaves(following, self.batch)
        return replace(self, leaves=leaves, fixed=fixed, buffers=buffers, batch=batch)

    def copy(self) -> "Step":
        """The same on tensors of its own, but for the batch."""
        leaves, fixed, buffers = ([t.detach().clone() for t in own] for own in self._stacked())
        return replace(self, leaves=leaves, fixed=fixed, buffers=buffers)

    def become(self, other: "Step") -> None:
        """Put the numbers of another step into this one's tensors: a forward may change them."""
        with torch.no_grad():
            for own, others in zip(self._stacked(), other._stacked(), strict=True):
                for tensor, new in zip(own, others, strict=True):
                    tensor.copy_(new)

    def repeated(self, runs: int) -> "Step":
        """The step of its first run, so many times, on tensors of its own."""
        place = [0] * runs
        leaves = [_apart(t, runs) for t in self.leaves]
        fixed, buffers = ([t.detach()[place] for t in own] for own in (self.fixed, self.buffers))

        def of_batch(tensor: Tensor) -> Tensor:
            return tensor[place] if self.batched else tensor

        batch = map_leaves(of_batch, self.batch)
        return replace(self, leaves=leaves, fixed=fixed, buffers=buffers, batch=batch)


@dataclass(frozen=True)
class Computed:
    """What a step gives."""

    losses: Tensor
    """[runs]"""
    gradients: list[Tensor]
    """Of the leaves, [runs, ...]."""
    moved: dict[int, Tensor]
    """Buffers that the model put in the place of its own, by their place."""

    def tensors(self) -> list[Tensor]:
        """All its tensors, one after another."""
        return [self.losses, *self.gradients, *self.moved.values()]


@dataclass
class _Recording:
    """What is known of a kind of step."""

    operations: Operations | None = None
    moved: tuple[int, ...] = ()
    """Places of the buffers that it puts in the place of others."""
    serves: dict[int, bool] = field(default_factory=dict[int, bool])
    """Whether the operations give what the plain step gives, by the number of runs."""

    def serving(self, runs: int) -> bool | None:
        """Whether the operations serve so many runs; None where that is to be seen.

        One run, and sizes that are 1 by it, are a case of their own.
        """
        several = [serves for count, serves in self.serves.items() if count > 1]
        if runs > 1 and len(several) >= _CHECKS and all(several):
            return True
        return self.serves.get(runs)

    def carry_out(self, step: Step) -> Computed:
        """What the step gives, by its operations."""
        if self.operations is None:
            raise ValueError("nothing was recorded")
        with torch.no_grad():
            losses, *rest = self.operations(*step.tensors(), step.runs)
        gradients, moved = rest[: len(step.leaves)], rest[len(step.leaves) :]
        return Computed(losses, gradients, dict(zip(self.moved, moved, strict=True)))


class Recordings:
    """What was recorded of a task, and what that depends on."""

    def __init__(self) -> None:
        self.by_kind: dict[Hashable, _Recording] = {}
        self._attributes: list[Attributes] = []
        self._watch: Watch | None = None

    def hold(self, modules: Sequence[nn.Module], watch: Watch) -> bool:
        """Whether what is recorded holds for these modules too, and for what they read now."""
        if self._watch is None:
            self._watch = watch
            self._attributes = [Attributes(m, tensors=m is not modules[0]) for m in modules]
        pairs = zip(self._attributes, modules, strict=True)
        return self._watch.unchanged() and all(a.difference(m) is None for a, m in pairs)


class Replay:
    """Computes the steps of one program: plainly, or by what was recorded where that serves."""

    def __init__(
        self,
        recordings: Recordings,
        plainly: Callable[[Step], Computed],
        model: nn.Module,
        measures: Measures,
    ) -> None:
        self._by_kind, self._plainly = recordings.by_kind, plainly
        self._form: Hashable | None = None
        loss, forward = measures.by_name["loss"], measures.forward
        functions = [f for f in (loss, forward) if f not in (None, forward_of_pair)]
        modules = [model, *(f for f in (loss,) if isinstance(f, nn.Module))]
        self._watch = watch_pure(functions, [m for module in modules for m in module.modules()])
        if self._watch is not None and not recordings.hold(modules, self._watch):
            self._watch = None

    def compute(self, step: Step) -> Computed:
        """What the step gives."""
        known = self._known(step)
        if known is None or known.operations is None:
            return self._plainly(step)
        serves = known.serving(step.runs)
        if serves is None:
            return self._beside(known, step)
        return known.carry_out(step) if serves else self._plainly(step)

    def _known(self, step: Step) -> _Recording | None:
        """What is known of a step of its kind; None where none is recorded."""
        if self._watch is None or not self._watch.unchanged():
            self._watch = None
            return None
        form = step.form()
        self._form = form if self._form is None else self._form
        if form is None or form != self._form:
            return None
        kind = step.layout(), form
        known = self._by_kind.get(kind)
        if known is None:
            known = self._by_kind[kind] = self._recorded(step)
        return known

    def _recorded(self, step: Step) -> _Recording:
        """The operations of a step, or none where it cannot be recorded."""
        made = _Recording()

        def operations(*tensors: Tensor) -> list[Tensor]:
            computed = self._plainly(step.of(tensors))
            made.moved = tuple(computed.moved)
            return computed.tensors()

        with kept(step.leaves[0].device), suppress(Exception):
            made.operations = record(operations, lambda runs: step.repeated(runs).tensors())
        return made

    def _beside(self, known: _Recording, step: Step) -> Computed:
        """What the step gives by its operations, if the plain step beside it gives the same.

        And draws the same: code that sets a random state does not set it in what was recorded.
        """
        beside, device = step.copy(), step.leaves[0].device
        found: Computed | None = None
        drawn: Stream | None = None
        with kept(device), suppress(Exception):  # of a view, say, for one run
            found = known.carry_out(beside)
            drawn = Stream.now(device)
        computed = self._plainly(step)
        same_draws = drawn is not None and drawn.at(Stream.now(device))
        if (
            found is not None
            and same_draws
            and agree(_by_role(found, beside), _by_role(computed, step))
        ):
            known.serves[step.runs] = True
            step.become(beside)
            return found
        known.serves[step.runs] = False
        return computed


def _apart(leaf: Tensor, runs: int) -> Tensor:
    """The leaf of the first run so many times, with a gap behind each, as in flat parameters.

    What is recorded of it serves where there is no gap, too.
    """
    shape, strides = leaf.shape[1:], leaf.stride()[1:]
    gap = 2 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    lying = (runs, *shape), (gap, *strides)
    room = torch.empty_strided(*lying, dtype=leaf.dtype, device=leaf.device)
    return room.copy_(leaf.detach()[:1]).requires_grad_(leaf.requires_grad)


def _is_dense(leaf: object) -> bool:
    return type(leaf) in (Tensor, nn.Parameter) and cast("Tensor", leaf).layout is torch.strided


def _is_of_builtins(batch: Batch) -> bool:
    """Whether a batch of tensors is built of tuples, lists and dicts alone."""
    if isinstance(batch, Tensor):
        return True
    members = batch.values() if isinstance(batch, dict) else batch
    return type(batch) in (tuple, list, dict) and all(map(_is_of_builtins, members))


def _form(batch: Batch, first: int) -> Hashable:
    """The structure of a batch of tensors, and their shapes from a dimension on."""
    if isinstance(batch, Tensor):
        return batch.shape[first:], batch.dtype, batch.is_contiguous()
    if isinstance(batch, dict):
        pairs = cast("dict[Hashable, Batch]", batch).items()
        return tuple((key, _form(value, first)) for key, value in pairs)
    return type(batch), tuple(_form(part, first) for part in batch)


def _by_role(computed: Computed, step: Step) -> list[list[Tensor]]:
    """What a step gives, and what it leaves behind, in kinds of the same size of numbers."""
    moved = [*computed.moved.values(), *step.buffers]
    return [[computed.losses], computed.gradients, [*step.leaves, *step.fixed], moved]
