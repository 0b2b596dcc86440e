"""The types that every room speaks: arrays, and the words of a few options."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Direction = Literal["minimize", "maximize"]
"""Which way of a measure is better."""
Every = Literal["batch", "epoch"]
"""How often the lr of a range test grows."""
Growth = Literal["exponential", "linear"]
"""How the lr of a range test grows: by equal ratios or by equal differences."""
Per = Literal["epoch", "batch"]
"""How often a schedule is stepped."""
EngineName = Literal["auto", "sequential", "batched"]
"""Which trainer is asked for."""
Value = int | float | bool | str
"""Value of a schedule's parameter."""
