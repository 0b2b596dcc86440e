"""The three acts of a run, and what happens between them.

    range test ─> suggestion ─> lr range of each family ─> studies ─> best of each
               ─> comparison ─> report

Everything is checked before the run folder is made. Each act leaves its files behind when it ends,
so that an interrupted run is resumed from its folder: the range test is read back, the studies go
on in their storage, and confirmed runs are not repeated.
"""

import math
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from optuna.storages import BaseStorage

from lrfinder import plots
from lrfinder.comparison.candidates import BASELINE, Candidate, ConfirmedRun
from lrfinder.comparison.compare import compare
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import Interrupted, InvalidArgument, RunFolderError, TaskFailed
from lrfinder.experiment import RangeTestProblem, RunProblem, prepared_task
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.range_test import range_test
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.report import dashboard, markdown
from lrfinder.report.training_script import training_loop
from lrfinder.report.wording import engine_line, estimate, suggestion_line
from lrfinder.results.folder import RunFolder
from lrfinder.results.saved_run import Run, has_begun, open_run, open_studies, read_config
from lrfinder.results.summary import (
    answers,
    cost_facts,
    curve_facts,
    first_summary,
    range_test_summary,
    suggestion_facts,
)
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.settings import RangeTestSettings, RunSettings, settings_from
from lrfinder.tasks.reference import TaskReference
from lrfinder.tasks.task import Task
from lrfinder.training import engine
from lrfinder.training.engine import Engine
from lrfinder.training.executors import Workers
from lrfinder.training.history import History
from lrfinder.training.speed import Speed, Work, threads
from lrfinder.training.trainer import Trainer
from lrfinder.tuning.lr_ranges import describe_ranges
from lrfinder.tuning.rounds import LONG_ROUND, ask_size
from lrfinder.tuning.search import search
from lrfinder.tuning.storage import own_file
from lrfinder.tuning.trials import FamilyResult

_NOT_COMPARED = "is not compared"


class Progress(Protocol):
    """Who is told how a run goes on."""

    def stage(self, name: str, updates: int) -> None:
        """Begin an act of so many updates."""
        ...

    def advance(self, updates: int) -> None:
        """Count updates that have been made, or need not be."""
        ...

    def say(self, text: str) -> None:
        """Show a line."""
        ...


class Silent:
    """Tells nobody."""

    def stage(self, name: str, updates: int) -> None:
        """Begin an act."""

    def advance(self, updates: int) -> None:
        """Count updates."""

    def say(self, text: str) -> None:
        """Show a line."""


def find(problem: RangeTestProblem, progress: Progress | None = None) -> Curve:
    """Run the range test alone."""
    told = progress or Silent()
    for note in problem.task.data(problem.device).notes():
        told.say(f"note: {note}")
    settings, work = problem.find_settings, problem.find_work()
    chosen = engine.choose(problem.task, problem.device, work, settings.engine)
    told.say(estimate({"range test": work}, chosen.speed))
    told.say(engine_line(chosen.facts()))
    with threads(chosen.threads):
        return _find(problem, chosen.trainer, told)


def keep_range_test(
    problem: RangeTestProblem, curve: Curve, suggestion: Suggestion, folder: RunFolder
) -> None:
    """Write the folder of a range test alone, which `open_run` reads like that of a run."""
    _write_config(folder, problem.find_settings)
    folder.write_curve(curve)
    folder.replace("range_test.png", lambda p: plots.save_range_test(p, curve, suggestion))
    folder.write_summary(range_test_summary(problem, curve, suggestion))


def start(settings: RunSettings, out: Path | None = None, progress: Progress | None = None) -> Run:
    """Make a run folder and go through all acts.

    Raises InvalidArgument or TaskLoadError, and leaves no folder where nothing was found yet;
    TaskFailed and KeyboardInterrupt leave one behind that `resume` takes up.
    """
    problem = RunProblem(settings)
    path = out or Path("runs") / f"{problem.task.name}-{datetime.now():%Y%m%d-%H%M%S}"
    name = path.resolve().name
    problem.refuse_existing_studies(name)
    engine.check(problem.task, problem.device, problem.settings.engine)
    folder = RunFolder.create(path)
    try:
        _write_config(folder, problem.settings)
    except BaseException:
        folder.discard()
        raise
    try:
        return _Acts(problem, folder, name, progress or Silent()).all()
    except InvalidArgument:
        folder.discard()
        raise


