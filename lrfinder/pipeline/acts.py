"""The three acts, each from values to values; what they find, the recorder keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.storages import BaseStorage

from lrfinder.comparison.candidates import Candidate, ConfirmedRun
from lrfinder.comparison.compare import compare_by_halving
from lrfinder.comparison.policy import Halving
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import TaskFailed
from lrfinder.experiment import Experiment, RangeTestExperiment
from lrfinder.pipeline.between_acts import as_begun
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.range_test import range_test
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report import dashboard
from lrfinder.report.progress import Progress
from lrfinder.results.opening import open_run
from lrfinder.results.recorder import RunRecorder
from lrfinder.results.summary import LRSearch
from lrfinder.training.engine import Engine
from lrfinder.training.executors.job import Crew
from lrfinder.training.records.history import History
from lrfinder.training.trainers.trainer import AnyTrainer
from lrfinder.tuning.lr_ranges import describe_ranges
from lrfinder.tuning.rounds import ask_size, deadline, round_size, trials_at_once
from lrfinder.tuning.search import search
from lrfinder.tuning.trials import FamilyResult


@dataclass(frozen=True)
class Workbench:
    """What the acts of one run work with."""

    experiment: Experiment
    engine: Engine
    crew: Crew
    recorder: RunRecorder
    progress: Progress


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
    bench: Workbench,
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
    spaces, why = as_begun(*experiment.spaces(suggestion), recorder.summary.lr_search)
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
    bench: Workbench,
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
