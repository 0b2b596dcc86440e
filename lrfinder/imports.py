"""Imports of large packages, without the garbage collector."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


def keep_what_is_imported() -> None:
    """Let `importing` do what it says from now on: for a process that is the command's own."""
    gc.freeze()


@contextmanager
def importing() -> Generator[None]:
    """Import without the garbage collector, now and later: what is imported stays.

    Its passes over the half million objects of PyTorch take a second of a short run. In a process
    that is not the command's own, nothing is changed.
    """
    if gc.get_freeze_count() == 0:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
