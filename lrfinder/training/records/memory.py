"""Whether the records of a population fit into memory, asked before anything is trained."""

import os

from lrfinder.errors import InvalidArgument

_BYTES = 8
_COPIES = 3  # the record, the History that is made of it, and what is written of it
_ASSUMED = 16 * 2**30  # where the system does not tell


def check_memory(runs: int, updates: int, evaluations: int, measures: int) -> None:
    """Raise InvalidArgument where the losses, lrs and measures of so many runs cannot be held.

    Args:
        runs: trained at once.
        updates, evaluations: of each run.
        measures: values of an evaluation.
    """
    numbers = runs * (2 * updates + evaluations * measures)
    needed, there = _COPIES * _BYTES * numbers, _installed()
    if needed > there:
        population = f"{runs} run{'s' if runs > 1 else ''}"
        raise InvalidArgument(
            f"the records of {population} of {updates:,} updates with {evaluations:,} evaluations "
            f"need {_gigabytes(needed)} of memory, but this machine has {_gigabytes(there)}; "
            "give fewer steps, epochs or seeds"
        )


def _installed() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _ASSUMED


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.0f} GB"
