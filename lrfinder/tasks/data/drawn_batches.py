"""Batches that a function draws, one at each call, as step-based programs make them.

``get_batch()`` has no end and no epochs, so a training is as long as it is said to be in updates.
It draws from the random states of the run's seed, like any other data.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch.utils.data import DataLoader, IterableDataset

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.loaders import Data

Draw = Callable[[], Any]


class DrawnBatches(IterableDataset[Any]):
    """What a function returns: without end, or so many batches."""

    def __init__(self, draw: Draw, count: int | None) -> None:
        super().__init__()
        self.draw, self.count = draw, count

    def __iter__(self) -> Iterator[Batch]:
        """Yield a batch per call."""
        drawn = 0
        while self.count is None or drawn < self.count:
            yield self.draw()
            drawn += 1

    def __len__(self) -> int:
        """Return how many batches there are; TypeError where they have no end."""
        if self.count is None:
            raise TypeError("batches without an end have no length")
        return self.count


def data_or_drawn(
    names: tuple[str, str], data: Data | None, draw: Draw | None, count: int | None = None
) -> Data | None:
    """The data that are given, or a loader of what a function draws.

    Raises InvalidArgument, by the names of the two fields, where both are given, or the function
    cannot be called without arguments.
    """
    if draw is None:
        return data
    if data is not None:
        dataset = cast(Any, data).dataset if isinstance(data, DataLoader) else None
        if isinstance(dataset, DrawnBatches) and (dataset.draw, dataset.count) == (draw, count):
            return data
        if not isinstance(dataset, DrawnBatches):
            raise InvalidArgument(
                f"{names[0]} and {names[1]} exclude each other, but got both; give one of them"
            )
    _check_called_without_arguments(names[1], draw)
    return DataLoader(DrawnBatches(draw, count), batch_size=None, collate_fn=_as_it_came)


def _as_it_came(batch: Batch) -> Batch:
    return batch


def _check_called_without_arguments(name: str, draw: Any) -> None:  # noqa: ANN401 (whatever)
    if not callable(draw):
        raise InvalidArgument(
            f"{name} must be a function that returns a batch, but got a {type(draw).__name__}; "
            "a Dataset or a DataLoader goes into train or valid"
        )
    try:
        signature = inspect.signature(draw)
    except (TypeError, ValueError):  # a builtin may have none
        return
    try:
        signature.bind()
    except TypeError as error:
        wanted = ", ".join(signature.parameters)
        raise InvalidArgument(
            f"{name} must be a function without arguments, but got one of ({wanted}); write "
            f'{name}=lambda: get_batch("train"), say'
        ) from error
