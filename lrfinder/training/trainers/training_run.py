"""One run of the sequential trainer: its model, its optimizer, and how an update is made."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.measures import Measures, check_has_gradient
from lrfinder.tasks.state.optimizer_copies import copied
from lrfinder.tasks.state.random_states import Stream
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.building import NEEDS_CLOSURE


@dataclass
class TrainingRun:
    """One run: what it trains, and where it stands."""

    seed: int
    model: nn.Module
    measures: Measures
    optimizer: Optimizer
    random: Stream
    update: int = 0
    broken: bool = False
    """A loss was not finite; the run is trained no further."""
    last: list[Batch] | None = None
    """Micro-batches of the last update."""
    raised: str | None = None
    """What the task raised, where the run has diverged by it."""
    scaler: GradScaler | None = None
    """What scales the loss, where the task trains in float16."""
    control: bool = False
    """Whatever the task raises is raised."""

    def copy(self) -> "TrainingRun":
        """An independent run that stands where this one does."""
        model, optimizer = copied(self.model, self.optimizer)
        return replace(
            self,
            model=model,
            measures=self.measures.copy(),
            optimizer=optimizer,
            random=self.random.copy(),
            scaler=self._copied_scaler(),
        )

    def _copied_scaler(self) -> GradScaler | None:
        if self.scaler is None:
            return None
        twin = GradScaler(self.measures.device.type)
        twin.load_state_dict(self.scaler.state_dict())
        return twin

    @property
    def modules(self) -> list[nn.Module]:
        """The model, and what of the measures are Modules."""
        return [self.model, *self.measures.modules.values()]


def make_update(
    task: Task, run: TrainingRun, micro_batches: list[Batch], lrs: NDArray[np.float64]
) -> float:
    """Train the run by one update of its micro-batches, at the lrs of its groups; the mean loss.

    A loss that is not finite breaks the run, before anything is changed by it.
    """
    run.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for batch in micro_batches:
        loss = run.measures.loss(run.model, batch)
        check_has_gradient(loss)
        loss = loss / len(micro_batches)
        (loss if run.scaler is None else run.scaler.scale(loss)).backward()
        total += loss.item()
    run.broken = not np.isfinite(total)
    if run.broken:
        return total
    if task.clip_norm is not None:
        if run.scaler is not None:
            run.scaler.unscale_(run.optimizer)
        nn.utils.clip_grad_norm_(run.model.parameters(), task.clip_norm)
    for group, lr in zip(run.optimizer.param_groups, lrs.tolist(), strict=True):
        group["lr"] = lr
    if run.update == 1:
        _check_gradients(run.optimizer)
    try:
        _step(run)
    except Exception as error:
        if run.update == 1 and _wants_closure(error):
            name = type(run.optimizer).__name__
            raise InvalidArgument(NEEDS_CLOSURE.format(name=name)) from error
        raise
    return total


def _step(run: TrainingRun) -> None:
    if run.scaler is None:
        run.optimizer.step()
        return
    run.scaler.step(run.optimizer)  # unless a gradient is not finite
    run.scaler.update()


def _check_gradients(optimizer: Optimizer) -> None:
    """Refuse a loss that does not depend on what the optimizer trains."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if all(p.grad is None for p in held):
        raise InvalidArgument(
            "no parameter of the optimizer gets a gradient; the loss must use the model that it is "
            "given, and the optimizer must hold its parameters"
        )


def _wants_closure(error: Exception) -> bool:
    """Whether a step failed for want of a closure, which SAM and others ask for at run time."""
    called_none = isinstance(error, TypeError) and "NoneType" in str(error)
    return "closure" in str(error).lower() or (called_none and "callable" in str(error))
