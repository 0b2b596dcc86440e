"""How many examples are tried: a few that stay the same, or as many others as are asked for."""

import os

from hypothesis import HealthCheck, Phase, settings

_ASKED = os.environ.get("LRFINDER_FUZZ")


def fuzzed(examples: int) -> settings:
    """Settings for a test that tries so many examples, or those that LRFINDER_FUZZ asks for."""
    return settings(
        max_examples=int(_ASKED or examples),
        derandomize=_ASKED is None,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
