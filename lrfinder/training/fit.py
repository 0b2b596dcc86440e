"""Train a population of plans: the one training function of the project.

`fit` turns every plan into rows of learning rates and hands them to a trainer, epoch by epoch.
Plans of one seed and one peak lr are a single run for as long as their learning rates agree; at the
epoch where they part, the run is forked:

    plans ─ by seed and lr ─> runs, no more at a time than the trainer's capacity ─> start
        each epoch:  schedule -> lr rows ─> do a run's plans part? fork it
                     ─> advance ─> losses ─> diverged? drop the run
                     at evaluation points: evaluate ─> measures ─> next epoch's schedules (plateau)
    finished plans are handed out at once

Sharing needs no knowledge of schedules and is exact: a forked run goes on as if it had been trained
alone. Where an experiment shows that a run cannot be forked (`forks.py`), nothing is shared. Where
a fork makes more runs than the trainer holds, the branches with the fewest plans are trained to
their end first, on a copy, and the heaviest goes on in place: of n plans, no more than log2(n)
populations ever wait.

The learning rates come from live torch schedulers; nothing else in the project steps them.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, cast

from lrfinder.checks import check_is, shown_value
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.measures import evaluated
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem, check_problem
from lrfinder.tasks.user_code import user_code
from lrfinder.training.forks import why_not_forked
from lrfinder.training.prefix_tree import Finished, Stop, TreeWalk, may_share, together
from lrfinder.training.records.history import History, Plan
from lrfinder.training.records.record import Record
from lrfinder.training.trainers.driven import check_trains, reference_trainer
from lrfinder.training.trainers.trainer import AnyTrainer


def fit(
    task: Problem,
    plans: Sequence[Plan],
    *,
    updates: int | None = None,
    evaluate_every: int | Literal["epoch"] = "epoch",
    evaluate_on: Iterable[Batch] | None = None,
    watch: str = "loss",
    trainer: AnyTrainer | None = None,
    progress: Callable[[int], None] | None = None,
    finished: Finished | None = None,
    stop: Stop | None = None,
    at_end: Mapping[str, Iterable[Batch]] | None = None,
    on: Iterable[Batch] | None = None,
) -> History:
    """Train one run per plan and record what happened.

    Args:
        task: the problem; runs are built fresh from their seeds.
        plans: peak lr, schedule and seed of each run.
        updates: length of every run; by default the task's epochs.
        evaluate_every: evaluate after each epoch, or every so many updates; also before the first
            update and after the last.
        evaluate_on: batches, by default the task's validation set; an iterator is read once.
        watch: the measure that adaptive schedules (plateau) are given after each epoch; the most
            recent finite one, where it is not evaluated then. For "best_loss" that is the loss.
        trainer: what trains; by default the sequential trainer on the model's own device, or that
            of loops.
        progress: called with the number of updates, of all plans, made since the last call.
        finished: called with the rows of plans that are complete, and their own History.
        stop: called with the updates made, of the runs that are trained together: 0 before they
            begin, then at every evaluation, and after every 16 updates. What it returns, unless it
            is None, is why those runs end there; see `History.stopped`.
        at_end: further batches by name, on which the loss is evaluated after the last update.
        on: the name of `evaluate_on` before 0.1.0, which goes in the next release.

    Raises InvalidArgument for lengths below 1 or a missing validation set, and TaskFailed when the
    task's code raises, or its loss or the watched measure is not finite before the first update.
    """
    check_problem(task)
    _check_plans(plans)
    trainer = trainer or reference_trainer(task)
    check_trains(trainer, task)
    watch = evaluated(watch, task.measures)
    if watch not in task.measures:
        raise InvalidArgument(f"watch must be one of {task.measures}, but got {watch!r}")
    further = at_end or {}
    record = Record(task, plans, trainer, updates, evaluate_every, tuple(further))
    evaluate_on = _renamed(evaluate_on, on)
    batches = _validation(task, trainer) if evaluate_on is None else _repeatable(evaluate_on)
    if isinstance(task, Loop):
        task = task.lasting(record.updates, trainer.device)
    walk = TreeWalk(task, record, trainer, batches, watch, progress, finished, stop, further)
    capacity = trainer.capacity(task)
    shared = not may_share(plans) or why_not_forked(task, trainer) is None
    for runs in together(plans, capacity, shared=shared):
        walk.train(runs)
    return record.history(range(len(plans)))


def _check_plans(plans: object) -> None:
    if isinstance(plans, Sequence) and not isinstance(plans, str):
        for plan in cast(Sequence[object], plans):
            check_is("every plan", plan, Plan, 'Plan(0.1, Schedule(FAMILIES["constant"]), 0)')
        return
    raise InvalidArgument(f"plans must be a list of them, but got {shown_value(plans)}")


def _renamed(
    evaluate_on: Iterable[Batch] | None, on: Iterable[Batch] | None
) -> Iterable[Batch] | None:
    """The batches to evaluate on, under their new name or their old one."""
    if on is None:
        return evaluate_on
    if evaluate_on is not None:
        raise InvalidArgument("evaluate_on and on are the same argument, but got both")
    warnings.warn("fit(on=...) is now fit(evaluate_on=...)", DeprecationWarning, stacklevel=3)
    return on


def _repeatable(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches, which every evaluation goes through."""
    if not isinstance(batches, Iterator):
        return batches
    with user_code("reading the batches to evaluate on"):
        return list(batches)


_VALIDATION = {
    "skorch": "give the net a train_split, as skorch.dataset.ValidSplit(5)",
    "lightning": "give val_dataloader, or Task.from_lightning(valid_loader=...)",
}
"""What gives a validation set, by the kind of program that a task was made from."""


def _validation(task: Problem, trainer: AnyTrainer) -> Iterable[Batch]:
    valid = task.data(trainer.device).valid
    if valid is None and isinstance(task, Loop):
        raise InvalidArgument(
            "training runs are compared by what the loop measures, but it measures nothing; "
            "call training.measure(...)"
        )
    if valid is None:
        raise InvalidArgument(
            "training runs are compared on a validation set, but got none; "
            f"{_VALIDATION.get(task.code_for or '', 'give Task(valid=...)')}"
        )
    return valid
