"""Rows of the training data held out for evaluation, where a task has no validation set."""

from typing import Any, cast

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from lrfinder.tasks.data.loaders import Data
from lrfinder.tasks.data.sources import SUBSET_ROWS
from lrfinder.tasks.state.random_states import derive


def held_out(data: Data, batch_size: int) -> tuple[Data, Data] | None:
    """Training data without a fixed set of rows, and those rows: 256 of them, at most a fifth.

    None where rows cannot be taken out (a stream, a sampler or loader of the caller's own), or
    there are fewer than 40.
    """
    loader = data if isinstance(data, DataLoader) else None
    dataset: Any = data if loader is None else loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return None
    rows = len(dataset)
    count = min(SUBSET_ROWS, rows // 5)
    if count < 8 or not (loader is None or can_be_made_again(loader, rows - count)):
        return None
    generator = torch.Generator().manual_seed(derive(0, "held out"))
    order = cast(list[int], torch.randperm(rows, generator=generator).tolist())
    rest, held = Subset(dataset, sorted(order[count:])), Subset(dataset, sorted(order[:count]))
    if loader is None:
        return rest, held
    return made_again(loader, rest), DataLoader(held, batch_size, collate_fn=loader.collate_fn)


def can_be_made_again(loader: DataLoader[Any], rows: int) -> bool:
    """Whether a loader could be made again for so many rows."""
    size, sampler = loader.batch_size, loader.sampler
    if type(loader) is not DataLoader or size is None or (loader.drop_last and rows < size):
        return False
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(cast(Any, loader.dataset))
    return type(sampler) is SequentialSampler


def made_again(
    loader: DataLoader[Any], dataset: Dataset[Any], batch_size: int | None = None
) -> DataLoader[Any]:
    """The same loader of other rows, or in other batches."""
    return DataLoader(
        dataset,
        batch_size or loader.batch_size,
        shuffle=type(loader.sampler) is RandomSampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )
