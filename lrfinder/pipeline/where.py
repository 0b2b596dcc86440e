"""Where a run is trained, and what another process makes its task of."""

from functools import partial

from lrfinder.errors import InvalidArgument
from lrfinder.experiment import Experiment, prepared_task
from lrfinder.settings import RunSettings
from lrfinder.tasks.fingerprint import Fingerprint, check_same
from lrfinder.tasks.loading import load_task
from lrfinder.tasks.problem import Problem
from lrfinder.training.engine import Engine
from lrfinder.training.executors.choice import AnyExecutor, executor_of
from lrfinder.training.executors.in_process import InProcess
from lrfinder.training.executors.job import Build, Executor, Setup
from lrfinder.training.executors.on_ray import Ray
from lrfinder.training.executors.processes import Processes
from lrfinder.training.trainers.trainer import AnyTrainer

_OTHER_IN_WORKER = (
    "the {what} must be the same in every process, but a worker that loaded the task has others; "
    "seed them in the task file (torch.manual_seed(0) at its top), or use workers 1"
)


def where(experiment: Experiment, given: AnyExecutor | None) -> Executor:
    """Where an experiment is trained: by the executor that is given, or as its settings say.

    Raises InvalidArgument where the task cannot be sent there, or Ray is not installed.
    """
    settings = experiment.settings
    if given is not None and (settings.workers > 1 or settings.ray is not None):
        raise InvalidArgument("executor excludes workers and ray, but got both")
    executor: AnyExecutor | None = given
    if settings.ray is not None:
        device = experiment.device or experiment.task.prototype.device
        executor = Ray(settings.ray, gpus=1 if device.type == "cuda" else 0)
    elif settings.workers > 1:
        executor = Processes(settings.workers)
    chosen = executor_of(executor)
    if isinstance(chosen, Ray):
        chosen.check_installed()
    if experiment.reference is None and not isinstance(chosen, InProcess):
        Setup(experiment.task).packed()
    return chosen


def build(experiment: Experiment, chosen: Engine, made: Fingerprint) -> Build:
    """What another process makes the task of, which must be the same there."""
    trainer = chosen.trainer
    if experiment.reference is None:
        return partial(_sent_to_worker, experiment.task, trainer, made)
    # by the name that holds from any working directory; a storage is the parent's alone
    here = {"task": experiment.reference.text, "storage": None}
    return partial(_built_in_worker, experiment.settings.model_copy(update=here), trainer, made)


def _built_in_worker(
    settings: RunSettings, trainer: AnyTrainer, made: Fingerprint
) -> tuple[Problem, AnyTrainer]:
    task = prepared_task(load_task(settings.task), settings)
    return _sent_to_worker(task, trainer, made)


def _sent_to_worker(
    task: Problem, trainer: AnyTrainer, made: Fingerprint
) -> tuple[Problem, AnyTrainer]:
    check_same(task, trainer.device, made, _OTHER_IN_WORKER)
    return task, trainer
