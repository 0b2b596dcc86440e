"""Act 3: every candidate trained on the same fresh seeds, none of which a search has seen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from lrfinder.checks import check_seeds
from lrfinder.comparison.candidates import Candidate, ConfirmedRun, number_of
from lrfinder.comparison.policy import Halving, Look
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.fields.measures import evaluated
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem, check_problem
from lrfinder.training.executors.choice import AnyExecutor, at_work
from lrfinder.training.executors.job import Crew, Job, Setup
from lrfinder.training.records.history import History, Outcome, Plan
from lrfinder.training.trainers.trainer import AnyTrainer
from lrfinder.types import Direction


def compare(
    task: Problem,
    candidates: Sequence[Candidate],
    *,
    seeds: Sequence[int],
    measure: str = "loss",
    direction: Direction = "minimize",
    known: Sequence[ConfirmedRun] = (),
    trainer: AnyTrainer | None = None,
    executor: AnyExecutor | Crew | None = None,
    progress: Callable[[int], None] | None = None,
    run_done: Callable[[ConfirmedRun, History], None] | None = None,
) -> Comparison:
    """Train every candidate on every seed and compare them.

    Args:
        task: the problem; it needs a validation set.
        candidates: what is compared; names must differ.
        seeds: training seeds that no search has seen.
        measure, direction: what is compared, and which way is better.
        known: runs that were made before; those of the same candidates are not repeated.
        trainer: what trains; by default the sequential trainer.
        executor: where it is trained: InProcess(), the default; Processes(4), Ray("auto"), or a
            `concurrent.futures.Executor`.
        progress: called with the number of updates made since the last call.
        run_done: called with each run and its History as it finishes.
    """
    check_problem(task)
    check_seeds(seeds)
    names = _names(candidates)
    with at_work(executor, Setup(task, trainer)) as crew:
        bench = _Bench(crew, candidates, measure, direction, known)
        bench.train(names, seeds, progress, run_done)
    return Comparison(bench.runs(names, seeds), measure, direction)


def compare_by_halving(
    task: Problem,
    candidates: Sequence[Candidate],
    *,
    halving: Halving,
    seeds: Sequence[int],
    measure: str = "loss",
    direction: Direction = "minimize",
    known: Sequence[ConfirmedRun] = (),
    trainer: AnyTrainer | None = None,
    executor: AnyExecutor | Crew | None = None,
    progress: Callable[[int], None] | None = None,
    run_done: Callable[[ConfirmedRun, History], None] | None = None,
    look_begun: Callable[[Sequence[Look]], None] | None = None,
) -> Comparison:
    """Train candidates on ever more seeds, the better ones further; see `policy`.

    Args:
        task, candidates, measure, direction, known, trainer, executor, progress, run_done: those
            of `compare`.
        halving: how many runs there may be, and who is kept.
        seeds: training seeds that no search has seen, taken in turn as far as they are needed.
        look_begun: called with all looks, before anything of the last one is trained.
    """
    check_seeds(seeds)
    halving = replace(halving, may_part=_may_part(task, candidates))
    names, looks = _names(candidates), list[Look]()
    with at_work(executor, Setup(task, trainer)) as crew:
        bench = _Bench(crew, candidates, measure, direction, known)
        while True:
            runs = tuple(run for look in looks for run in bench.runs(look.trained, look.seeds))
            compared = Comparison(runs, measure, direction, tuple(looks))
            look = halving.next_look(names, seeds, looks, compared.results)
            if look is None:
                return compared
            looks.append(look)
            if look_begun is not None:
                look_begun(looks)
            bench.train(look.trained, look.seeds, progress, run_done)


def _may_part(task: Problem, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Candidates whose lrs follow what is measured; none where runs of the same lrs cost twice."""
    if isinstance(task, Loop):
        return ()
    return tuple(one.name for one in candidates if one.schedule.family.by_measure)


def _names(candidates: Sequence[Candidate]) -> list[str]:
    names = [candidate.name for candidate in candidates]
    if len(set(names)) < len(names) or not names:
        raise InvalidArgument(f"candidates need different names, but got {names}")
    return names


class _Bench:
    """Runs of a comparison: those that are known, and those that are trained."""

    def __init__(
        self,
        crew: Crew,
        candidates: Sequence[Candidate],
        measure: str,
        direction: Direction,
        known: Sequence[ConfirmedRun],
    ) -> None:
        self._candidates = {candidate.name: candidate for candidate in candidates}
        self._measure: str = measure
        self._direction: Direction = direction
        self._crew = crew
        valid = [run for run in known if any(c.made(run) for c in candidates)]
        self._made = {(run.candidate, run.seed): run for run in valid}

    def runs(self, names: Sequence[str], seeds: Sequence[int]) -> tuple[ConfirmedRun, ...]:
        """Runs of these candidates on these seeds, all of which were made."""
        return tuple(self._made[name, seed] for name in names for seed in seeds)

    def train(
        self,
        names: Sequence[str],
        seeds: Sequence[int],
        progress: Callable[[int], None] | None,
        run_done: Callable[[ConfirmedRun, History], None] | None,
    ) -> None:
        """Train these candidates on these seeds, where that was not done before."""
        todo = [
            (self._candidates[name], seed)
            for seed in seeds
            for name in names
            if (name, seed) not in self._made
        ]

        def finished(rows: Sequence[int], history: History) -> None:
            outcomes = history.outcomes(self._measure, self._direction)
            for place, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
                candidate, alone = todo[row][0], history.only(place)
                run = self._run(candidate, alone, outcome)
                self._made[candidate.name, run.seed] = run
                if run_done is not None:
                    run_done(run, alone)

        plans = [Plan(candidate.lr, candidate.schedule, seed) for candidate, seed in todo]
        self._crew.fit(Job(plans, self._measure, progress, finished))

    def _run(self, candidate: Candidate, alone: History, outcome: Outcome) -> ConfirmedRun:
        on_the_way = alone.measures[evaluated(self._measure, alone.measures)][0]
        best = on_the_way.min() if self._direction == "minimize" else on_the_way.max()
        return ConfirmedRun(
            candidate=candidate.name,
            lr=candidate.lr,
            schedule=str(candidate.schedule),
            seed=alone.plans[0].seed,
            value=outcome.start if outcome.diverged else outcome.final,
            diverged=outcome.diverged,
            updates=alone.updates_trained,
            measures={k: float(v[0, -1]) for k, v in alone.measures.items()},
            best=math.nan if outcome.diverged else float(best),
            lrs=number_of(alone.lr),
        )
