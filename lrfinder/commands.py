"""What can be asked for: a range test, a run, an interrupted run to the end, a report again.

The command line and Python come in here. Everything is checked before a run folder is made; bad
input leaves none behind.
"""

import inspect
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from lrfinder import plots
from lrfinder.arrays import NUMPYS_DEFAULTS
from lrfinder.errors import InvalidArgument, RunFolderError, StorageFailed
from lrfinder.experiment import SEEDS_PER_ACT, Experiment, FindExperiment, RangeTestExperiment
from lrfinder.paths import resolved
from lrfinder.pipeline.acts import range_test_act
from lrfinder.pipeline.between_acts import OF_THE_STUDIES
from lrfinder.pipeline.where import where
from lrfinder.pipeline.whole_run import all_acts
from lrfinder.range_tests.by_epoch import facts_by_epoch
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.series import Over, Series
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.report import dashboard, markdown
from lrfinder.report.progress import Progress, Silent, shown, standard_error
from lrfinder.report.wording import engine_line, estimate
from lrfinder.results.answers import first_summary, range_test_summary
from lrfinder.results.folder import RunFolder, command_to_resume
from lrfinder.results.recorder import RunRecorder
from lrfinder.results.saved_run import Run, has_begun, open_studies, read_config
from lrfinder.results.summary import RangeTestFacts, jsonable
from lrfinder.settings import FindSettings, RangeTestSettings, RunSettings, settings_from
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.reference import TaskReference, is_live, live_reference
from lrfinder.tasks.task import Task
from lrfinder.training import engine
from lrfinder.training.executors.choice import AnyExecutor
from lrfinder.training.speed import threads
from lrfinder.tuning.storage import check_made_for_studies, close, refuse_existing_studies
from lrfinder.tuning.storage_urls import host_of, without_password
from lrfinder.types import Device, Direction, EngineName, Every, Growth, Per


class RunOptions(TypedDict, total=False):
    """Options of `run`: those of `lrfinder run` and `sweep`, described in their help."""

    epochs: int
    families: Sequence[str]
    trials: int
    even: bool
    find_seeds: int
    trial_seeds: int
    confirm_runs: int
    confirm_seeds: int
    seed: int
    lr: float
    lr_range: tuple[float, float]
    min_lr: float
    max_lr: float
    steps: int
    probes: int
    cost: float | str
    every: Every
    growth: Growth
    per: Per
    warmup: float | Literal["search"]
    objective: str
    groups: Mapping[str, Mapping[str, Any]]
    direction: Direction
    baseline: str
    timeout: float
    device: Device
    engine: EngineName
    workers: int
    ray: str
    storage: str


def run(
    task: Problem | str | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    progress: bool = True,
    executor: AnyExecutor | None = None,
    **options: Unpack[RunOptions],
) -> Run:
    """Range test, decay studies and comparison: which lr, and which decay?

    Args:
        task: a Task, whether made from factories or by `Task.from_objects`, a Loop, or what the
            command takes: a file, a module or a built-in name. It may be left out with `resume`
            where the run was started by a name.
        out: the folder to write, which must not exist; by default one under runs/.
        resume: the folder of an interrupted run to go on with; a Task or Loop is given again.
        progress: show how it goes on: on the terminal, or under the cell of a notebook.
        executor: where studies and comparison are trained: InProcess(), Processes(4), Ray("auto"),
            or any `concurrent.futures.Executor`, such as Dask's `client.get_executor()`; the range
            test is made here. What comes out is the same.
        options: those of the command, under the same names: epochs=..., families=[...], trials=...

    With `lr` or `lr_range` there is no range test, as in `lrfinder sweep`. Workers load a task that
    was given by name, and are sent any other, which must allow it. Raises InvalidArgument, in one
    line, for what cannot be used, TaskFailed where the task's code raises, and Interrupted on
    Ctrl-C; after the last two the run can be resumed.
    """
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    if task is None and resume is None:
        raise InvalidArgument("a run needs a task or a folder to resume, but got neither")
    if out is not None and resume is not None:
        raise InvalidArgument("out and resume exclude each other, but got both")
    if task is not None:
        given["task"] = live_reference(task.name) if isinstance(task, Task | Loop) else task
    live = task if isinstance(task, Task | Loop) else None
    with shown(standard_error(), quiet=not progress) as shows:
        if resume is not None:
            return go_on(Path(resume), given, shows, live, executor)
        settings = settings_from(RunSettings, given)
        return start(settings, None if out is None else Path(out), shows, live, executor)


