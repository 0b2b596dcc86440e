"""Paths that people type: looking at one never raises.

pathlib's own functions do for a loop of links, an unknown user, or a name that is too long.
"""

import os.path
from pathlib import Path


def resolved(path: Path) -> Path:
    """The absolute path without links, as far as they can be followed."""
    return Path(os.path.realpath(path))


def expanded(text: str) -> Path:
    """The path with ~ replaced by the home folder, where there is one."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Whether there is a file."""
    return os.path.isfile(path)  # noqa: PTH113
