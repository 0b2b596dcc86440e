"""Where batches come from, and in which order.

A `Source` yields the batches of one epoch, and their order is a function of (seed, epoch) alone.
There are two:

- `TensorSource`: tensors moved to the device once and batched by indexing (the fast path);
- `LoaderSource`: a DataLoader, see `loaders.py`.

The ragged last batch is kept. A last batch of a single row is dropped where others are larger:
batch normalisation cannot train on it. Where ``steps_per_epoch`` asks for more batches than the
data have, the data are cycled, each cycle in a new order.
"""

from lrfinder.tasks.data.sources.evaluation import (
    SUBSET_ROWS,
    evaluation_batches,
    first_evaluation_batch,
    first_of_subset,
    fixed_subset,
    in_pieces,
)
from lrfinder.tasks.data.sources.tensors import are_tensors, tensors_of
from lrfinder.tasks.data.sources.training import Feed, Source, TensorSource, training_source

__all__ = [
    "SUBSET_ROWS",
    "Feed",
    "Source",
    "TensorSource",
    "are_tensors",
    "evaluation_batches",
    "first_evaluation_batch",
    "first_of_subset",
    "fixed_subset",
    "in_pieces",
    "tensors_of",
    "training_source",
]
