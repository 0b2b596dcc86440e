"""Arrays of numbers, as every room calls them."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUMPYS_DEFAULTS = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""Decorator: the function handles nan and infinities as it was written to, whatever is set."""