def resume(path: Path, given: Mapping[str, Any], progress: Progress | None = None) -> Run:
    """Go on with an interrupted run, up to the numbers in its config.

    One that has left no summary yet starts with its first act.
    `given` are options that were given again: one that differs from the config is an error. A task
    file that has changed is told.
    """
    told = progress or Silent()
    config = read_config(path)
    earlier = open_studies(path) if has_begun(path) else None
    asked = {key: value for key, value in config.items() if key != "run"}
    asked["task"] = TaskReference.parse(asked["task"]).text
    settings = settings_from(RunSettings, asked)
    if "task" in given:
        given = {**given, "task": TaskReference.parse(given["task"]).text}
    for key, value in given.items():
        if settings_from(RunSettings, {**asked, key: value}) != settings:
            raise RunFolderError(
                f"{key} must stay {asked.get(key)!r} when {path} is resumed, but got {value!r}; "
                "start a new run instead"
            )
    problem = RunProblem(settings)
    begun_with = None if earlier is None else earlier.summary["engine"]
    asked_for = settings.engine if begun_with is None else begun_with["trainer"]
    engine.check(problem.task, problem.device, asked_for, "start a new run instead")
    if earlier is not None:
        problem.notes += [n for n in earlier.summary["notes"] if _NOT_COMPARED not in n]
    if TaskReference.parse(settings.task).source_hash() != config["run"]["task_hash"]:
        problem.notes.append("the task's file has changed since this run was started")
    return _Acts(problem, RunFolder(path), config["run"]["name"], told, earlier).all()


def rebuild(path: Path, progress: Progress | None = None) -> Run:
    """Make the report, the pictures and the dashboard's notes of a finished run again.

    Where the storage of its studies is gone, that is told, and the rest is made.
    """
    run = open_studies(path)
    if run.summary["status"] != "complete":
        raise RunFolderError(
            f"{path} must be a finished run, but it is {run.summary['status']}; "
            f"go on with `lrfinder run --resume {path}`"
        )
    compared = set() if run.comparison is None else set(run.comparison.seeds)
    if compared != set(run.summary["seeds"]["confirm"]):
        raise RunFolderError(
            f"{path / 'comparison.csv'} is missing or damaged; "
            f"`lrfinder run --resume {path}` mends it"
        )
    markdown.write(run, RunFolder(path))
    try:
        dashboard.enrich(run, dashboard.stored(run))
    except InvalidArgument as error:
        (progress or Silent()).say(f"note: the dashboard's notes are not made again: {error}")
    return run


