"""optuna-dashboard for the studies of a run, on this machine only."""

from collections.abc import Callable

import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore

from lrfinder.errors import RunFolderError
from lrfinder.records import Run, storage_url
from lrfinder.storage import open_storage

HOST = "127.0.0.1"


def serve(run: Run, port: int, say: Callable[[str], None]) -> None:
    """Serve a run's studies and artifacts until interrupted."""
    url = run.config.get("storage") or storage_url(run.path)
    artifacts = FileSystemArtifactStore(str(run.path / "artifacts"))
    storage = open_storage(url)
    say(f"http://{HOST}:{port}/dashboard  (Ctrl-C ends it)")
    try:
        optuna_dashboard.run_server(storage, host=HOST, port=port, artifact_store=artifacts)
    except OSError as error:
        raise RunFolderError(
            f"port {port} cannot be used: {error.strerror}; give another --port"
        ) from error
