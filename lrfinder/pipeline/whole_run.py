"""A run from its first act, or the one it was interrupted in, to its report."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from optuna.storages import BaseStorage

from lrfinder.errors import Interrupted, StorageFailed, TaskFailed
from lrfinder.experiment import Experiment
from lrfinder.pipeline.acts import Workbench, comparison_act, range_test_act, search_act
from lrfinder.pipeline.between_acts import candidates_of, counted_runs, notes_on_runs_alike
from lrfinder.pipeline.where import build
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report import dashboard, markdown
from lrfinder.report.progress import Progress
from lrfinder.report.scripts.loop_script import loop_script
from lrfinder.report.scripts.training_script import training_loop
from lrfinder.report.wording import engine_line, estimate, suggestion_line
from lrfinder.results.folder import RunFolder, command_to_resume
from lrfinder.results.opening import open_run
from lrfinder.results.recorder import RunRecorder
from lrfinder.results.saved_run import Run
from lrfinder.tasks.fingerprint import check_same, fingerprint
from lrfinder.tasks.loops.loop import Loop
from lrfinder.training import engine
from lrfinder.training.engine import Engine
from lrfinder.training.executors.in_process import InProcess
from lrfinder.training.executors.job import Executor, Setup
from lrfinder.training.forks import why_not_forked
from lrfinder.training.speed import threads
from lrfinder.tuning.interrupts import deferred
from lrfinder.tuning.storages.storage import own_file
from lrfinder.workers.parent import beside_workers, claimed_storage

_OTHER_THAN_BEFORE = (
    "the {what} must be those that the run began with, but the task has others now; start a new "
    "run, and where they are drawn at random, seed them in the task file first "
    "(torch.manual_seed(0) at its top)"
)


def all_acts(
    experiment: Experiment,
    recorder: RunRecorder,
    name: str,
    progress: Progress,
    earlier: Run | None = None,
    continued: int | None = None,
    executor: Executor | None = None,
) -> Run:
    """Range test, studies, comparison and report, under the folder's lock.

    `continued` is how many runs a comparison that is continued may have in all. The studies and the
    comparison are trained by the executor, by default in this process.
    """
    path = recorder.folder.path
    way_on = f"go on with `{_command_to_resume(experiment, path)}`"
    made = None if earlier is None else earlier.answers.fingerprint
    with recorder.folder.locked():
        if made is not None:
            check_same(experiment.task, experiment.device, made, _OTHER_THAN_BEFORE)
        recorder.save("running")
        try:
            where = executor or InProcess()
            _train_and_report(experiment, recorder, name, progress, where, earlier, continued)
        except KeyboardInterrupt as error:
            with deferred():
                recorder.save("interrupted")
            raise Interrupted(f"interrupted; {way_on}") from error
        except (TaskFailed, StorageFailed) as error:
            recorder.save("failed")
            raise type(error)(f"{error}; {way_on}") from error
        except BaseException:
            recorder.save("failed")
            raise
        recorder.save("complete")
    return open_run(path)


def _train_and_report(
    experiment: Experiment,
    recorder: RunRecorder,
    name: str,
    progress: Progress,
    executor: Executor,
    earlier: Run | None,
    continued: int | None,
) -> None:
    with ExitStack() as opened:
        shared = opened.enter_context(claimed_storage(experiment, name, progress))
        chosen = _choose_engine(experiment, recorder, progress, earlier)
        made = None if earlier is None else earlier.answers.fingerprint
        made = made or fingerprint(experiment.task, experiment.device)
        recorder.note(fingerprint=made)
        setup = Setup(experiment.task, chosen.trainer, build(experiment, chosen, made))
        with threads(chosen.threads), executor.at_work(setup) as crew:
            finished = earlier is not None and earlier.answers.status == "complete"
            over = finished and continued is None
            _show_what_comes(
                experiment, recorder, progress, chosen, crew.workers, earlier, over=over
            )
            if shared is not None:
                crew = beside_workers(crew, shared, experiment, chosen, made, progress)
            bench = Workbench(experiment, chosen, crew, recorder, progress)
            suggestion = _suggestion(bench)
            storage = (
                opened.enter_context(own_file(recorder.folder.storage))
                if shared is None
                else shared.storage
            )
            # the best of a run that compares already stay what they are
            again = earlier is None or not earlier.whole
            results = search_act(bench, suggestion, storage, name, again=again)
            recorder.folder.write_trials(results)
            candidates, of_studies = candidates_of(results, experiment, suggestion)
            recorder.note(notes=[*recorder.summary.notes, *of_studies])
            known = [] if earlier is None else earlier.whole
            known = [run for run in known if any(c.made(run) for c in candidates)]
            halving = replace(experiment.halving, continued=continued)
            recorder.begin_comparison(known, halving)
            comparison = comparison_act(bench, candidates, known, halving)
            alike = notes_on_runs_alike(comparison, candidates)
            recorder.note(notes=[*recorder.summary.notes, *alike])
        recorder.folder.keep_curves(counted_runs(results, candidates))
        later = experiment.task.data(experiment.device).later_notes()
        recorder.note(notes=list(dict.fromkeys([*recorder.summary.notes, *later])))
        recorder.note_answers(experiment, results, candidates, comparison)
        recorder.save("reporting")
        _report(open_run(recorder.folder.path), experiment, recorder.folder, storage)


def _choose_engine(
    experiment: Experiment, recorder: RunRecorder, progress: Progress, earlier: Run | None
) -> Engine:
    """Choose a trainer, and say what was noticed so far."""
    settings, task, device = experiment.settings, experiment.task, experiment.device
    notes = list(dict.fromkeys([*experiment.notes, *task.data(device).notes()]))
    for note in notes:
        progress.say(f"note: {note}")
    record = None if earlier is None else earlier.answers.engine
    if record is None:
        chosen = engine.choose(task, device, experiment.search_work(), settings.engine)
    else:
        chosen = engine.again(device, record)
    why_not = why_not_forked(task, chosen.trainer)
    if why_not is not None:
        notes.append(f"runs that begin alike are trained one by one: {why_not}")
        progress.say(f"note: {notes[-1]}")
    recorder.note(notes=notes)
    return chosen


def _show_what_comes(
    experiment: Experiment,
    recorder: RunRecorder,
    progress: Progress,
    chosen: Engine,
    workers: int,
    earlier: Run | None,
    *,
    over: bool,
) -> None:
    """Record what trains, and say how long it will take with so many workers, unless it is over."""
    works = {"studies": experiment.search_work(), "comparison": experiment.compare_work()}
    if experiment.settings.finds_lr and recorder.summary.range_test is None:
        works = {"range test": experiment.find_work(), **works}
    record = chosen.record(workers)
    recorder.note(engine=record)
    if over:
        progress.say("the run is finished; only what its folder has lost is trained again")
    else:
        at_most = "" if earlier is None else "at most "
        progress.say(at_most + estimate(works, chosen.speed, workers))
    progress.say(engine_line(record))


def _suggestion(bench: Workbench) -> Suggestion | None:
    """What the range test suggests, which is made unless the run has one; None without any.

    One whose table was lost is made again; what it suggested stays.
    """
    experiment, recorder = bench.experiment, bench.recorder
    if not experiment.settings.finds_lr:
        return None
    earlier = recorder.summary.suggestion
    if earlier is not None and recorder.summary.range_test is not None:
        return earlier
    curve = range_test_act(experiment, bench.engine.trainer, bench.progress)
    suggestion = earlier or curve.suggest()
    recorder.range_test(curve, suggestion)
    bench.progress.say(suggestion_line(suggestion))
    return suggestion


def _report(run: Run, experiment: Experiment, folder: RunFolder, storage: BaseStorage) -> None:
    markdown.write(run, folder)
    task, source, best = experiment.task, experiment.reference, run.answers.winner
    is_loop = isinstance(task, Loop)
    text = loop_script(task, source, best) if is_loop else training_loop(task, source, best)
    folder.write_text("best_schedule.py", text)
    dashboard.enrich(run, storage, pictures=False)


def _command_to_resume(experiment: Experiment, path: Path) -> str:
    if experiment.reference is None:
        return f"lrfinder.run(task, resume={str(path)!r})"
    return command_to_resume(path)
