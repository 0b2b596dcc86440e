"""Training seeds: none of one act, or of a run with another seed, is one of another."""

from lrfinder.errors import InvalidArgument

SEEDS_PER_ACT = 1000
_SEEDS_PER_SEED = 3 * SEEDS_PER_ACT
"""A run's seed owns this many training seeds, a third of them for each act."""


def training_seeds(act: str, seed: int, count: int) -> list[int]:
    """Training seeds of one act; those of different acts and run seeds never meet.

    >>> training_seeds("find", 0, 2), training_seeds("confirm", 0, 2), training_seeds("find", 1, 1)
    ([0, 1], [2000, 2001], [3000])
    """
    if count > SEEDS_PER_ACT:
        raise InvalidArgument(f"at most {SEEDS_PER_ACT} seeds can be asked for, but got {count}")
    first = seed * _SEEDS_PER_SEED + ("find", "search", "confirm").index(act) * SEEDS_PER_ACT
    return list(range(first, first + count))