@NUMPYS_DEFAULTS
def find(
    settings: FindSettings, out: Path | None = None, progress: Progress | None = None
) -> tuple[str, Curve, Suggestion]:
    """Run a range test alone, and keep it in a folder where one is given.

    Returns the name of the task, the curve and what it suggests. Raises InvalidArgument or
    TaskLoadError, and leaves no folder behind where nothing was measured.
    """
    began, here = time.monotonic(), Path.cwd()
    named = _reference_text(settings.task)
    experiment = FindExperiment(settings)
    folder = None if out is None else RunFolder.create(_seen_from(here, out))
    try:
        curve = _range_test_alone(experiment, progress or Silent(), began)
    except BaseException:
        if folder is not None:
            folder.discard()
        raise
    like, per = experiment.task.prototype.stand_in, settings.per or experiment.task.per
    suggestion = curve.suggest(experiment.schedule, per=per, lr_ratios=like)
    if folder is not None:
        _write_config(folder, settings, named)
        _keep_range_test(experiment, curve, suggestion, folder)
    return experiment.task.name, curve, suggestion


@NUMPYS_DEFAULTS
def find_each(
    settings: FindSettings, out: Path | None = None, progress: Progress | None = None
) -> Series:
    """Run a range test at each batch size or length that is asked for.

    With a folder, each has one of its own in it, as `find` makes it; series.json holds the whole.
    """
    each, shows = settings.one_by_one(), progress or Silent()
    over: Over = "epochs" if isinstance(settings.epochs, list) else "batch_size"
    for one in each.values():
        FindExperiment(one)  # what cannot be trained is refused before anything is
    folder = None if out is None else RunFolder.create(_seen_from(Path.cwd(), out))
    found: dict[int, Suggestion] = {}
    try:
        for value, one in each.items():
            name = f"{over}-{value}"
            shows.say(name.replace("_", " ").replace("-", " "))
            inside = None if folder is None else folder.path / name
            _, _, found[value] = find(one, inside, shows)
    except BaseException:
        if folder is not None and not found:
            folder.discard()
        raise
    series = Series(over, tuple(found), tuple(found.values()))
    if folder is not None:
        folder.write_text("series.json", json.dumps(jsonable(series_facts(series))) + "\n")
    return series


def series_facts(series: Series) -> dict[str, Any]:
    """All that a series says, for JSON."""
    pairs = zip(series.values, series.suggestions, strict=True)
    return {
        "over": series.over,
        "suggestions": [{series.over: value, **asdict(one)} for value, one in pairs],
        "slope": None if series.slope is None else asdict(series.slope),
        "said": series.said(),
    }


def found_facts(name: str, curve: Curve, suggestion: Suggestion) -> dict[str, Any]:
    """All that a range test alone says, for JSON."""
    facts = {"task": name, **asdict(suggestion), **RangeTestFacts.of(curve).model_dump()}
    return {**facts, **facts_by_epoch(curve, suggestion)}


def _range_test_alone(experiment: RangeTestExperiment, shown: Progress, began: float) -> Curve:
    for note in experiment.task.data(experiment.device).notes():
        shown.say(f"note: {note}")
    settings, work = experiment.find_settings, experiment.find_work()
    chosen = engine.choose(
        experiment.task,
        experiment.device,
        work,
        settings.engine,
        on_subset=settings.every == "batch",
    )
    shown.say(estimate({"range test": work}, chosen.speed, training=experiment.updates))
    shown.say(engine_line(chosen.record()))
    with threads(chosen.threads):
        spent, timeout = time.monotonic() - began, settings.timeout
        left = None if timeout is None else max(timeout - spent, 1e-9)
        curve = range_test_act(experiment, chosen.trainer, shown, left)
    for note in experiment.task.data(experiment.device).later_notes():
        shown.say(f"note: {note}")
    return curve


