"""How long a framework trains, as whole epochs."""

from typing import Any

from torch.utils.data import DataLoader

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.loaders import loader_length


def updates_per_epoch(batches: int, accumulate: int) -> int:
    """Optimizer steps of an epoch; the last one may have fewer batches."""
    return -(-batches // accumulate)


def whole_epochs(updates: int, per_epoch: int) -> tuple[int, int | None]:
    """Epochs that make so many updates, and the updates of each where it is not `per_epoch`.

    >>> whole_epochs(300, 100), whole_epochs(250, 100), whole_epochs(40, 100)
    ((3, None), (2, 125), (1, 40))
    """
    epochs = max(1, updates // per_epoch)
    steps = -(-updates // epochs)
    return epochs, None if steps == per_epoch else steps


def batches_of(loader: Any, whose: str, cure: str) -> int:  # noqa: ANN401 (whatever was given)
    """Batches of a training loader.

    InvalidArgument where it is none, or has no length; `cure` says what tells it.
    """
    length = batches_if_known(loader, whose)
    if length is None:
        raise InvalidArgument(
            f"{whose} must give a DataLoader with a length, but gave one of unknown length; {cure}"
        )
    return length


def batches_if_known(loader: Any, whose: str) -> int | None:  # noqa: ANN401
    """Batches of a training loader; None of one over a stream, InvalidArgument of what is none."""
    if not isinstance(loader, DataLoader):
        raise InvalidArgument(
            f"{whose} must give a torch DataLoader for training, but gave a {type(loader).__name__}"
        )
    length = loader_length(loader)
    if length == 0:
        raise InvalidArgument(
            f"{whose} must give a DataLoader with a batch at least, but gave one of no batches"
        )
    return length
