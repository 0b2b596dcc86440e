"""A Task from a LightningModule, its data, and the settings of a Trainer.

Every run trains a copy of the module by its own `training_step` and `validation_step`, with what
`configure_optimizers` builds. Metrics are what `validation_step` logs, as means over batches. What
a step needs of a Trainer is in `lightning_steps.py`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.adapters.lengths import (
    batches_if_known,
    batches_of,
    updates_per_epoch,
    whole_epochs,
)
from lrfinder.tasks.adapters.lightning_steps import (
    LOSS_NAMES,
    Length,
    StandInTrainer,
    Steps,
    attached,
    check_logged,
    uses_batch_index,
)
from lrfinder.tasks.adapters.measured import measured_by
from lrfinder.tasks.adapters.optimizers import baseline_of, with_lr
from lrfinder.tasks.data.sources import first_of_subset
from lrfinder.tasks.fields.baseline import Baseline
from lrfinder.tasks.fields.task_checks import fitting_name
from lrfinder.tasks.state.optimizer_copies import copied_model
from lrfinder.tasks.state.random_states import kept
from lrfinder.tasks.user_code import shortened, user_code
from lrfinder.types import Per

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
        train, valid = _loaders(module, datamodule, train_loader, valid_loader)
        if valid is not None and not _is_own(module, "validation_step"):
            raise InvalidArgument(
                "the module must have a validation_step where there are validation data, but it "
                "has none; write one that returns the loss"
            )
        accumulate, steps = settings["accumulate"], fields.get("steps_per_epoch")
        length, steps_per_epoch = _length(train, epochs, trainer, accumulate, steps)
        steps = Steps(length, trainer, valid is not None, valid_loss)
        names = _look_at_steps(pristine, steps, train, valid)
        optimizer, scheduler, per = configured(copied_model(pristine, {}), length, trainer)
        own = {"baseline": _baseline(optimizer, scheduler, per)} if "baseline" not in fields else {}

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
        if not _is_own(module, name):
            raise InvalidArgument(f"the module must have a {name}, but it has none; write one")
    if not cast(Any, module).automatic_optimization:
        raise InvalidArgument(
            "the module must be optimized automatically, but it sets automatic_optimization = "
            "False; drive its Trainer.fit as a training loop of your own: lrfinder.Loop"
        )
    for name in _SHAPES_THE_UPDATE:
        if _is_own(module, name):
            raise InvalidArgument(
                f"the module must leave {name} to Lightning, but it has one of its own, which "
                "would not be called; write its updates as a training loop of your own"
            )


def _is_own(module: object, name: str) -> bool:
    """Whether a hook is the user's own, not Lightning's default."""
    owner = next(kind for kind in type(module).__mro__ if name in vars(kind))
    return not owner.__module__.startswith(("lightning.", "pytorch_lightning."))


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


def _loaders(module: Any, datamodule: Any, train: Any, valid: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Training and validation data: those given, or those of the data module or the module."""
    if datamodule is not None and (train is not None or valid is not None):
        raise InvalidArgument(
            "either datamodule or train_loader and valid_loader must be given, but got both"
        )
    source: Any = copy.copy(datamodule)  # setup keeps its data sets on the copy
    if source is not None:
        with user_code("setting up the data module"):
            source.prepare_data()
            source.setup("fit")
    elif train is None:
        source = module
    if source is not None:
        if not _is_own(source, "train_dataloader"):
            raise InvalidArgument(
                "training data must be given as datamodule or train_loader, but got neither"
            )
        with user_code("building the loaders"):
            train = source.train_dataloader()
            own_valid = _is_own(source, "val_dataloader")
            valid = source.val_dataloader() if own_valid and valid is None else valid
    if isinstance(valid, Sequence) and not isinstance(valid, str):
        loaders = cast("Sequence[Any]", valid)
        if len(loaders) > 1:
            raise InvalidArgument(
                f"there must be one validation loader, but got {len(loaders)}; "
                "give the one to compare by as valid_loader, with train_loader"
            )
        valid = loaders[0] if loaders else None
    return train, valid


