"""Defaults of a range test, where the command line finds them without loading PyTorch."""

from collections.abc import Mapping

from lrfinder.types import Every, Growth

MIN_LR, MAX_LR = 1e-6, 10.0
"""Lr of the first and of the last step."""
STEPS: Mapping[Every, int] = {"batch": 100, "epoch": 20}
"""Number of learning rates, by how often the lr grows."""
SEEDS = 1
"""Whole tests."""
EVERY: Every = "batch"
GROWTH: Growth = "exponential"
PROBES = 8
"""Most runs at a constant lr per seed."""
FEWEST_PROBES = 3
"""Fewer than these settle nothing."""
