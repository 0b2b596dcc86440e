"""What a run will cost, in updates and minutes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lrfinder.report import duration

_SECONDS_PER_TRIAL = 0.1  # of the sampler and the storage, on 2 cores at about 2.5 GHz


@dataclass(frozen=True)
class Speed:
    """Measured times of one run; of its share, where several are trained together."""

    seconds_per_update: float
    seconds_per_evaluation: float
    """Of a whole validation set; of the probe where there is none."""

    def seconds(self, updates: int, evaluations: int) -> float:
        """Time of so many updates and evaluations."""
        return updates * self.seconds_per_update + evaluations * self.seconds_per_evaluation


@dataclass(frozen=True)
class Work:
    """Updates and evaluations that one act of a run asks for."""

    runs: int
    updates: int
    """Per run."""
    evaluations: int
    """Per run."""
    trials: int = 0

    def seconds(self, speed: Speed) -> float:
        """Estimated time at the measured speed."""
        training = self.runs * speed.seconds(self.updates, self.evaluations)
        return training + self.trials * _SECONDS_PER_TRIAL


def estimate(works: Mapping[str, Work], speed: Speed, workers: int = 1) -> str:
    """One line that says what is to come: updates and minutes."""
    parts = ", ".join(f"{name} {w.runs} x {w.updates}" for name, w in works.items())
    updates = sum(work.runs * work.updates for work in works.values())
    seconds = sum(work.seconds(speed) for work in works.values()) / workers
    length, per_update = duration(math.ceil(seconds)), speed.seconds_per_update * 1000
    return f"{updates:,} updates ({parts}), about {length} at {per_update:.2g} ms an update"
