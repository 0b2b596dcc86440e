"""The data of a LightningModule, and how long it is trained on them."""

import copy
from collections.abc import Sequence
from typing import Any, cast

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.adapters.lengths import (
    batches_if_known,
    batches_of,
    updates_per_epoch,
    whole_epochs,
)
from lrfinder.tasks.adapters.lightning_steps import Length
from lrfinder.tasks.user_code import user_code


def loaders_of(module: Any, datamodule: Any, train: Any, valid: Any) -> tuple[Any, Any]:  # noqa: ANN401
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
        if not is_own(source, "train_dataloader"):
            raise InvalidArgument(
                "training data must be given as datamodule or train_loader, but got neither"
            )
        with user_code("building the loaders"):
            train = source.train_dataloader()
            own_valid = is_own(source, "val_dataloader")
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


def length_of(
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


def is_own(module: object, name: str) -> bool:
    """Whether a hook is the user's own, not Lightning's default."""
    owner = next(kind for kind in type(module).__mro__ if name in vars(kind))
    return not owner.__module__.startswith(("lightning.", "pytorch_lightning."))
