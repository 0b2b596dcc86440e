"""The learning-rate range test: grow the lr, record the loss, then train shortly at a few lrs.

The idea of the first half is old practice: start from a very small lr, raise it after every epoch,
record the loss or the accuracy of each epoch, and compare (Smith 2015, arXiv 1506.01186, made it
per batch). Here it is a population of runs, one per seed, whose schedule grows; the *probes* that
follow are another, whose schedule is constant. A parameter group has at every lr of the sweep the
lr that the task's optimizer, built for that lr, gives it.

Per batch, the loss of one *fixed* probe set (at most 256 rows) is recorded after every update: it
has far less noise than the loss of each batch. Per epoch, the whole validation set is. Where the
task has no validation set, up to 256 of its training rows, a fifth at most, are held out for it: on
rows that are trained on, short runs prefer an lr that overfits. At their end, the probes are
evaluated with the targets exchanged too: what they learnt of the inputs is the difference.

A sweep per epoch spends many updates on every lr, so it has learnt most there is to learn before
the best lr comes, and falls at a lower one; its probes, as long as the sweep or a whole training,
mend that.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from lrfinder.checks import check_count, check_seeds
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.range_tests import defaults
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.exchange import Unchecked, exchange
from lrfinder.range_tests.features import CurveFeatures
from lrfinder.range_tests.permutation_test import NO_PROBES, Compared, compared
from lrfinder.range_tests.probes import Probe, first_lrs, further_lr
from lrfinder.range_tests.rule import centres, features_of, too_narrow
from lrfinder.schedules import FAMILIES, GROWTHS, Schedule
from lrfinder.schedules.growths import tabulated
from lrfinder.tasks.batches import Batch
from lrfinder.tasks.held_out import held_out
from lrfinder.tasks.task import Task
from lrfinder.training.building import lrs_of_groups
from lrfinder.training.fit import fit
from lrfinder.training.history import History, Plan
from lrfinder.training.memory import check_memory
from lrfinder.training.sequential import SequentialTrainer
from lrfinder.training.trainer import AnyTrainer
from lrfinder.types import Every, Growth

_BELOW, _ABOVE = 1000.0, 100.0
"""By how much a range that is too narrow is widened."""
_PARTS = 24
"""Evaluations of a probe, of which the last quarter counts."""
_FEW = 4
"""Updates that show whether the lr matters, where there are no probes."""


def range_test(
    task: Task,
    *,
    min_lr: float = defaults.MIN_LR,
    max_lr: float = defaults.MAX_LR,
    steps: int | None = None,
    seeds: int | Sequence[int] = defaults.SEEDS,
    every: Every = defaults.EVERY,
    growth: Growth = defaults.GROWTH,
    probes: int = defaults.PROBES,
    widen: bool = True,
    trainer: AnyTrainer | None = None,
    progress: Callable[[int], None] | None = None,
) -> Curve:
    """Train with a growing lr, then at a few constant ones, and record the loss.

    A seed costs at most ``(1 + probes) * steps`` updates, or epochs where the lr grows per epoch.
    Where there are no probes, 8 more show whether the lr has any effect.

    Args:
        task: the problem; nothing of it is changed.
        min_lr, max_lr: lr of the first and of the last step.
        steps: how many learning rates; by default 100 per batch, 20 per epoch.
        seeds: how many whole tests, or their seeds.
        every: grow after every batch (update) or every epoch.
        growth: equal ratios ("exponential") or equal differences ("linear") between steps.
        probes: most runs at a constant lr per seed, each as long as the sweep or, where that is
            shorter, as a training of the task; 0 for none, where training is dear. There are none
            where the sweep is inconclusive.
        widen: repeat the sweep once, in place of a probe, where the range of lrs is too narrow:
            the loss still falls at max_lr (raised by 100), or already at min_lr (lowered by 1000).
        trainer: what trains; by default the sequential trainer.
        progress: called with the number of updates made since the last call.

    Raises InvalidArgument for a range, steps or seeds that cannot be tested, and TaskFailed when
    the task's code raises or its loss is not finite before the first update.
    """
    _check(min_lr, max_lr, steps, seeds, every, growth)
    check_count("probes", probes, low=0)
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    steps = steps or defaults.STEPS[every]
    test = _Test(task, numbers, steps, every, growth, trainer, progress, probes=probes)
    before = time.perf_counter()
    curve = test.sweep(min_lr, max_lr)
    features = features_of(curve.lr, curve.loss, curve.start)
    narrow = too_narrow(features) if widen and probes else None
    if narrow is not None:
        wider = (min_lr / _BELOW, max_lr) if narrow == "below" else (min_lr, max_lr * _ABOVE)
        curve, probes = replace(test.sweep(*wider), asked=(min_lr, max_lr)), probes - 1
        features = features_of(curve.lr, curve.loss, curve.start)
    found = test.probe(curve, features, probes) if probes else ()
    matters = test.differ(found) if found else test.lr_matters(curve.lr[0], curve.lr[-1])
    test.count_to(len(numbers) * (1 + probes + (narrow is not None)) * test.updates)
    return replace(
        curve,
        probes=found,
        updates=test.trained,
        wall_seconds=time.perf_counter() - before,
        lr_matters=matters,
        unchecked=test.unchecked,
    )


class _Test:
    """The trainings of one range test."""

    def __init__(
        self,
        task: Task,
        seeds: tuple[int, ...],
        steps: int,
        every: Every,
        growth: Growth,
        trainer: AnyTrainer | None,
        progress: Callable[[int], None] | None,
        *,
        probes: int,
    ) -> None:
        self._task, self._seeds, self._steps = _with_probe_rows(task), seeds, steps
        self._every: Every = every
        self._growth: Growth = growth
        self._trainer = trainer or SequentialTrainer()
        self._progress = progress
        self._data = self._task.data(self._trainer.device)
        self._per_step = 1 if every == "batch" else self._data.updates_per_epoch
        self._counted = 0
        self.updates = steps * self._per_step
        """Updates of a sweep."""
        check_memory(len(seeds), self.updates, steps + 1, len(task.measures))
        self._budget = task.epochs * task.data(self._trainer.device).updates_per_epoch
        self._probe_updates = min(self.updates, self._budget)
        self.trained = 0
        """Updates made so far."""
        self._exchange = (
            exchange(self._task, self._data.fixed_subset) if probes else Unchecked(NO_PROBES)
        )
        self._checked: list[Compared] = []

    def sweep(self, min_lr: float, max_lr: float) -> Curve:
        """Grow the lr, once per seed."""
        params = {"factor": max_lr / min_lr, "steps": self._steps}
        lrs = Schedule(GROWTHS[self._growth], params).rows([min_lr], self._steps)[:, 0]
        by_group = tabulated(f"{self._growth} growth", lrs_of_groups(self._task, lrs.tolist()))
        plans = [Plan(min_lr, Schedule(by_group, per=self._every), seed) for seed in self._seeds]
        history = self._fit(self._task, plans, self.updates, self._per_step)
        by_step = history.train_loss.reshape(len(self._seeds), self._steps, self._per_step)
        return Curve(
            lr=lrs,
            loss=history.measures["loss"][:, 1:],
            train_loss=by_step.mean(axis=2),
            start=history.measures["loss"][:, 0],
            metrics={k: history.measures[k][:, 1:] for k in self._task.metrics},
            seeds=self._seeds,
            every=self._every,
            growth=self._growth,
            optimizer=self._task.prototype.optimizer,
            batch_size=self._task.update_rows,
            budget=self._budget,
            updates=self.trained,
            wall_seconds=0.0,
            updates_per_step=self._per_step,
        )

    def probe(
        self, curve: Curve, features: Sequence[CurveFeatures], most: int
    ) -> tuple[Probe, ...]:
        """Train at constant lrs: around the centre of the fall, then where that was too narrow."""
        found = centres(curve.lr, features)
        if found is None:
            return ()
        wanted = zip(self._seeds, found, strict=True)
        made = self._constant([(lr, s) for s, centre in wanted for lr in first_lrs(centre, most)])
        for _ in range(most - len(made) // len(self._seeds)):
            further: list[tuple[float, int]] = []
            for seed, start in zip(self._seeds, curve.start, strict=True):
                lr = further_lr(float(start), [p for p in made if p.seed == seed])
                further += [] if lr is None else [(lr, seed)]
            made += self._constant(further)
        return tuple(made)

    def differ(self, probes: Sequence[Probe]) -> bool:
        """Whether probes of one seed at different lrs ended differently."""
        of_seed = [probe.loss for probe in probes if probe.seed == self._seeds[0]]
        return len(of_seed) < 2 or len(set(of_seed)) > 1

    def lr_matters(self, low: float, high: float) -> bool:
        """Whether a few updates at a low lr and at a high one differ at all."""
        constant = Schedule(FAMILIES["constant"])
        plans = [Plan(float(lr), constant, self._seeds[0]) for lr in (low, high)]
        few = min(_FEW, self.updates)
        try:
            history = fit(
                self._task,
                plans,
                updates=few,
                evaluate_every=few,
                evaluate_on=self._data.fixed_subset,
                trainer=self._trainer,
            )
        except TaskFailed:  # the sweep is what counts; this tells nothing
            return True
        ends = history.measures["loss"][:, -1]
        return not (np.isfinite(ends).all() and ends[0] == ends[1])

    def count_to(self, total: int) -> None:
        """Tell that the test has ended, where it was shorter than it might have been."""
        if self._progress is not None and total > self._counted:
            self._progress(total - self._counted)

    def _constant(self, wanted: Sequence[tuple[float, int]]) -> list[Probe]:
        if not wanted:
            return []
        constant = Schedule(FAMILIES["constant"])
        plans = [Plan(lr, constant, seed) for lr, seed in wanted]
        updates = self._probe_updates
        history = self._fit(self._probed, plans, updates, max(1, updates // _PARTS), at_end=True)
        last = max(1, (len(history.evaluated_at) - 1) // 4)
        losses = history.measures["loss"][:, -last:].mean(axis=1)
        losses = np.where(history.diverged_at >= 0, np.nan, losses)
        found = [
            Probe(plan.seed, plan.lr, updates, loss)
            for plan, loss in zip(plans, losses.tolist(), strict=True)
        ]
        if not history.at_end:
            return found
        made = compared(history.at_end)
        self._checked.append(made)
        return [
            replace(probe, permuted=probe.loss + gap, permuted_deviation=deviation)
            for probe, gap, deviation in zip(
                found, made.gap.tolist(), made.deviation.tolist(), strict=True
            )
        ]

    @property
    def unchecked(self) -> str | None:
        """Why nothing is known of any probe with exchanged targets; None where something is."""
        if isinstance(self._exchange, Unchecked):
            return self._exchange.why
        reasons = [made.why_not for made in self._checked]
        return None if None in reasons or not reasons else reasons[0]

    @cached_property
    def _probed(self) -> Task:
        """The task without metrics: of the probes the loss alone counts."""
        return self._task.measured_by({}) if self._task.metrics else self._task

    @property
    def _evaluated(self) -> Iterable[Batch]:
        valid = self._data.valid if self._every == "epoch" else None
        return self._data.fixed_subset if valid is None else valid

    def _fit(
        self,
        task: Task,
        plans: Sequence[Plan],
        updates: int,
        evaluate_every: int,
        *,
        at_end: bool = False,
    ) -> History:
        exchanged = None if isinstance(self._exchange, Unchecked) else self._exchange.sets
        history = fit(
            task,
            plans,
            updates=updates,
            evaluate_every=evaluate_every,
            evaluate_on=self._evaluated,
            trainer=self._trainer,
            progress=self._count,
            at_end=exchanged if at_end else None,
        )
        self.trained += history.updates_trained
        return history

    def _count(self, updates: int) -> None:
        self._counted += updates
        if self._progress is not None:
            self._progress(updates)


def _with_probe_rows(task: Task) -> Task:
    """The task, with rows held out for the probe set where it has no validation set."""
    parts = None if task.valid is not None else held_out(task.train, task.batch_size)
    return task if parts is None else replace(task, train=parts[0], valid=parts[1])


def _check(
    min_lr: float,
    max_lr: float,
    steps: int | None,
    seeds: int | Sequence[int],
    every: str,
    growth: str,
) -> None:
    if not 0 < min_lr < max_lr < np.inf:
        raise InvalidArgument(
            f"0 < min_lr < max_lr must hold, but got (min_lr={min_lr:g}, max_lr={max_lr:g})"
        )
    if steps is not None and steps < 8:
        raise InvalidArgument(f"a range test needs at least 8 steps, but got {steps}")
    if isinstance(seeds, int):
        check_count("seeds", seeds)
    else:
        check_seeds(seeds)
    if every not in defaults.STEPS:
        raise InvalidArgument(f"every must be 'batch' or 'epoch', but got {every!r}")
    if growth not in GROWTHS:
        raise InvalidArgument(f"growth must be 'exponential' or 'linear', but got {growth!r}")
