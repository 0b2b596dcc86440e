"""What the first batches of a task's data show before anything is trained on them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from lrfinder.tasks.data.batches import Batch, alike
from lrfinder.tasks.data.drawn_batches import DrawnBatches
from lrfinder.tasks.data.loaders import LoaderSource, Seen
from lrfinder.tasks.state.random_states import derive

_COMPARED = 2
"""Batches that are read twice."""
_MOST_READ, _MOST_SECONDS = 64, 0.5
"""Batches among which None is looked for."""


@dataclass(frozen=True)
class FirstBatches:
    """What the first training batches of a loader show."""

    same_order: bool
    """They are the same for two seeds."""
    repeatable: bool
    """They are the same when they are read again for the same seed."""
    seen: Seen
    """How many of them were None."""


def look_at(source: LoaderSource) -> FirstBatches:
    """Read the first batches for two seeds, and for one of them twice."""
    other = list(islice(source.cycle(derive(0, "order check", 1)), 1))
    before = replace(source.seen)
    first = _read(source.cycle(derive(0, "order check", 0)))
    seen = Seen(source.seen.batches - before.batches, source.seen.none - before.none)
    again = list(islice(source.cycle(derive(0, "order check", 0)), _COMPARED))
    return FirstBatches(
        same_order=source.batches > 1 and bool(first) and alike(first[:1], other),
        repeatable=alike(first, again),
        seen=seen,
    )


def _read(batches: Iterator[Batch]) -> list[Batch]:
    """Read some of the batches; returns the first two."""
    end = time.monotonic() + _MOST_SECONDS
    kept: list[Batch] = []
    for number, batch in enumerate(batches, start=1):
        if len(kept) < _COMPARED:
            kept.append(batch)
        elif number >= _MOST_READ or time.monotonic() > end:
            break
    return kept


NOT_REPEATABLE = (
    "the data give other rows when they are read again in the same order, so that results are not "
    "exactly repeatable (a random state out of reach; drawing from torch's, NumPy's or Python's "
    "global one, or from a generator kept as an attribute, mends it)"
)

OTHER_WEIGHTS = (
    "the model starts from other weights whenever it is built, for the same seed too, so that "
    "results are not repeatable (a random state out of reach; drawing from torch's, NumPy's or "
    "Python's global one mends it)"
)


_SHUFFLE = {
    "skorch": "iterator_train__shuffle=True in the net",
    "lightning": "shuffle=True in the DataLoader of train_dataloader",
    "transformers": "a sampler of the Trainer's that draws anew for every epoch",
}
"""What mends a fixed order in programs where no DataLoader is made by hand, by their kind."""


def same_order_note(loader: DataLoader[Any], kind: str | None = None) -> str:
    """A note on data that come in the same order every time, and what mends it.

    `kind` is that of the program: "skorch", "lightning", ... (`Task.code_for`).
    """
    if isinstance(loader.dataset, DrawnBatches):
        mended = "drawing them by torch's, NumPy's or Python's global random numbers"
    elif type(loader.sampler) is RandomSampler and loader.batch_size is not None:
        mended = "a generator or a sampler that draws anew for every epoch"
    elif type(loader.sampler) is SequentialSampler and loader.batch_size is not None:
        mended = _SHUFFLE.get(kind or "", "shuffle=True in the DataLoader")
    elif isinstance(loader.dataset, IterableDataset):
        mended = "a stream that shuffles its rows with torch's, NumPy's or Python's random numbers"
    else:
        sampler = loader.sampler if loader.batch_size is not None else loader.batch_sampler
        mended = f"a {type(sampler).__name__} that draws a new order in __iter__, or by set_epoch,"
    return (
        "the training data come in the same order for every seed and epoch: "
        f"seeds vary less than they should ({mended} mends it)"
    )


def skipped_note(kind: str, seen: Seen) -> list[str]:
    """A note on batches that were None, where there were any."""
    if not seen.none:
        return []
    return [f"{seen.none:,} of {seen.batches:,} {kind} batches were None and were skipped"]
