"""The three acts of a run, and what happens between them.

    range test ─> suggestion ─> lr range of each family ─> studies ─> best of each
               ─> comparison ─> report

Each act goes from values to values, and leaves its files behind when it ends, so that a run that
was interrupted is resumed from its folder: the range test is read back, the studies go on in their
storage, and confirmed runs are not repeated.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from optuna.storages import BaseStorage

from lrfinder.comparison.candidates import BASELINE, Candidate, ConfirmedRun
from lrfinder.comparison.compare import compare_by_halving
from lrfinder.comparison.policy import Halving
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import Interrupted, InvalidArgument, StorageFailed, TaskFailed
from lrfinder.experiment import Experiment, RangeTestExperiment, prepared_task
from lrfinder.range_tests.curve import NO_EFFECT, SEEDS_ALIKE, Curve
from lrfinder.range_tests.range_test import range_test
from lrfinder.range_tests.suggestion import Suggestion
from lrfinder.report import dashboard, markdown
from lrfinder.report.dashboard_attributes import save_note
from lrfinder.report.loop_script import loop_script
from lrfinder.report.progress import Progress
from lrfinder.report.training_script import training_loop
from lrfinder.report.wording import engine_line, estimate, suggestion_line
from lrfinder.results.folder import RunFolder, command_to_resume
from lrfinder.results.recorder import RunRecorder
from lrfinder.results.saved_run import Run, open_run
from lrfinder.results.summary import LRSearch
from lrfinder.settings import RunSettings
from lrfinder.tasks.fingerprint import Fingerprint, check_same, fingerprint
from lrfinder.tasks.loading import load_task
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.training import engine
from lrfinder.training.engine import Engine
from lrfinder.training.executors.choice import AnyExecutor, executor_of
from lrfinder.training.executors.in_process import InProcess
from lrfinder.training.executors.job import Build, Crew, Executor, Setup
from lrfinder.training.executors.on_ray import Ray
from lrfinder.training.executors.processes import Processes
from lrfinder.training.forks import why_not_forked
from lrfinder.training.history import History
from lrfinder.training.speed import threads
from lrfinder.training.trainer import AnyTrainer
from lrfinder.tuning.interrupts import deferred
from lrfinder.tuning.lr_ranges import describe_ranges
from lrfinder.tuning.rounds import ask_size, deadline, round_size, trials_at_once
from lrfinder.tuning.search import search
from lrfinder.tuning.space import Space
from lrfinder.tuning.storage import close, open_storage, own_file
from lrfinder.tuning.storage_urls import is_for_one_machine
from lrfinder.tuning.trials import FamilyResult
from lrfinder.workers.claims import Claim, claimed
from lrfinder.workers.description import Description, Extent
from lrfinder.workers.executor import WithWorkers
from lrfinder.workers.mailbox import Mailbox

NOT_COMPARED, NOT_COUNTED = "is not compared", "is not counted"
OF_THE_STUDIES = (NOT_COMPARED, NOT_COUNTED)
"""What notes say that come from what the studies hold; a resumed run says anew what holds."""

_OTHER_THAN_BEFORE = (
    "the {what} must be those that the run began with, but the task has others now; start a new "
    "run, and where they are drawn at random, seed them in the task file first "
    "(torch.manual_seed(0) at its top)"
)
_OTHER_IN_WORKER = (
    "the {what} must be the same in every process, but a worker that loaded the task has others; "
    "seed them in the task file (torch.manual_seed(0) at its top), or use workers 1"
)


def range_test_act(
    experiment: RangeTestExperiment,
    trainer: AnyTrainer,
    progress: Progress,
    timeout: float | None = None,
) -> Curve:
    """Act 1: the range test of an experiment, ended after so many seconds."""
    settings = experiment.find_settings
    progress.stage("range test", experiment.find_updates)
    return range_test(
        experiment.task,
        min_lr=settings.min_lr,
        max_lr=settings.max_lr,
        steps=settings.steps,
        seeds=experiment.find_seeds,
        every=settings.every,
        growth=settings.growth,
        probes=settings.probes,
        cost=settings.cost,
        timeout=timeout,
        trainer=trainer,
        progress=progress.advance,
    )


def search_act(
    bench: "Workbench",
    suggestion: Suggestion | None,
    storage: BaseStorage,
    name: str,
    *,
    again: bool = True,
) -> list[FamilyResult]:
    """Act 2: a study per family, in the storage, under names that begin with this one.

    `again`: whether the best few trials may be trained on another seed.
    """
    experiment, recorder = bench.experiment, bench.recorder
    settings, speed = experiment.settings, bench.engine.speed
    spaces, why = _as_begun(*experiment.spaces(suggestion), recorder.summary.lr_search)
    recorder.note(lr_search=LRSearch(why=why, ranges=describe_ranges(spaces)))
    bench.progress.say(why)
    work, population = experiment.search_work(), bench.engine.population
    bench.progress.stage("studies", work.runs * work.updates)
    seeds, workers = experiment.search_seeds, bench.crew.workers
    size = ask_size(settings.trials, one_lr=settings.lr is not None)
    comparison = experiment.compare_work().seconds(speed) / workers

    def together() -> int:
        count = bench.crew.workers  # some may have joined
        most = trials_at_once(experiment.training, len(seeds), speed, population, count)
        return max(1 if settings.lr is None else size, most)

    def trial_done(family: str, number: int, history: History) -> None:
        first = not (recorder.folder.path / "curves.csv").exists()
        recorder.trial(family, number, history)
        if first:  # the studies are there now; what the range test says can be read
            dashboard.enrich(open_run(recorder.folder.path), storage, pictures=False)

    return search(
        experiment.task,
        spaces,
        trials=settings.trials,
        even=settings.even,
        every_family=experiment.families_named,
        seeds=seeds,
        again=experiment.second_seeds if again else (),
        storage=storage,
        name=name,
        seed=settings.seed,
        measure=experiment.measure,
        trainer=bench.engine.trainer,
        executor=bench.crew,
        progress=bench.progress.advance,
        trial_done=trial_done,
        deadline=deadline(recorder.began, settings.timeout, comparison),
        ask_size=size,
        together=together,
        round_size=round_size(len(seeds), population, together()),
    )


def comparison_act(
    bench: "Workbench",
    candidates: Sequence[Candidate],
    known: Sequence[ConfirmedRun],
    halving: Halving,
) -> Comparison:
    """Act 3: the candidates on fresh seeds; runs of them that are known are not made again."""
    experiment = bench.experiment
    most = max(halving.continued or halving.runs, len(known)) - len(known)
    left = most * experiment.updates
    bench.progress.stage("comparison", left)

    def advance(updates: int) -> None:
        nonlocal left
        counted = min(updates, left)  # of followers, which are not counted, there may be more
        left -= counted
        bench.progress.advance(counted)

    comparison = compare_by_halving(
        experiment.task,
        candidates,
        halving=halving,
        seeds=experiment.confirm_seeds,
        measure=experiment.measure,
        direction=experiment.direction,
        known=known,
        trainer=bench.engine.trainer,
        executor=bench.crew,
        progress=advance,
        run_done=bench.recorder.confirmed,
        look_begun=bench.recorder.look,
    )
    bench.progress.advance(left)  # what need not be made
    if all(run.diverged for run in comparison.runs):
        raise TaskFailed(
            "every candidate diverged on every fresh seed; "
            "search a lower lr (`lrfinder sweep --lr-range LOW HIGH`)"
        )
    return comparison


@dataclass(frozen=True)
class Workbench:
    """What the acts of one run work with."""

    experiment: Experiment
    engine: Engine
    crew: Crew
    recorder: RunRecorder
    progress: Progress


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
        shared = opened.enter_context(_claimed_storage(experiment, name, progress))
        chosen = _choose_engine(experiment, recorder, progress, earlier)
        made = None if earlier is None else earlier.answers.fingerprint
        made = made or fingerprint(experiment.task, experiment.device)
        recorder.note(fingerprint=made)
        setup = Setup(experiment.task, chosen.trainer, _build(experiment, chosen, made))
        with threads(chosen.threads), executor.at_work(setup) as crew:
            finished = earlier is not None and earlier.answers.status == "complete"
            over = finished and continued is None
            _show_what_comes(
                experiment, recorder, progress, chosen, crew.workers, earlier, over=over
            )
            if shared is not None:
                crew = _beside_workers(crew, shared, experiment, chosen, made, progress)
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
            candidates, of_studies = _candidates(results, experiment, suggestion)
            recorder.note(notes=[*recorder.summary.notes, *of_studies])
            known = [] if earlier is None else earlier.whole
            known = [run for run in known if any(c.made(run) for c in candidates)]
            halving = replace(experiment.halving, continued=continued)
            recorder.begin_comparison(known, halving)
            comparison = comparison_act(bench, candidates, known, halving)
            alike = _notes_on_runs_alike(comparison, candidates)
            recorder.note(notes=[*recorder.summary.notes, *alike])
        recorder.folder.keep_curves(_counted_runs(results, candidates))
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


def _as_begun(spaces: list[Space], why: str, earlier: LRSearch | None) -> tuple[list[Space], str]:
    """The spaces with the lr ranges in which an earlier part of the run has searched, if it has."""
    if earlier is None or not {space.family.name for space in spaces} <= set(earlier.ranges):
        return spaces, why
    bounds = [(space, *earlier.ranges[space.family.name]) for space in spaces]
    return [replace(space, lr_low=low, lr_high=high) for space, low, high in bounds], earlier.why


def _candidates(
    results: Sequence[FamilyResult], experiment: Experiment, suggestion: Suggestion | None
) -> tuple[list[Candidate], list[str]]:
    """Return what is compared, and notes on what is left out."""
    found: list[Candidate] = []
    left_out: list[str] = []
    for result in results:
        name, best = result.space.family.name, result.best
        if result.by_hand:
            by_hand = f"{result.by_hand} trial{'s'[: result.by_hand != 1]}"
            left_out.append(
                f"what was put into the study of {name} by hand {NOT_COUNTED}: {by_hand}"
            )
        if best is not None:
            found.append(Candidate(name, best.lr, best.schedule))
        else:
            none = "so few trials went to the lr and to other families (--trials 2 tries all)"
            ended = f"all {len(result.trials)} trials diverged" if result.trials else none
            left_out.append(f"{name} {NOT_COMPARED}: {ended}")
    if not found:
        raise TaskFailed(
            "every trial of every family diverged; "
            "search a lower lr (`lrfinder sweep --lr-range LOW HIGH`)"
        )
    start = experiment.start(suggestion)
    if start is not None:
        found.append(start)
    if experiment.task.baseline is not None:
        recipe = experiment.task.baseline.recipe
        found.append(Candidate(BASELINE, recipe.lr, recipe.schedule))
    return found, left_out


def _notes_on_runs_alike(comparison: Comparison, candidates: Sequence[Candidate]) -> list[str]:
    """Notes where seeds, or lrs and schedules, made no difference at all."""
    finals: dict[str, dict[int, list[float]]] = {}
    for run in comparison.runs:  # an accuracy alone may be 1 in all of them
        finals.setdefault(run.candidate, {})[run.seed] = list(run.measures.values())
    notes: list[str] = []
    several = all(len(own) > 1 for own in finals.values())
    if several and all(_alike(list(own.values())) for own in finals.values()):
        notes.append(SEEDS_ALIKE)
    recipes = {one.recipe for one in candidates}
    common = set.intersection(*(set(own) for own in finals.values()))
    by_seed = [[own[seed] for own in finals.values()] for seed in common]
    if len(recipes) > 1 and all(_alike(values) for values in by_seed):
        notes.append(NO_EFFECT)
    return notes


def _alike(values: Sequence[Sequence[float]]) -> bool:
    """Whether runs ended with the same measures, but for the order in which one program adds."""
    return bool(np.allclose(values, values[0], rtol=1e-12, atol=0))


def _counted_runs(
    results: Sequence[FamilyResult], candidates: Sequence[Candidate]
) -> Callable[[str, str, int, int, float], bool]:
    """Which curves are kept: those of complete trials and of the candidates that are compared."""
    trials = {(r.space.family.name, t.number) for r in results for t in r.trials}
    lrs = {(candidate.name, candidate.lr) for candidate in candidates}

    def counts(act: str, name: str, trial: int, seed: int, peak_lr: float) -> bool:
        return (name, trial) in trials if act == "search" else (name, peak_lr) in lrs

    return counts


def _report(run: Run, experiment: Experiment, folder: RunFolder, storage: BaseStorage) -> None:
    markdown.write(run, folder)
    task, source, best = experiment.task, experiment.reference, run.answers.winner
    is_loop = isinstance(task, Loop)
    text = loop_script(task, source, best) if is_loop else training_loop(task, source, best)
    folder.write_text("best_schedule.py", text)
    dashboard.enrich(run, storage, pictures=False)


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


def _build(experiment: Experiment, chosen: Engine, made: Fingerprint) -> Build:
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


@dataclass(frozen=True)
class _SharedStorage:
    """A storage that others may use, with the claim on this run's name in it."""

    storage: BaseStorage
    claim: Claim
    for_workers: bool