def _length(
    train: Any,  # noqa: ANN401
    epochs: int | None,
    trainer: Any,  # noqa: ANN401
    accumulate: int,
    steps: int | None,
) -> tuple[Length, int | None]:
    """Length of the training, and the updates of an epoch where they are not all of the loader.

    Args: `steps`, the updates of an epoch that the caller gives.
    """
    limit = 1.0 if trainer is None else trainer.limit_train_batches
    whole = batches_if_known(train, "the training data")
    if steps is not None:
        batches = steps * accumulate
    elif isinstance(limit, int):
        batches = limit if whole is None else min(whole, limit)
    else:
        cure = "give steps_per_epoch=..., or Trainer(limit_train_batches=...)"
        whole = batches_of(train, "the training data", cure)
        batches = max(1, int(whole * limit))
    per_epoch = updates_per_epoch(batches, accumulate)
    steps = None if batches == whole else per_epoch
    if epochs is None and trainer is not None:
        if trainer.max_steps > 0:
            epochs, steps = whole_epochs(trainer.max_steps, per_epoch)
        elif trainer.max_epochs and trainer.max_epochs > 0:
            epochs = trainer.max_epochs
    if epochs is None:
        raise InvalidArgument(
            "the length of the training must be known, but got neither epochs nor a Trainer with "
            "max_epochs; give epochs=..."
        )
    if steps is not None:
        batches = steps * accumulate
    return Length(epochs, batches, accumulate), steps


def configured(
    module: Any,  # noqa: ANN401 (a LightningModule)
    length: Length,
    trainer: Any,  # noqa: ANN401 (a Trainer)
) -> tuple[Optimizer, LRScheduler | None, Per]:
    """What `configure_optimizers` builds: the optimizer, its scheduler, and when that is stepped.

    InvalidArgument where it is more than one optimizer, or a scheduler that skips steps.
    """
    with attached(module, StandInTrainer(length, trainer)):
        made = module.configure_optimizers()
    optimizers, schedulers = _parts(made)
    if len(optimizers) != 1 or not isinstance(optimizers[0], Optimizer):
        raise InvalidArgument(
            "configure_optimizers must return one torch optimizer, but got "
            f"{len(optimizers) or 'none'}; write several as a training loop of your own"
        )
    if not schedulers:
        return optimizers[0], None, "epoch"
    first: Any = schedulers[0]
    config = cast("dict[str, Any]", first) if isinstance(first, dict) else {"scheduler": first}
    if len(schedulers) > 1 or config.get("frequency", 1) != 1:
        raise InvalidArgument(
            "configure_optimizers must return one scheduler that is stepped every epoch or step, "
            "but got several or a frequency; give baseline=None to leave it out of the comparison"
        )
    per = "batch" if config.get("interval", "epoch") == "step" else "epoch"
    return optimizers[0], config["scheduler"], per


def _parts(made: Any) -> tuple[list[Any], list[Any]]:  # noqa: ANN401 (whatever was returned)
    """Optimizers and schedulers in the forms that Lightning takes."""
    if isinstance(made, Optimizer):
        return [made], []
    if isinstance(made, dict):
        one = cast("dict[str, Any]", made)
        scheduler = one.get("lr_scheduler")
        return [one.get("optimizer")], [] if scheduler is None else [scheduler]
    if isinstance(made, tuple | list):
        parts = list(cast("Sequence[Any]", made))
        if len(parts) == 2 and isinstance(parts[0], list):
            schedulers = parts[1] if isinstance(parts[1], list) else [parts[1]]
            return cast("list[Any]", parts[0]), cast("list[Any]", schedulers)
        found = [_parts(part) for part in parts]
        return [o for own, _ in found for o in own], [s for _, own in found for s in own]
    return [], []


def _baseline(optimizer: Optimizer, scheduler: LRScheduler | None, per: Per) -> Baseline | None:
    if scheduler is not None and not isinstance(scheduler, LRScheduler):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(
            "the scheduler of configure_optimizers must be a torch LRScheduler, but got a "
            f"{type(scheduler).__name__}; give baseline=None to leave it out of the comparison"
        )
    return baseline_of(optimizer, scheduler, per)


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