def _keep_range_test(
    experiment: RangeTestExperiment, curve: Curve, suggestion: Suggestion, folder: RunFolder
) -> None:
    """Write the folder of a range test alone, which `open_run` reads like that of a run."""
    folder.write_curve(curve)
    folder.replace("range_test.png", lambda p: plots.save_range_test(p, curve, suggestion))
    folder.write_summary(range_test_summary(experiment, curve, suggestion))


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
    here, named = Path.cwd(), _reference_text(settings.task)
    experiment = Experiment(settings, task)
    path = out or Path("runs") / f"{experiment.task.name}-{datetime.now():%Y%m%d-%H%M%S}"
    name = resolved(path).name
    if settings.storage is not None:
        refuse_existing_studies(settings.storage, name, [f.name for f in experiment.families])
    engine.check(experiment.task, experiment.device, settings.engine)
    workers = where(experiment, executor)
    path = _seen_from(here, path)
    folder = RunFolder.create(path) if out is not None else RunFolder.create_numbered(path)
    name = resolved(folder.path).name
    try:
        _write_config(folder, experiment.settings, named)
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


@NUMPYS_DEFAULTS
def go_on(
    path: Path,
    given: Mapping[str, Any],
    progress: Progress | None = None,
    task: Problem | None = None,
    executor: AnyExecutor | None = None,
) -> Run:
    """Go on with an interrupted run, up to the numbers in its config.

    One that has left no summary yet starts with its first act. `given` are options that were given
    again: one that differs from the config is an error, but for workers and ray, and a number of
    confirm_runs that has grown, by which the comparison is continued, once. A task file that has
    changed is noted.
    """
    here = Path.cwd()
    config = read_config(path)
    of_comparison = {k: given[k] for k in ("confirm_runs", "confirm_seeds") if k in given}
    settings = _same_settings(path, config, {k: given[k] for k in given.keys() - of_comparison})
    shows = progress or Silent()
    if settings.storage is not None and "storage" not in given:
        _check_named_storage(path, settings.storage, shows)
    experiment = Experiment(settings, task)
    workers = where(experiment, executor)
    path = _seen_from(here, path)
    earlier = open_studies(path) if has_begun(path) else None
    continued = _continued(path, experiment, of_comparison, earlier)
    record = None if earlier is None else earlier.answers.engine
    asked = settings.engine if record is None else record.trainer
    engine.check(experiment.task, experiment.device, asked, "start a new run instead")
    summary = first_summary(experiment)
    if earlier is not None:
        before = earlier.answers
        lasting = [n for n in before.notes if not any(words in n for words in OF_THE_STUDIES)]
        experiment.notes += lasting
        cost = summary.cost.model_copy(update={"wall_seconds": before.cost.wall_seconds})
        summary = summary.changed(
            range_test=before.range_test if earlier.curve_can_be_read else None,
            suggestion=before.suggestion,
            lr_search=before.lr_search,
            confirm=before.confirm,
            cost=cost,
        )
    if _source_hash(settings.task) != config["run"]["task_hash"]:
        experiment.notes.append("the task's file has changed since this run was started")
    finished = earlier is not None and earlier.answers.status == "complete"
    recorder = RunRecorder(RunFolder(path), summary, finished=finished)
    name = str(config["run"]["name"])
    return all_acts(experiment, recorder, name, shows, earlier, continued, workers)


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
        _say_host(run.settings.storage, shows)
        storage = dashboard.stored(run)
        dashboard.enrich(run, storage, pictures=True)
        close(storage)
    except (InvalidArgument, StorageFailed) as error:
        shows.say(f"note: the dashboard's notes are not made again: {error}")


def _same_settings(path: Path, config: Mapping[str, Any], given: Mapping[str, Any]) -> RunSettings:
    """Settings of a run's config; RunFolderError for an option that differs from them."""
    asked = {key: value for key, value in config.items() if key != "run"}
    asked["task"] = _reference_text(asked["task"])
    settings = settings_from(RunSettings, asked)
    where_now = _where_now(given)
    for key, value in given.items():
        if key in where_now:
            continue
        again = _reference_text(value) if key == "task" else value
        made = _recorded(settings)
        got = _recorded(settings_from(RunSettings, {**asked, key: again}))
        if made != got:
            raise RunFolderError(
                f"{key} must stay {made.get(key)!r} when {path} is resumed, "
                f"but got {got.get(key)!r}; start a new run instead"
            )
    named = settings_from(RunSettings, {**asked, "storage": given.get("storage", settings.storage)})
    return settings.model_copy(update={"storage": named.storage, **where_now})


