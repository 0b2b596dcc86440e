"""A finished run, read and reported again."""

from pathlib import Path

from lrfinder.arrays import NUMPYS_DEFAULTS
from lrfinder.commands.asked import say_host
from lrfinder.errors import InvalidArgument, RunFolderError, StorageFailed
from lrfinder.report import dashboard, markdown
from lrfinder.report.progress import Progress, Silent
from lrfinder.results.folder import RunFolder, command_to_resume
from lrfinder.results.opening import open_studies
from lrfinder.results.saved_run import Run
from lrfinder.tuning.storages.storage import close


def finished_run(path: Path) -> Run:
    """Read a finished run; RunFolderError where it is none, or its tables are not whole."""
    run = open_studies(path)
    status = run.answers.status
    if status != "complete":
        raise RunFolderError(
            f"{path} must be a finished run, but it is {status}; "
            f"go on with `{command_to_resume(path)}`"
        )
    incomplete = run.incomplete_table
    if incomplete is not None:
        raise RunFolderError(
            f"{path / incomplete} is missing or damaged; `{command_to_resume(path)}` mends it"
        )
    return run


@NUMPYS_DEFAULTS
def write_again(run: Run, progress: Progress | None = None) -> None:
    """Make the report, the pictures and the dashboard's notes of a finished run again.

    Where the folder cannot be written, or the storage of its studies is gone, that is noted.
    """
    shows = progress or Silent()
    try:
        markdown.write(run, RunFolder(run.path))
    except RunFolderError as error:
        shows.say(f"note: nothing was written: {error}")
        return
    try:
        say_host(run.settings.storage, shows)
        storage = dashboard.stored(run)
        dashboard.enrich(run, storage, pictures=True)
        close(storage)
    except (InvalidArgument, StorageFailed) as error:
        shows.say(f"note: the dashboard's notes are not made again: {error}")
