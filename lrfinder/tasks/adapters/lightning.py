"""A Task from a LightningModule, its data, and the settings of a Trainer.

Every run trains a copy of the module by its own `training_step` and `validation_step`
(`lightning_steps.py`), on the loaders and for the length of `lightning_data.py`, with what
`configure_optimizers` builds (`lightning_optimizers.py`). Metrics are what `validation_step` logs,
as means over batches.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.adapters.lightning_data import is_own, length_of, loaders_of
from lrfinder.tasks.adapters.lightning_optimizers import baseline_in_use, configured
from lrfinder.tasks.adapters.lightning_steps import (
    LOSS_NAMES,
    StandInTrainer,
    Steps,
    check_logged,
    uses_batch_index,
)
from lrfinder.tasks.adapters.measured import measured_by
from lrfinder.tasks.adapters.optimizers import with_lr
from lrfinder.tasks.data.sources import first_of_subset
from lrfinder.tasks.fields.task_checks import fitting_name
from lrfinder.tasks.state.optimizer_copies import copied_model
from lrfinder.tasks.state.random_states import kept
from lrfinder.tasks.user_code import shortened, user_code

_SHAPES_THE_UPDATE = ("backward", "optimizer_step", "configure_gradient_clipping")
"""Hooks that a module may not have of its own: an update is made here as Lightning makes it."""
_AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16}


def fields_of(
    module: nn.Module,
    datamodule: Any,  # noqa: ANN401 (a LightningDataModule)
    train_loader: Any,  # noqa: ANN401 (a DataLoader, checked here)
    valid_loader: Any,  # noqa: ANN401
    epochs: int | None,
    trainer: Any,  # noqa: ANN401 (a Trainer)
    valid_loss: str | None,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of a Task; `fields` are those that the caller gives, which are left out.

    Raises InvalidArgument where the module, its data or the Trainer's settings cannot be used.
    """
    module = _uncompiled(module)
    _check(module)
    settings = _settings(trainer)
    with kept():
        pristine = _pristine(module)
        train, valid = loaders_of(module, datamodule, train_loader, valid_loader)
        if valid is not None and not is_own(module, "validation_step"):
            raise InvalidArgument(
                "the module must have a validation_step where there are validation data, but it "
                "has none; write one that returns the loss"
            )
        accumulate, steps = settings["accumulate"], fields.get("steps_per_epoch")
        length, steps_per_epoch = length_of(train, epochs, trainer, accumulate, steps)
        steps = Steps(length, trainer, valid is not None, valid_loss)
        names = _look_at_steps(pristine, steps, train, valid)
        optimizer, scheduler, per = configured(copied_model(pristine, {}), length, trainer)
        given = "baseline" in fields
        own = {} if given else {"baseline": baseline_in_use(optimizer, scheduler, per)}

    def make_optimizer(model: nn.Module, lr: float) -> Optimizer:
        return with_lr(configured(model, length, trainer)[0], lr)

    return {
        "model": lambda: copied_model(pristine, {}),
        "optimizer": make_optimizer,
        "train": train,
        "valid": valid,
        "epochs": length.epochs,
        "steps_per_epoch": steps_per_epoch,
        "code_for": "lightning",
        "name": fitting_name(type(module).__name__),
        **settings,
        **measured_by(steps, names),
        **own,
    }


def _uncompiled(module: nn.Module) -> nn.Module:
    """The module inside of what torch.compile makes of it, which copies of it are trained as."""
    return getattr(module, "_orig_mod", module)


def _check(module: Any) -> None:  # noqa: ANN401 (whatever was given)
    """Refuse what is no LightningModule, or one that makes its updates itself."""
    needed = ("training_step", "configure_optimizers", "automatic_optimization")
    if not isinstance(module, nn.Module) or not all(hasattr(module, name) for name in needed):
        raise InvalidArgument(
            f"module must be a LightningModule, but got a {type(module).__name__}; "
            "use Task.from_objects for a plain torch module"
        )
    for name in ("training_step", "configure_optimizers"):
        if not is_own(module, name):
            raise InvalidArgument(f"the module must have a {name}, but it has none; write one")
    if not cast(Any, module).automatic_optimization:
        raise InvalidArgument(
            "the module must be optimized automatically, but it sets automatic_optimization = "
            "False; drive its Trainer.fit as a training loop of your own: lrfinder.Loop"
        )
    for name in _SHAPES_THE_UPDATE:
        if is_own(module, name):
            raise InvalidArgument(
                f"the module must leave {name} to Lightning, but it has one of its own, which "
                "would not be called; write its updates as a training loop of your own"
            )


def _settings(trainer: Any) -> dict[str, Any]:  # noqa: ANN401 (a Trainer)
    """Clipping, accumulation and precision of a Trainer, as fields of a Task."""
    if trainer is None:
        return {"accumulate": 1}
    algorithm = trainer.gradient_clip_algorithm
    if trainer.gradient_clip_val and getattr(algorithm, "value", algorithm) == "value":
        raise InvalidArgument(
            "the Trainer must clip by norm, but got gradient_clip_algorithm='value'; use 'norm'"
        )
    if trainer.precision not in _AUTOCAST:
        raise InvalidArgument(
            f"the Trainer's precision must be '32-true' or 'bf16-mixed', but got "
            f"{trainer.precision!r}; give a Trainer with one of these"
        )
    return {
        "accumulate": trainer.accumulate_grad_batches,
        "clip_norm": trainer.gradient_clip_val or None,
        "autocast": _AUTOCAST[trainer.precision],
    }


def _pristine(module: nn.Module) -> nn.Module:
    """A copy of the module as training begins: set up, in train mode."""
    try:
        pristine: Any = copied_model(module, {})
    except Exception as error:
        raise InvalidArgument(
            f"the module must be copyable, but copy.deepcopy raised {shortened(str(error))}; "
            "build what cannot be copied in setup()"
        ) from error
    if vars(module).get("_trainer") is None:
        with user_code("setting up the module"):
            pristine.setup("fit")
            pristine.configure_model()
    if not pristine.training:
        pristine.train()
    return pristine


def _look_at_steps(
    pristine: nn.Module,
    steps: Steps,
    train: Any,  # noqa: ANN401 (a DataLoader)
    valid: Any,  # noqa: ANN401
) -> dict[str, str]:
    """Run both steps once on copies: names of the metrics, and what is logged for each.

    Notes in `steps` whether the module counts its batches.
    """
    steps.counts = uses_batch_index(pristine)
    device = next((p.device for p in pristine.parameters()), torch.device("cpu"))
    names: dict[str, str] = {}
    for data, training in ((train, True), (valid, False)):
        if data is None:
            continue
        trainer = StandInTrainer(steps.length, steps.given, training=training)
        with user_code("reading the data"):
            batch = first_of_subset(data, 1, device)
        with user_code("running a step of the module"), torch.set_grad_enabled(training):
            model = copied_model(pristine, {})
            model.train(training)
            found = steps.run(model, batch, trainer)
        steps.counts |= bool(trainer.asked)
        if not training:
            check_logged(found, steps.valid_loss)
            used = {steps.valid_loss, *LOSS_NAMES}
            names = {
                fitting_name(n): n for n, v in found.items() if _is_number(v) and n not in used
            }
    return names


def _is_number(value: Any) -> bool:  # noqa: ANN401 (whatever was logged)
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