class _Acts:
    """One pass through the acts of a run, writing its folder as it goes."""

    def __init__(
        self,
        problem: RunProblem,
        folder: RunFolder,
        name: str,
        progress: Progress,
        earlier: Run | None = None,
    ) -> None:
        self._problem, self._folder, self._name = problem, folder, name
        self._progress, self._earlier = progress, earlier
        self._began = time.monotonic()
        self._spent_before = 0.0
        self._noted = False
        self._opened = ExitStack()
        self._summary = first_summary(problem)
        if earlier is not None:
            self._spent_before = float(earlier.summary["cost"]["wall_seconds"])
            self._summary |= {k: earlier.summary[k] for k in ("range_test", "suggestion")}

    @cached_property
    def _storage(self) -> BaseStorage:
        """Storage of the studies; the folder's own is made when it is first asked for."""
        own = own_file(self._folder.storage)
        return self._problem.storage or self._opened.enter_context(own)

    def all(self) -> Run:
        """Range test, studies, comparison, report."""
        with self._folder.locked(), self._opened:
            self._save("running")
            try:
                self._train_and_report()
            except KeyboardInterrupt as error:
                self._save("interrupted")
                raise Interrupted(f"interrupted; {self._way_on()}") from error
            except TaskFailed as error:
                self._save("failed")
                raise TaskFailed(f"{error}; {self._way_on()}") from error
            except BaseException:
                self._save("failed")
                raise
            self._save("complete")
        return open_run(self._folder.path)

    def _train_and_report(self) -> None:
        chosen = self._prepare()
        with threads(chosen.threads), self._workers(chosen) as workers:
            suggestion = self._range_test(chosen)
            results = self._search(suggestion, chosen, workers)
            candidates = self._candidates(results)
            comparison = self._compare(candidates, chosen, workers)
        self._drop_other_curves(results, candidates)
        range_test = self._summary["range_test"]
        self._summary |= answers(self._problem, results, candidates, comparison)
        self._summary["cost"] |= cost_facts(self._problem, range_test, results, comparison)
        self._save("reporting")
        run = open_run(self._folder.path)
        markdown.write(run, self._folder)
        loop = training_loop(self._problem.task, self._problem.settings.task, run.summary)
        self._folder.write_text("best_schedule.py", loop)
        dashboard.enrich(run, self._storage)

    def _way_on(self) -> str:
        return f"go on with `lrfinder run --resume {self._folder.path}`"

    def _save(self, status: str) -> None:
        self._summary["status"] = status
        if status != "complete":  # what the report says, it was written just before
            spent = self._spent_before + time.monotonic() - self._began
            self._summary["cost"]["wall_seconds"] = round(spent, 3)
        self._folder.write_summary(self._summary)

    def _prepare(self) -> Engine:
        """Choose a trainer, and say what is to come."""
        problem, settings = self._problem, self._problem.settings
        notes = [*problem.notes, *problem.task.data(problem.device).notes()]
        notes = list(dict.fromkeys(notes))
        self._summary["notes"] = notes
        for note in notes:
            self._progress.say(f"note: {note}")
        works = {"studies": problem.search_work(), "comparison": problem.compare_work()}
        if settings.finds_lr and self._summary["suggestion"] is None:
            works = {"range test": problem.find_work(), **works}
        earlier = None if self._earlier is None else self._earlier.summary["engine"]
        if earlier is None:
            work = works["studies"]
            chosen = engine.choose(problem.task, problem.device, work, settings.engine)
        else:
            chosen = engine.again(problem.device, earlier)
        self._summary["engine"] = chosen.facts(settings.workers)
        at_most = "" if self._earlier is None else "at most "
        self._progress.say(at_most + estimate(works, chosen.speed, settings.workers))
        self._progress.say(engine_line(chosen.facts(settings.workers)))
        return chosen

    @contextmanager
    def _workers(self, chosen: Engine) -> Generator[Workers | None]:
        """The worker processes that are asked for, if any."""
        settings, capacity = self._problem.settings, chosen.trainer.capacity(self._problem.task)
        if settings.workers == 1:
            yield None
            return
        build = partial(_worker_problem, settings, chosen.trainer)
        with Workers(settings.workers, build, capacity) as workers:
            yield workers

    def _range_test(self, chosen: Engine) -> Suggestion | None:
        problem = self._problem
        if not problem.settings.finds_lr:
            return None
        if self._earlier is not None and self._earlier.suggestion is not None:
            return self._earlier.suggestion
        curve = _find(problem, chosen.trainer, self._progress)
        suggestion = curve.suggest()
        self._folder.write_curve(curve)
        self._summary["range_test"] = curve_facts(curve)
        self._summary["suggestion"] = suggestion_facts(suggestion)
        self._save("running")
        self._progress.say(suggestion_line(suggestion))
        return suggestion

    def _search(
        self, suggestion: Suggestion | None, chosen: Engine, workers: Workers | None
    ) -> list[FamilyResult]:
        problem, settings = self._problem, self._problem.settings
        spaces, why = problem.spaces(suggestion)
        self._summary["lr_search"] = {"why": why, "ranges": describe_ranges(spaces)}
        self._progress.say(why)
        work = problem.search_work()
        self._progress.stage("studies", work.runs * work.updates)
        results = search(
            problem.task,
            spaces,
            trials=settings.trials,
            seeds=problem.search_seeds,
            storage=self._storage,
            name=self._name,
            seed=settings.seed,
            measure=problem.measure,
            trainer=chosen.trainer,
            workers=workers,
            progress=self._progress.advance,
            trial_done=self._trial_done,
            deadline=self._deadline(chosen.speed),
            ask_size=self._ask_size,
            together=self._together(chosen),
        )
        self._folder.write_trials(results)
        return results

    def _trial_done(self, name: str, trial: int, history: History) -> None:
        self._folder.append_curves("search", name, trial, history)
        self._save("running")
        if not self._noted:  # the studies are there now; what the range test said can be read
            dashboard.enrich(open_run(self._folder.path), self._storage)
            self._noted = True

    def _together(self, chosen: Engine) -> int:
        """Trials to train at once: as many as are fast together, and keep all workers busy.

        Where that would take long, fewer, because an interrupt loses them.
        """
        problem, settings = self._problem, self._problem.settings
        seeds, workers = len(problem.search_seeds), settings.workers
        runs = max(chosen.population, 2 * workers if workers > 1 else 1)
        seconds = Work(runs, problem.updates, problem.task.epochs + 1).seconds(chosen.speed)
        trials = runs / seeds * min(1.0, LONG_ROUND * workers / seconds)
        return max(1 if settings.lr is None else self._ask_size, round(trials))

    @property
    def _ask_size(self) -> int:
        settings = self._problem.settings
        return ask_size(settings.trials, one_lr=settings.lr is not None)

    def _deadline(self, speed: Speed) -> float:
        """When the studies must stop, so that the comparison ends within the timeout."""
        timeout = self._problem.settings.timeout
        if timeout is None:
            return math.inf
        comparing = self._problem.compare_work().seconds(speed) / self._problem.settings.workers
        return self._began + max(timeout - comparing, timeout / 2)

    def _candidates(self, results: list[FamilyResult]) -> list[Candidate]:
        """Return the best of each family, and what the task uses today."""
        found: list[Candidate] = []
        for result in results:
            name, best = result.space.family.name, result.best
            if best is not None:
                found.append(Candidate(name, best.lr, best.schedule))
            else:
                ended = f"all {len(result.trials)} trials diverged" if result.trials else "no trial"
                self._summary["notes"].append(f"{name} {_NOT_COMPARED}: {ended}")
        if not found:
            raise TaskFailed(
                "every trial of every family diverged; "
                "search a lower lr (`lrfinder sweep --lr-range LOW HIGH`)"
            )
        baseline = self._problem.task.baseline
        if baseline is not None:
            schedule = baseline.schedule or Schedule(FAMILIES["constant"])
            found.append(Candidate(BASELINE, baseline.lr, schedule))
        return found

    def _compare(
        self, candidates: list[Candidate], chosen: Engine, workers: Workers | None
    ) -> Comparison:
        problem = self._problem
        earlier = () if self._earlier is None else self._earlier.confirmed
        known = [run for run in earlier if any(c.made(run) for c in candidates)]
        runs = len(candidates) * len(problem.confirm_seeds) - len(known)
        self._progress.stage("comparison", runs * problem.updates)

        def run_done(run: ConfirmedRun, history: History) -> None:
            known.append(run)
            self._folder.append_curves("confirm", run.candidate, None, history)
            self._folder.write_confirmed(known)
            self._save("running")

        comparison = compare(
            problem.task,
            candidates,
            seeds=problem.confirm_seeds,
            measure=problem.measure,
            direction=problem.direction,
            known=tuple(known),
            trainer=chosen.trainer,
            workers=workers,
            progress=self._progress.advance,
            run_done=run_done,
        )
        if all(run.diverged for run in comparison.runs):
            raise TaskFailed(
                "every candidate diverged on every fresh seed; "
                "search a lower lr (`lrfinder sweep --lr-range LOW HIGH`)"
            )
        return comparison

    def _drop_other_curves(self, results: list[FamilyResult], candidates: list[Candidate]) -> None:
        """Keep the curves of complete trials and of the candidates that are compared."""
        trials = {(r.space.family.name, t.number) for r in results for t in r.trials}
        lrs = {candidate.name: candidate.lr for candidate in candidates}

        def counts(act: str, name: str, trial: int, seed: int, peak_lr: float) -> bool:
            if act == "search":
                return (name, trial) in trials
            return name in lrs and math.isclose(lrs[name], peak_lr, rel_tol=1e-9)

        self._folder.keep_curves(counts)


def _write_config(folder: RunFolder, settings: RangeTestSettings) -> None:
    """Write what was asked, and which file it was asked of."""
    reference = TaskReference.parse(settings.task)
    facts = {
        "name": folder.path.resolve().name,
        "task_hash": reference.source_hash(),
        "version": version("lrfinder"),
    }
    options = settings.model_dump(exclude_none=True)
    folder.write_config({**options, "task": reference.text, "run": facts})


def _worker_problem(settings: RunSettings, trainer: Trainer) -> tuple[Task, Trainer]:
    return prepared_task(settings), trainer


def _find(problem: RangeTestProblem, trainer: Trainer, progress: Progress) -> Curve:
    settings, work = problem.find_settings, problem.find_work()
    progress.stage("range test", work.runs * work.updates)
    return range_test(
        problem.task,
        min_lr=settings.min_lr,
        max_lr=settings.max_lr,
        steps=settings.steps,
        seeds=problem.find_seeds,
        every=settings.every,
        growth=settings.growth,
        probes=settings.probes,
        trainer=trainer,
        progress=progress.advance,
    )
