"""A run from its first act on, in a folder of its own."""

from datetime import datetime
from pathlib import Path

from lrfinder.arrays import NUMPYS_DEFAULTS
from lrfinder.commands.asked import reference_text, seen_from, write_config
from lrfinder.errors import InvalidArgument
from lrfinder.experiment import Experiment
from lrfinder.paths import resolved
from lrfinder.pipeline.where import where
from lrfinder.pipeline.whole_run import all_acts
from lrfinder.report.progress import Progress, Silent
from lrfinder.results.answers import first_summary
from lrfinder.results.folder import RunFolder
from lrfinder.results.recorder import RunRecorder
from lrfinder.results.saved_run import Run
from lrfinder.settings import RunSettings
from lrfinder.tasks.problem import Problem
from lrfinder.training import engine
from lrfinder.training.executors.choice import AnyExecutor
from lrfinder.tuning.storages.storage import refuse_existing_studies


@NUMPYS_DEFAULTS
def start(
    settings: RunSettings,
    out: Path | None = None,
    progress: Progress | None = None,
    task: Problem | None = None,
    executor: AnyExecutor | None = None,
) -> Run:
    """Make a run folder and go through all acts.

    `task` is given where it is an object, which the settings cannot name. Raises InvalidArgument or
    TaskLoadError, and leaves no folder where nothing was found yet; TaskFailed and
    KeyboardInterrupt leave one behind that `resume` takes up.
    """
    here, named = Path.cwd(), reference_text(settings.task)
    experiment = Experiment(settings, task)
    path = out or Path("runs") / f"{experiment.task.name}-{datetime.now():%Y%m%d-%H%M%S}"
    name = resolved(path).name
    if settings.storage is not None:
        refuse_existing_studies(settings.storage, name, [f.name for f in experiment.families])
    engine.check(experiment.task, experiment.device, settings.engine)
    workers = where(experiment, executor)
    path = seen_from(here, path)
    folder = RunFolder.create(path) if out is not None else RunFolder.create_numbered(path)
    name = resolved(folder.path).name
    try:
        write_config(folder, experiment.settings, named)
    except BaseException:
        folder.discard()
        raise
    recorder, shows = RunRecorder(folder, first_summary(experiment)), progress or Silent()
    if settings.confirm_seeds is not None:
        shows.say(
            "note: confirm_seeds goes with the next release; it is now "
            f"confirm_runs {experiment.confirm_runs}, so many for each candidate"
        )
    try:
        return all_acts(experiment, recorder, name, shows, executor=workers)
    except InvalidArgument:
        folder.discard()
        raise
