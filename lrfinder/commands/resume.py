"""An interrupted run to its end, or a finished one whose comparison goes on."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfinder.arrays import NUMPYS_DEFAULTS
from lrfinder.commands.asked import recorded, reference_text, say_host, seen_from, source_hash
from lrfinder.errors import InvalidArgument, RunFolderError
from lrfinder.experiment import SEEDS_PER_ACT, Experiment
from lrfinder.pipeline.between_acts import OF_THE_STUDIES
from lrfinder.pipeline.where import where
from lrfinder.pipeline.whole_run import all_acts
from lrfinder.report.progress import Progress, Silent
from lrfinder.results.answers import first_summary
from lrfinder.results.folder import RunFolder, command_to_resume
from lrfinder.results.opening import has_begun, open_studies, read_config
from lrfinder.results.recorder import RunRecorder
from lrfinder.results.saved_run import Run
from lrfinder.settings import RunSettings, settings_from
from lrfinder.tasks.problem import Problem
from lrfinder.training import engine
from lrfinder.training.executors.choice import AnyExecutor
from lrfinder.tuning.storages.storage import check_made_for_studies
from lrfinder.tuning.storages.storage_urls import without_password


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
    path = seen_from(here, path)
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
    if source_hash(settings.task) != config["run"]["task_hash"]:
        experiment.notes.append("the task's file has changed since this run was started")
    finished = earlier is not None and earlier.answers.status == "complete"
    recorder = RunRecorder(RunFolder(path), summary, finished=finished)
    name = str(config["run"]["name"])
    return all_acts(experiment, recorder, name, shows, earlier, continued, workers)


def _same_settings(path: Path, config: Mapping[str, Any], given: Mapping[str, Any]) -> RunSettings:
    """Settings of a run's config; RunFolderError for an option that differs from them."""
    asked = {key: value for key, value in config.items() if key != "run"}
    asked["task"] = reference_text(asked["task"])
    settings = settings_from(RunSettings, asked)
    made, where_now = recorded(settings), _where_now(given)
    for key, value in given.items():
        if key in where_now:
            continue
        again = reference_text(value) if key == "task" else value
        got = recorded(settings_from(RunSettings, {**asked, key: again}))
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
    say_host(storage, progress)
    try:
        check_made_for_studies(storage)
    except InvalidArgument as error:
        again = f"{command_to_resume(path)} --storage {shlex.quote(without_password(storage))}"
        raise RunFolderError(f"{error}; to make them there: `{again}`") from error
