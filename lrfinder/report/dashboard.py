"""optuna-dashboard for the studies of a run, on this machine only.

`enrich` writes a run into its studies, so that the dashboard answers the question too: a note in
every study and at every best trial, with pictures where they are asked for: a run leaves them to
`lrfinder dashboard` and `lrfinder report`. Called again it replaces what it wrote before, under the
same names; what people wrote below a note stays.

Trials that have ended take no artifacts, so the picture of the best trial belongs to its study.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from tempfile import TemporaryDirectory
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import BaseStorage

from lrfinder import plots
from lrfinder.errors import RunFolderError
from lrfinder.report import dashboard_notes as notes
from lrfinder.report.dashboard_attributes import artifacts, get_note, save_note
from lrfinder.report.dashboard_notes import BEST_TRIAL, Pages
from lrfinder.report.markdown import PICTURES
from lrfinder.report.own_pages import own_pages_only
from lrfinder.results.folder import RunFolder, command_to_resume, own_storage
from lrfinder.results.saved_run import Run
from lrfinder.tuning.interrupts import deferred
from lrfinder.tuning.storages.storage import open_existing, study_name
from lrfinder.tuning.storages.storage_urls import file_of, host_of

HOST = "127.0.0.1"
_MARK = "\n\n---\n*lrfinder writes what is above this line; what you write below it is kept.*\n"


def serve(run: Run, port: int, say: Callable[[str], None]) -> None:
    """Serve a run's studies and artifacts until interrupted, and say which pages to open."""
    import optuna_dashboard  # loads scikit-learn

    host = host_of(run.settings.storage or "")
    if host is not None:
        say(f"note: the folder's config.toml names a storage on {host}")
    storage = stored(run)
    app = own_pages_only(optuna_dashboard.wsgi(storage, artifact_store=_store(run)), port)
    try:
        server = make_server(HOST, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise RunFolderError(
            f"port {port} cannot be used: {error.strerror}; give another --port"
        ) from error
    with server, suppress(KeyboardInterrupt):
        with suppress(RunFolderError), RunFolder(run.path).locked():  # else it is still running
            enrich(run, storage, pictures=True)
        say(f"dashboard of {run.path}; Ctrl-C ends it")
        for what, page in worth_opening(run, _pages(run, storage)).items():
            say(f"  {what:<12} http://{HOST}:{port}{page}")
        server.serve_forever()


def stored(run: Run) -> BaseStorage:
    """Open the storage of a run's studies, and make none where there is none."""
    url = run.settings.storage or own_storage(run.path)
    file = file_of(url)
    if file is not None and not file.is_file():
        raise RunFolderError(
            f"{file} is missing, and with it the studies of {run.path}; "
            f"a run that was interrupted goes on with `{command_to_resume(run.path)}`"
        )
    return open_existing(url)


def worth_opening(run: Run, pages: Pages) -> dict[str, str]:
    """Pages that answer the question, most telling first: what each shows, and where it is."""
    found: dict[str, str] = {}
    best, best_trial = _best_searched(run, pages)
    if best is not None and best_trial is not None:
        found["answer"] = pages.note(best)
        found["best trial"] = pages.trial(best, best_trial)
    elif pages.studies:
        found["so far"] = pages.note(next(iter(pages.studies)))
    if pages.studies:
        found["all families"] = pages.compare
    return {**found, "home": pages.home}


def enrich(run: Run, storage: BaseStorage, *, pictures: bool) -> None:
    """Write what a run says into its studies, or that it does not say it yet."""
    pages = _pages(run, storage)
    with TemporaryDirectory() as folder:
        for family in pages.studies:
            shown = _pictures(run, family, Path(folder)) if pictures else []
            with deferred():
                _write(run, family, pages, storage, shown)


def _write(
    run: Run, family: str, pages: Pages, storage: BaseStorage, pictures: Sequence[Path]
) -> None:
    number, store = pages.studies[family], _store(run)
    study = optuna.load_study(study_name=storage.get_study_name_from_id(number), storage=storage)
    earlier = artifacts(storage, number)
    shown = {
        picture.name: f"/artifacts/{number}/{_put(study, store, picture, earlier)}"
        for picture in pictures
    }
    _write_note(storage, number, notes.study_note(run, family, pages, shown))
    facts = run.answers.families.get(family)
    if facts is None or facts.best_trial is None:
        return
    study.set_user_attr("answer of the run", notes.answer(run))
    study.set_user_attr("this family", notes.standing(run, family))
    trial = storage.get_trial_id_from_study_id_trial_number(number, facts.best_trial)
    _write_note(storage, number, notes.trial_note(run, family, pages, shown), trial)


def _pages(run: Run, storage: BaseStorage) -> Pages:
    """Studies of the run that the storage holds."""
    existing = set(optuna.get_all_study_names(storage))
    families = dict.fromkeys(["constant", *(run.settings.families or ())])
    names = {family: study_name(run.name, family) for family in families}
    with deferred():
        return Pages(
            {f: storage.get_study_id_from_name(n) for f, n in names.items() if n in existing}
        )


def _best_searched(run: Run, pages: Pages) -> tuple[str | None, int | None]:
    """The best candidate that has a study, and its best trial; a baseline has none."""
    ranked = run.answers.families.items()
    searched = ((name, facts.best_trial) for name, facts in ranked if name in pages.studies)
    return next(searched, (None, None))


def _pictures(run: Run, family: str, folder: Path) -> list[Path]:
    """Pictures of the run's folder, and that of the family's best trial, drawn into `folder`."""
    found = [run.path / name for name in PICTURES if (run.path / name).is_file()]
    facts = run.answers.families.get(family)
    if facts is not None and facts.best_trial is not None:
        with suppress(RunFolderError):  # its curve was lost
            curve = run.trial_curve(family, facts.best_trial)
            plots.save_trial(folder / BEST_TRIAL, curve, run.answers.objective.column)
            found.append(folder / BEST_TRIAL)
    return found


def _store(run: Run) -> FileSystemArtifactStore:
    folder = run.path / "artifacts"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be made: {error.strerror}") from error
    return FileSystemArtifactStore(folder)


def _put(
    study: optuna.Study, store: FileSystemArtifactStore, file: Path, earlier: dict[str, str]
) -> str:
    """Upload a file, or put it in the place of the study's earlier one; return its id."""
    known = earlier.get(file.name)
    if known is None:
        return upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=study)
    with file.open("rb") as content:
        store.write(known, content)
    return known


def _write_note(storage: BaseStorage, study: int, text: str, trial: int | None = None) -> None:
    before = get_note(storage, study, trial)
    above, mark, below = before.partition(_MARK)
    after = text + _MARK + (below if mark else above)
    if after != before:
        save_note(storage, study, after, trial)


class _Server(ThreadingMixIn, WSGIServer):
    """Answers while a browser holds other connections open."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests."""