def _where_now(given: Mapping[str, Any]) -> dict[str, Any]:
    """The workers that are asked for anew: who trains the rest of a run makes no difference."""
    of_workers = {name: value for name, value in given.items() if name in ("workers", "ray")}
    if not of_workers:
        return {}
    asked = settings_from(RunSettings, of_workers)
    return {"workers": asked.workers, "ray": asked.ray}


def _continued(
    path: Path, experiment: Experiment, given: Mapping[str, int], earlier: Run | None
) -> int | None:
    """Runs of a continued comparison, in all; RunFolderError where they cannot be asked for."""
    confirm = None if earlier is None else earlier.answers.confirm
    before = None if confirm is None else confirm.continued
    runs, candidates = experiment.confirm_runs, len(experiment.candidate_names)
    asked = given.get("confirm_runs")
    if "confirm_seeds" in given:
        asked = given["confirm_seeds"] * candidates
    if asked is None or asked in (runs, before):
        return before
    if before is not None or asked < runs:
        must = f"stay {before}, for a comparison is continued once" if before else "only grow"
        raise RunFolderError(
            f"confirm_runs must {must}, when {path} with {runs} is resumed, but got {asked}; "
            "start a new run instead"
        )
    looks = [] if confirm is None else confirm.looks
    made = sum(len(look.candidates) * len(look.seeds) for look in looks)
    least = max(runs + 1, made + 2 * len(looks[-1].candidates) if looks else 0)
    if not least <= asked <= SEEDS_PER_ACT * candidates:
        raise RunFolderError(
            f"confirm_runs must be from {least} to {SEEDS_PER_ACT * candidates}, "
            f"when {path} is continued, but got {asked}"
        )
    return asked


def _check_named_storage(path: Path, storage: str, progress: Progress) -> None:
    """Say where the storage is that a folder names; RunFolderError where no studies are there."""
    _say_host(storage, progress)
    try:
        check_made_for_studies(storage)
    except InvalidArgument as error:
        again = f"{command_to_resume(path)} --storage {shlex.quote(without_password(storage))}"
        raise RunFolderError(f"{error}; to make them there: `{again}`") from error


def _seen_from(folder: Path, path: Path) -> Path:
    """A path that was given in this folder, whichever one the task's code has moved to."""
    return path if Path.cwd() == folder else folder / path


def _say_host(storage: str | None, progress: Progress) -> None:
    """Say it where a folder's storage is on another machine, before it is opened."""
    host = None if storage is None else host_of(storage)
    if host is not None:
        progress.say(f"note: the folder's config.toml names a storage on {host}")


def _recorded(settings: RangeTestSettings) -> dict[str, Any]:
    """The options that were given or have a value, as they are written down: without a password."""
    options = settings.model_dump(exclude_none=True)
    if "storage" in options:
        options["storage"] = without_password(options["storage"])
    return options


def _write_config(folder: RunFolder, settings: RangeTestSettings, task: str) -> None:
    """Write what was asked, and of which task, by the name that holds from everywhere."""
    facts = {
        "name": resolved(folder.path).name,
        "task_hash": _source_hash(task),
        "version": version("lrfinder"),
    }
    folder.write_config({**_recorded(settings), "task": task, "run": facts})


def _reference_text(task: str) -> str:
    return task if is_live(task) else TaskReference.parse(task).text


def _source_hash(task: str) -> str:
    return "" if is_live(task) else TaskReference.parse(task).source_hash()


def _signature() -> inspect.Signature:
    """Signature of `run` with every option by name, as help and notebooks show it."""
    *own, _ = inspect.signature(run).parameters.values()
    keyword, fields = inspect.Parameter.KEYWORD_ONLY, RunSettings.model_fields
    options = [
        inspect.Parameter(name, keyword, default=fields[name].default)
        for name in RunOptions.__annotations__
    ]
    return inspect.Signature([*own, *options], return_annotation=Run)


vars(run)["__signature__"] = _signature()