@contextmanager
def _claimed_storage(
    experiment: Experiment, name: str, progress: Progress
) -> Generator[_SharedStorage | None]:
    """The storage that was asked for, with the run's name claimed; None where none was."""
    asked = experiment.settings.storage
    if asked is None:
        yield None
        return
    storage = open_storage(asked)
    try:
        with claimed(storage, name, progress.say) as claim:
            yield _SharedStorage(storage, claim, not is_for_one_machine(asked))
    finally:
        close(storage)


def _beside_workers(
    here: Crew,
    shared: _SharedStorage,
    experiment: Experiment,
    chosen: Engine,
    made: Fingerprint,
    progress: Progress,
) -> Crew:
    """Train here and by workers that join; here alone where the storage is for one machine."""
    if not shared.for_workers:
        return here
    mailbox = Mailbox(shared.storage, shared.claim.study)
    mailbox.clear()
    extent = Extent.of(experiment.task, experiment.device)
    source = "" if experiment.reference is None else experiment.reference.source_hash()
    about = Description(experiment.settings, made, chosen.record(), extent, source)
    mailbox.describe(about.values())
    capacity = chosen.trainer.capacity(experiment.task)
    if here.workers > 1:
        capacity *= 2 * here.workers  # what is trained here at a time keeps them all busy
    write = partial(save_note, shared.storage, shared.claim.study)
    return WithWorkers(here, mailbox, shared.claim, capacity, extent, progress.say, write)


def _command_to_resume(experiment: Experiment, path: Path) -> str:
    if experiment.reference is None:
        return f"lrfinder.run(task, resume={str(path)!r})"
    return command_to_resume(path)
