"""Optuna studies, one per decay family, over the family's parameters and its initial learning rate.

A trial is one schedule, trained once per training seed; its objective is the mean over those seeds
of the final validation measure. All trials of all families train on the same seeds, so that
schedules are compared on the same luck. Every family gets the same number of trials, or one that
can still win gets those of the others (`lrfinder.tuning.shares`); in turns, so that a timeout is
fair. The best few of a family may be trained on other seeds, which they do not owe their place
to; then the mean decides. Of the constant lr, by which decays are judged, more go on to more seeds.

    ask ─> lr and parameters ─> Schedule ─> Plans, one per seed ─> fit ─> tell

Trials of different families are asked and trained together: no study knows less for it. Within a
family `ask_size` trials are; what is drawn before any result is used is asked at once.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna
from threadpoolctl import threadpool_limits

from lrfinder.checks import check_count, check_seeds
from lrfinder.tasks.problem import Problem, check_problem
from lrfinder.training.executors.choice import AnyExecutor, at_work
from lrfinder.training.executors.job import Crew, Job, Setup
from lrfinder.training.records.history import History, Plan
from lrfinder.training.trainers.trainer import AnyTrainer
from lrfinder.tuning.interrupts import deferred
from lrfinder.tuning.samplers import MakeSampler, sampler_for
from lrfinder.tuning.second_looks import MOST_STAGES
from lrfinder.tuning.shares import even_goals, goals, trials_of_scout
from lrfinder.tuning.space import Space
from lrfinder.tuning.storages.storage import open_storage
from lrfinder.tuning.study import FamilyStudy, PendingTrial
from lrfinder.tuning.trials import Conditions, FamilyResult, TrialDone


def search(
    task: Problem,
    spaces: Sequence[Space],
    *,
    trials: int,
    seeds: Sequence[int],
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str = "lrfinder",
    seed: int = 0,
    measure: str = "loss",
    even: bool = True,
    every_family: bool = False,
    again: Sequence[int] = (),
    ask_size: int = 1,
    together: int | Callable[[], int] | None = None,
    round_size: int = 1,
    trainer: AnyTrainer | None = None,
    executor: AnyExecutor | Crew | None = None,
    progress: Callable[[int], None] | None = None,
    trial_done: TrialDone | None = None,
    deadline: float = math.inf,
    sampler: MakeSampler = sampler_for,
) -> list[FamilyResult]:
    """Search every space until its family has its trials, or the deadline has passed.

    Args:
        task: the problem; it needs a validation set.
        spaces: what each family's study searches.
        trials: COMPLETE trials per family, those already in the storage included.
        seeds: training seeds, the same for every trial.
        storage: URL or storage of Optuna; in memory by default.
        name: studies are called "<name>-<family>".
        seed: of the samplers, together with the number of trials already in the storage.
        measure: what is optimised, in the direction of the spaces: "loss" or a metric after the
            last epoch; with "best_" before it of the best epoch.
        even: every family gets `trials`; else that is the average, and those whose best values are
            worst get fewer, the others more; and one family looks for the lr before the others.
        every_family: none is left out, so that none looks for the lr where `trials` is 1.
        again: training seeds of the best few trials of each family besides; of the constant lr in
            three stages, the last of which has all of them, of other families the first seed; the
            mean with them decides which trial is the best.
        ask_size: trials of a family that are asked without knowing each other's result, of
            `trials`; of more in proportion more.
        together: trials, over all families, that are asked and trained together at most; by
            default `ask_size`, or as many as keep the workers of the executor busy. A function is
            asked before each round: workers come and go.
        round_size: trials, over all families, that are worth a round of training: as many are asked
            at once, or all where fewer would be left for the next round.
        trainer: what trains; by default the sequential trainer.
        executor: where it is trained: InProcess(), the default; Processes(4), Ray("auto"), or a
            `concurrent.futures.Executor`.
        progress: called with the number of updates made since the last call.
        trial_done: called with family, trial number and History just before a trial is told.
        deadline: time.monotonic() after which no further trial is asked; every family gets one.
        sampler: makes the sampler of each family's study.

    Raises InvalidArgument for a budget in which a family cannot decay or a storage that cannot be
    opened, and TaskFailed when the task's code raises; trials in flight are then told as FAIL.
    """
    check_problem(task)
    check_count("trials", trials)
    check_seeds([*seeds, *again])
    for space in spaces:
        space.check_budget()
    metrics = task.measures[1:]
    conditions = Conditions(
        task.name, trials, tuple(seeds), seed, measure, metrics, trial_done, sampler
    )
    opened = open_storage(storage)
    with deferred():
        studies = [FamilyStudy(conditions, space, opened, name) for space in spaces]
    if progress is not None:
        device = None if trainer is None else trainer.device
        runs = len(seeds) * sum(len(study.complete) for study in studies)
        runs += sum(study.second_looks for study in studies)
        progress(runs * task.epochs * task.data(device).updates_per_epoch)

    scout = None if even or (every_family and trials == 1) else _scout(studies, trials)
    with at_work(executor, Setup(task, trainer)) as crew:
        while True:
            _set_goals(studies, scout, trials, even=even, over=time.monotonic() >= deadline)
            waiting = [study for study in studies if study.goes_on(deadline)]
            if not waiting:
                break
            at_once = together() if callable(together) else together
            size = at_once or max(ask_size, _for_all(crew.workers, len(seeds)))
            asked = _ask(waiting, ask_size / trials, size, round_size)
            try:
                crew.fit(_job(asked, seeds, measure, progress))
            except BaseException:
                _fail(asked)
                raise
        for _ in range(MOST_STAGES if again else 0):
            over = time.monotonic() >= deadline
            if over or not _look_again(studies, again, crew, measure, progress):
                break
    with deferred():
        return [study.result() for study in studies]


def _scout(studies: Sequence[FamilyStudy], trials: int) -> FamilyStudy | None:
    """The family that looks for the lr; None where none can, or there are too few trials for it."""
    able = [study for study in studies if study.can_scout]
    if not able:
        return None
    scout = min(able, key=lambda study: study.told.rank)
    scout.scouts_with = trials_of_scout(len(studies), trials)
    return scout if scout.scouts_with else None


def _set_goals(
    studies: Sequence[FamilyStudy],
    scout: FamilyStudy | None,
    trials: int,
    *,
    even: bool,
    over: bool,
) -> None:
    """Set how many trials each is to reach now; they begin where the scout has found the lr.

    The scout is `over` after the deadline, or where others have begun without it.
    """
    told = [study.told for study in studies]
    factor = 1.0
    if scout is not None:
        scout.begin()
        place = studies.index(scout)
        over = over or any(one.values for k, one in enumerate(told) if k != place)
        stands = scout.scouting(over=over)
        told[place] = replace(told[place], scouting=stands)
        factor = scout.found_lr(stands.trials)
    found = even_goals(told, trials) if even else goals(told, trials)
    for study, goal in zip(studies, found, strict=True):
        study.goal = goal
        if goal > 0:
            study.begin(factor)


def _for_all(workers: int, seeds: int) -> int:
    """Trials that keep so many workers busy, each with a part to train next."""
    return math.ceil(2 * workers / seeds) if workers > 1 else 1


def _job(
    asked: Sequence[PendingTrial],
    seeds: Sequence[int],
    measure: str,
    progress: Callable[[int], None] | None,
) -> Job:
    """Trials to train on all seeds, which are told of each run."""
    owners = [one for _ in seeds for one in asked]
    recipes = [(one.recipe, seed) for seed in seeds for one in asked]
    plans = [Plan(recipe.lr, recipe.schedule, seed) for recipe, seed in recipes]

    def finished(rows: Sequence[int], history: History) -> None:
        for place, row in enumerate(rows):
            owners[row].record_run(history.only(place))

    return Job(plans, measure, progress, finished)


def _look_again(
    studies: Sequence[FamilyStudy],
    seeds: Sequence[int],
    crew: Crew,
    measure: str,
    progress: Callable[[int], None] | None,
) -> bool:
    """Train the best trials of each family on the other seeds of their next stage, if any has one.

    Whether any had.
    """
    with deferred():
        results = [(study, study.result()) for study in studies]
    waiting = [(s, *one) for s, found in results for one in found.contenders(len(seeds))]
    chosen = [(study, one, seeds[one.looks : count]) for study, one, count in waiting]
    looks = [(study, trial, len(own)) for study, trial, own in chosen for _ in own]
    plans = [Plan(one.lr, one.schedule, seed) for _, one, own in chosen for seed in own]
    made: dict[tuple[str, int], list[History]] = {}

    def finished(rows: Sequence[int], history: History) -> None:
        for place, row in enumerate(rows):
            study, trial, count = looks[row]
            runs = made.setdefault((study.family, trial.number), [])
            runs.append(history.only(place))
            if len(runs) == count:
                study.look_again(trial.number, History.joined(runs))

    if plans:
        crew.fit(Job(plans, measure, progress, finished))
    return bool(plans)


def _ask(
    studies: Sequence[FamilyStudy], share: float, together: int, round_size: int
) -> list[PendingTrial]:
    """Ask for the trials of one round, of the families with the fewest complete trials first.

    A family is asked for this share of its trials, or all it misses where too few would be left.

    BLAS gets a single thread: the samplers' matrices are tiny, and its threads would only spin.
    """
    asked: list[PendingTrial] = []
    try:
        with threadpool_limits(1, user_api="blas"):
            ordered = sorted(studies, key=lambda study: len(study.complete))
            missing, least = [s.missing for s in ordered], -(-round_size // len(ordered))
            wanted = [
                min(m, max(least, s.wanted(share))) for s, m in zip(ordered, missing, strict=True)
            ]
            if sum(missing) - sum(wanted) < round_size:
                wanted = missing
            for study, count in zip(ordered, wanted, strict=True):
                room = together - len(asked)
                if room == 0:
                    break
                asked.extend(study.ask(min(room, count)))
    except BaseException:
        _fail(asked)
        raise
    return asked


def _fail(asked: Sequence[PendingTrial]) -> None:
    with deferred():
        for one in asked:
            one.study.fail(one)
