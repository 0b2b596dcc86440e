"""How long a framework trains, as whole epochs."""

from typing import Any

from torch.utils.data import DataLoader

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.loaders import loader_length


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


def batches_of(loader: Any, whose: str) -> int:  # noqa: ANN401 (whatever was given)
    """Batches of a training loader; InvalidArgument where it is none, or has no length."""
    if not isinstance(loader, DataLoader):
        raise InvalidArgument(
            f"{whose} must give a torch DataLoader for training, but gave a {type(loader).__name__}"
        )
    length = loader_length(loader)
    if not length:
        raise InvalidArgument(
            f"{whose} must give a DataLoader with a length, but gave one of "
            f"{'unknown length' if length is None else 'no batches'}"
        )
    return length
