"""Act 3: every candidate trained on the same fresh seeds, none of which a search has seen."""

from collections.abc import Callable, Sequence

from lrfinder.checks import check_seeds
from lrfinder.comparison.candidates import Candidate, ConfirmedRun
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.problem import Problem
from lrfinder.training.executors import Executor, InProcess
from lrfinder.training.history import History, Plan
from lrfinder.training.trainer import AnyTrainer
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
    executor: Executor | None = None,
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
        executor: where it is trained instead; see `lrfinder.training.executors`.
        progress: called with the number of updates made since the last call.
        run_done: called with each run and its History as it finishes.
    """
    names = [candidate.name for candidate in candidates]
    if len(set(names)) < len(names) or not names:
        raise InvalidArgument(f"candidates need different names, but got {names}")
    check_seeds(seeds)
    valid = [run for run in known if any(c.made(run) for c in candidates)]
    made = {(run.candidate, run.seed): run for run in valid}
    todo = [(c, seed) for seed in seeds for c in candidates if (c.name, seed) not in made]

    def finished(rows: Sequence[int], history: History) -> None:
        outcomes = history.outcomes(measure, direction)
        for place, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
            candidate, seed = todo[row]
            alone = history.only(place)
            run = ConfirmedRun(
                candidate=candidate.name,
                lr=candidate.lr,
                schedule=str(candidate.schedule),
                seed=seed,
                value=outcome.start if outcome.diverged else outcome.final,
                diverged=outcome.diverged,
                updates=alone.updates_trained,
                measures={k: float(v[0, -1]) for k, v in alone.measures.items()},
            )
            made[candidate.name, seed] = run
            if run_done is not None:
                run_done(run, alone)

    plans = [Plan(candidate.lr, candidate.schedule, seed) for candidate, seed in todo]
    chosen = executor or InProcess(task, trainer)
    chosen.fit(plans, watch=measure, progress=progress, finished=finished)
    runs = tuple(made[name, seed] for name in names for seed in seeds)
    return Comparison(runs, measure, direction)
