"""What a run works on: the task with its options resolved and checked, before it is trained."""

from lrfinder.experiment.range_tests import FindExperiment, RangeTestExperiment, device_of
from lrfinder.experiment.seeds import SEEDS_PER_ACT, training_seeds
from lrfinder.experiment.whole_run import Experiment, prepared_task

__all__ = [
    "SEEDS_PER_ACT",
    "Experiment",
    "FindExperiment",
    "RangeTestExperiment",
    "device_of",
    "prepared_task",
    "training_seeds",
]
