"""The steps of a LightningModule, run one batch at a time and without a Trainer.

A step asks its Trainer for little: what it logs goes there, and the epoch, the update and the
length of the training come from there. While a step runs, a `StandInTrainer` answers, and what is
logged is taken down. Afterwards the module has no Trainer, as before.

The epoch and the update are counted on the module itself, so that a copy goes on from where it was
copied. Only a module that asks for them is counted: others stay without state, which lets runs be
trained together.
"""

import dis
import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch, outline

_DONE = "_lrfinder_batches"
"""Attribute of a module: training batches that it has seen."""
LOSS_NAMES = ("val_loss", "valid_loss", "validation_loss", "val/loss", "valid/loss", "loss")
"""What a validation step that returns nothing may call its loss."""


@dataclass(frozen=True)
class Length:
    """How long the training is."""

    epochs: int
    batches: int
    """Training batches of an epoch."""
    accumulate: int

    @property
    def updates(self) -> int:
        """Optimizer steps of the whole training."""
        return -(-self.batches // self.accumulate) * self.epochs


@dataclass
class StandInTrainer:
    """What of a Trainer a module may ask while one of its hooks runs."""

    length: Length
    given: Any = None
    """The caller's Trainer, asked for what is not known here."""
    done: int = 0
    """Training batches that were trained."""
    asked: set[str] = field(default_factory=set[str])
    """Which of the counts were asked for."""
    training: bool = True

    logger = None
    loggers = ()
    is_global_zero = True
    world_size = num_devices = num_nodes = 1
    global_rank = local_rank = node_rank = 0
    sanity_checking = fast_dev_run = False

    @property
    def validating(self) -> bool:
        """Whether a validation step runs."""
        return not self.training

    @property
    def current_epoch(self) -> int:
        """Epoch of the batch, from 0."""
        self.asked.add("current_epoch")
        return self.done // self.length.batches

    @property
    def global_step(self) -> int:
        """Optimizer steps that were made."""
        self.asked.add("global_step")
        epochs, batches = divmod(self.done, self.length.batches)
        per_epoch = self.length.updates // self.length.epochs
        return epochs * per_epoch + batches // self.length.accumulate

    @property
    def max_epochs(self) -> int:
        """Epochs of the training."""
        return self.length.epochs

    @property
    def max_steps(self) -> int:
        """Optimizer steps of the training."""
        return self.length.updates

    @property
    def estimated_stepping_batches(self) -> int:
        """Optimizer steps of the training."""
        return self.length.updates

    @property
    def num_training_batches(self) -> int:
        """Training batches of an epoch."""
        return self.length.batches

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches of an optimizer step."""
        return self.length.accumulate

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (an attribute of a Trainer)
        given = vars(self).get("given")
        if given is None or name.startswith("__"):
            raise AttributeError(
                f"the module asks its Trainer for {name}, which is not known here; "
                "give Task.from_lightning(trainer=...)"
            )
        return getattr(given, name)


@contextmanager
def attached(module: nn.Module, trainer: StandInTrainer) -> Generator[dict[str, Any]]:
    """Let the module ask this trainer inside the block; yields what it logs, by name."""
    logged: dict[str, Any] = {}

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401 (as Lightning's)
        logged[name] = value

    def log_dict(values: Mapping[str, Any], *_: Any, **__: Any) -> None:  # noqa: ANN401
        logged.update(values)

    modules = [part for part in module.modules() if hasattr(part, "_trainer")]
    before = [vars(part)["_trainer"] for part in modules]
    for part in modules:
        vars(part).update(_trainer=trainer, log=log, log_dict=log_dict)
    try:
        yield logged
    finally:
        for part, was in zip(modules, before, strict=True):
            vars(part)["_trainer"] = was
            del vars(part)["log"], vars(part)["log_dict"]


@dataclass
class Steps:
    """The loss of a batch and what is logged for it, by the module's own steps."""

    length: Length
    given: Any
    """The caller's Trainer, or None."""
    validates: bool
    """Whether evaluation is by `validation_step`; else it is by `training_step`."""
    valid_loss: str | None = None
    """The logged value that is the validation loss; None takes what the step returns."""
    counts: bool = False
    """Whether training batches are counted."""

    def __call__(self, module: Any, batch: Batch) -> dict[str, Any]:  # noqa: ANN401
        """Return "loss" and what the step logs for the batch, training or evaluating.

        A module in eval mode is validated.
        """
        trains = module.training or not self.validates
        done = vars(module).get(_DONE, 0)
        trainer = StandInTrainer(self.length, self.given, done, training=trains)
        found = self.run(module, batch, trainer)
        if self.counts and module.training:
            setattr(module, _DONE, done + 1)
        return found

    def run(self, module: Any, batch: Batch, trainer: StandInTrainer) -> dict[str, Any]:  # noqa: ANN401
        """Run one step under a trainer, which then tells what was asked for."""
        metrics = [part for part in module.modules() if _is_metric(part)]
        for metric in metrics:
            metric.reset()
        with attached(module, trainer) as logged:
            batch = module.on_before_batch_transfer(batch, 0)
            batch = module.on_after_batch_transfer(batch, 0)
            step = module.training_step if trainer.training else module.validation_step
            index = trainer.done % self.length.batches if trainer.training else 0
            returned = step(**_arguments(step, batch, index))
            values = {name: _value(value) for name, value in logged.items()}
        return values | {"loss": self._loss(returned, values, training=trainer.training)}

    def _loss(self, returned: Any, logged: Mapping[str, Any], *, training: bool) -> Any:  # noqa: ANN401
        """The loss of a step: what it returns, or of a validation step what it logs."""
        if not training and self.valid_loss is not None:
            return logged.get(self.valid_loss)
        if isinstance(returned, Mapping):
            returned = returned.get("loss", returned)
        if training or isinstance(returned, Tensor):
            return returned
        return next((logged[name] for name in LOSS_NAMES if name in logged), None)


def _arguments(step: Callable[..., Any], batch: Batch, index: int) -> dict[str, Any]:
    """The batch, and its number where the step takes it, as Lightning passes them."""
    names = list(inspect.signature(step).parameters)
    given = {names[0]: batch}
    if "batch_idx" in names:
        given["batch_idx"] = index
    elif len(names) > 1 and names[1] != "dataloader_idx":
        given[names[1]] = index
    return given


def _value(value: Any) -> Any:  # noqa: ANN401 (whatever was logged)
    """The number that was logged; of a metric object its value for this batch."""
    return value.compute() if _is_metric(value) else value


def _is_metric(part: object) -> bool:
    """Whether it is a metric of torchmetrics, which gathers batches until it is reset."""
    return all(hasattr(part, name) for name in ("reset", "update", "compute"))


def uses_batch_index(module: Any) -> bool:  # noqa: ANN401 (a LightningModule)
    """Whether `training_step` reads the number of its batch."""
    step = module.training_step
    names = [*inspect.signature(step).parameters][1:]
    code = getattr(inspect.unwrap(step), "__code__", None)
    if code is None or not names:
        return bool(names)
    return any(
        one.opname.startswith("LOAD") and one.argval in names for one in dis.get_instructions(code)
    )


def check_logged(found: Mapping[str, Any], wanted: str | None) -> None:
    """Raise InvalidArgument where a validation step gives no loss."""
    names = ", ".join(name for name in found if name != "loss") or "nothing"
    if wanted is not None and wanted not in found:
        raise InvalidArgument(
            f"valid_loss must be a name that validation_step logs, but got {wanted!r} "
            f"and it logs {names}"
        )
    if found["loss"] is None:
        cure = "return it there" if names == "nothing" else "name it with valid_loss='...'"
        raise InvalidArgument(
            "validation_step must return the loss or log it as val_loss, but it logs "
            f"{names}; {cure}"
        )
    if not isinstance(found["loss"], Tensor | int | float):
        raise InvalidArgument(
            f"validation_step must return the loss or log it, but returned {outline(found['loss'])}"
        )
