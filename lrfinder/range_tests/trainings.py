"""The trainings of one range test: sweeps whose lr grows, and probes at one lr."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.errors import TaskFailed
from lrfinder.range_tests import defaults
from lrfinder.range_tests.chance.exchange import Unchecked, exchange
from lrfinder.range_tests.chance.pairing import pairs
from lrfinder.range_tests.chance.permutation_test import NO_PROBES, Compared, compared
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.lengths import lengths
from lrfinder.range_tests.limits import OUT_OF_TIME, Limits, slow_note
from lrfinder.range_tests.rules.features import CurveFeatures
from lrfinder.range_tests.rules.probes import (
    Probe,
    first_lrs,
    further_lr,
    made_probes,
)
from lrfinder.range_tests.rules.rule import centres
from lrfinder.schedules import FAMILIES, GROWTHS, Schedule
from lrfinder.schedules.families.growths import tabulated
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.held_out import held_out
from lrfinder.tasks.loops.looking import LoopData
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History, Plan, note_on_raised
from lrfinder.training.records.memory import check_memory
from lrfinder.training.trainers.building import lrs_of_groups
from lrfinder.training.trainers.driven import reference_trainer
from lrfinder.training.trainers.raised import NO_LR
from lrfinder.training.trainers.trainer import AnyTrainer
from lrfinder.types import Every, Growth

_PARTS = 16
"""Evaluations of a probe, of which the last quarter counts."""
_FEW = 4
"""Updates that show whether the lr matters, where there are no probes."""


class Trainings:
    """The trainings of one range test."""

    def __init__(
        self,
        task: Problem,
        seeds: tuple[int, ...],
        steps: int | None,
        every: Every,
        growth: Growth,
        trainer: AnyTrainer | None,
        progress: Callable[[int], None] | None,
        limits: Limits,
        *,
        probes: int,
        cost: float | None = None,
    ) -> None:
        self._limits, self._cost = limits, cost
        measured = task if task.evaluate is None else task.measured_by(task.metrics)
        self._task, self._seeds = _with_probe_rows(measured), seeds
        self._every: Every = every
        self._growth: Growth = growth
        self.trainer = trainer or reference_trainer(task)
        self._progress = progress
        self._data = self._task.data(self.trainer.device)
        self._per_step = 1 if every == "batch" else self._data.updates_per_epoch
        self.counted = 0
        """Updates that `progress` was told of."""
        self._whole = task.data(self.trainer.device)
        self._task_per_epoch = self._whole.updates_per_epoch
        self._budget = task.epochs * self._task_per_epoch
        per_epoch = self._data.updates_per_epoch
        self.lengths = lengths(
            steps, every, probes, per_epoch, self._budget, cost=cost, seeds=len(seeds)
        )
        """Of each seed's sweep and probes."""
        self._steps, updates = self.lengths.steps, self.lengths.sweep
        check_memory(len(seeds), updates, self._steps + 1, len(task.means))
        self.trained = 0
        """Updates made so far."""
        self.out_of_time = False
        """Whether something was left out because the timeout had passed."""
        self.notes: list[str] = []
        self._raised: list[str] = []
        self._slow: list[str] = []
        self._exchange = (
            exchange(self._task, self._data.fixed_subset) if probes else Unchecked(NO_PROBES)
        )
        self._checked: list[Compared] = []

    @property
    def probes_left(self) -> int:
        """For how many probes of each seed what was planned is enough after what was trained."""
        planned = len(self._seeds) * self.lengths.updates
        return (planned - self.counted) // (len(self._seeds) * self.lengths.probe)

    @property
    def may_sweep_again(self) -> bool:
        """Whether there is time for another sweep, and updates, where these are limited."""
        if self._limits.out_of_time or self._cost is None:
            return not self._limits.out_of_time
        sweep, fewest = self.lengths.sweep, defaults.FEWEST_PROBES * self.lengths.probe
        planned = len(self._seeds) * (self.lengths.updates - sweep - fewest)
        return self.counted <= planned

    def may_train_again(self, trainings: int) -> bool:
        """Whether time, and updates where they are limited, are left for such of a probe's length.

        These are of the first seed alone.
        """
        if self._limits.out_of_time or self._cost is None:
            return not self._limits.out_of_time
        planned = len(self._seeds) * self.lengths.updates
        return self.counted + trainings * self.lengths.probe <= planned

    @property
    def all_notes(self) -> tuple[str, ...]:
        """What happened on the way, in one line each."""
        raised = [note_on_raised(self._raised)] if self._raised else []
        return (*self.notes, *raised, *slow_note(self._slow))

    def sweep(self, min_lr: float, max_lr: float) -> Curve:
        """Grow the lr, once per seed."""
        params = {"factor": max_lr / min_lr, "steps": self._steps}
        lrs = Schedule(GROWTHS[self._growth], params).rows([min_lr], self._steps)[:, 0]
        by_group = tabulated(f"{self._growth} growth", lrs_of_groups(self._task, lrs.tolist()))
        plans = [Plan(min_lr, Schedule(by_group, per=self._every), seed) for seed in self._seeds]
        history = self._fit(self._task, plans, self.lengths.sweep, self._per_step)
        rows, steps = self._swept(history)
        by_step = history.train_loss.reshape(len(self._seeds), self._steps, self._per_step)
        self._note_slow(history, [lrs[self._last_step(own)] for own in history.train_loss])
        measured = {k: v[rows, : steps + 1] for k, v in history.measures.items()}
        return Curve(
            lr=lrs[:steps],
            loss=measured["loss"][:, 1:],
            train_loss=by_step.mean(axis=2)[rows, :steps],
            start=measured["loss"][:, 0],
            metrics={k: measured[k][:, 1:] for k in self._task.metrics},
            seeds=tuple(self._seeds[row] for row in rows),
            every=self._every,
            growth=self._growth,
            optimizer=self._task.prototype.optimizer,
            lr_scale=self._task.prototype.groups.scale,
            batch_size=self._whole.rows_of_update,
            budget=self._budget,
            updates_per_epoch=self._task_per_epoch,
            updates=self.trained,
            wall_seconds=0.0,
            updates_per_step=self._per_step,
            cut=steps < self._steps,
            repeats=self._whole.repeats,
            weights=self._task.prototype.weights,
            of_training=isinstance(self._data, LoopData) and not self._data.measured,
        )

    def without_learning(self, curve: Curve) -> Floats:
        """How the loss moves over a sweep at no lr to speak of: float64[seeds, steps].

        The running statistics of batch norm settle without it. 0 where it is not known.
        """
        constant = Schedule(FAMILIES["constant"], per=self._every)
        plans = [Plan(NO_LR, constant, seed) for seed in curve.seeds]
        history = self._fit(self._task, plans, self.lengths.sweep, self._per_step)
        moved = history.measures["loss"][:, 1 : len(curve.lr) + 1] - curve.start[:, None]
        return np.where(np.isfinite(moved), moved, 0.0)

    def _swept(self, history: History) -> tuple[list[int], int]:
        """Rows of the seeds that count, and for how many steps: all but what a timeout cut.

        Where it cut all of them, those that came farthest count as far as they came.
        """
        whole = [row for row, why in enumerate(history.stopped) if why != OUT_OF_TIME]
        if whole:
            return whole, self._steps
        made = np.isfinite(history.measures["loss"][:, 1:]).sum(axis=1)
        return np.flatnonzero(made == made.max()).tolist(), int(made.max())

    def _last_step(self, losses: Floats) -> int:
        return max(0, int(np.isfinite(losses).sum()) - 1) // self._per_step

    def _note_slow(self, history: History, lrs: Sequence[float]) -> None:
        pairs = zip(history.stopped, lrs, strict=True)
        found = [(why, lr) for why, lr in pairs if why not in (None, OUT_OF_TIME)]
        self._slow += [f"{why}, at lr {lr:.3g}" for why, lr in found]

    def probe(
        self, curve: Curve, features: Sequence[CurveFeatures], most: int
    ) -> tuple[Probe, ...]:
        """Train at constant lrs: around the centre of the fall, then where that was too narrow."""
        found = centres(features)
        if found is None:
            return ()
        baseline, few = self._task.baseline, most <= defaults.FEWEST_PROBES
        in_use = [] if baseline is None or few else [baseline.lr]
        wanted = zip(curve.seeds, found, strict=True)
        first = [(lr, s) for s, centre in wanted for lr in (*first_lrs(centre), *in_use)]
        made = self._constant(first)
        for _ in range(most - defaults.FEWEST_PROBES - len(in_use)):
            of_seeds = {s: [p for p in made if p.seed == s] for s in curve.seeds}
            beyond = [(further_lr(own), s) for s, own in of_seeds.items() if own]
            further = [(lr, seed) for lr, seed in beyond if lr is not None]
            if not further:
                break
            made += self._constant(further)
        return tuple(made)

    def differ(self, curve: Curve) -> bool:
        """Whether probes of one seed at different lrs ended differently; one that diverged did."""
        of_seed = [probe.loss for probe in curve.probes if probe.seed == curve.seeds[0]]
        alike = len(of_seed) > 1 and of_seed.count(of_seed[0]) == len(of_seed)
        return not (alike and math.isfinite(of_seed[0]))

    def lr_matters(self, curve: Curve) -> bool:
        """Whether a few updates at a low lr and at a high one differ at all.

        It is not tried where time is short.
        """
        if self._limits.out_of_time or self._slow:
            return True
        low, high = curve.lr[0], curve.lr[-1]
        constant = Schedule(FAMILIES["constant"])
        plans = [Plan(float(lr), constant, self._seeds[0]) for lr in (low, high)]
        few = min(_FEW, self.lengths.sweep)
        try:
            history = fit(
                self._task,
                plans,
                updates=few,
                evaluate_every=few,
                evaluate_on=self._data.fixed_subset,
                trainer=self.trainer,
            )
        except TaskFailed:  # the sweep is what counts; this tells nothing
            return True
        ends = history.measures["loss"][:, -1]
        return not (np.isfinite(ends).all() and ends[0] == ends[1])

    @property
    def data(self) -> object:
        """What is trained on, as the task or the loop has it."""
        return self._data

    def group_lrs(self, lr: float) -> Floats:
        """Lr of each parameter group where this one is asked for: float64[groups]."""
        return lrs_of_groups(self._task, [lr])[0]

    def at_group_lrs(self, rows: Floats, seed: int) -> Floats:
        """Train at constant lrs of the groups, float64[runs, groups], each for a probe's length.

        Returns the losses on the way, float64[runs, evaluations]; none where time is out.
        """
        updates = self.lengths.probe
        tables = [tabulated("constant by group", np.tile(row, (updates, 1))) for row in rows]
        plans = [
            Plan(float(row.max()), Schedule(table, per="batch"), seed)
            for row, table in zip(rows, tables, strict=True)
        ]
        history = self._fit(self._probed, plans, updates, max(1, updates // _PARTS))
        return history.measures["loss"][:, 1:]

    def count_to(self, total: int) -> None:
        """Tell that the test has ended, where it was shorter than it might have been."""
        if self._progress is not None and total > self.counted:
            self._progress(total - self.counted)

    def _constant(self, wanted: Sequence[tuple[float, int]]) -> list[Probe]:
        self.out_of_time |= bool(wanted) and self._limits.out_of_time
        if not wanted or self._limits.out_of_time:
            return []
        constant = Schedule(FAMILIES["constant"])
        plans = [Plan(lr, constant, seed) for lr, seed in wanted]
        updates = self.lengths.probe
        history = self._fit(self._probed, plans, updates, max(1, updates // _PARTS), at_end=True)
        self._note_slow(history, [plan.lr for plan in plans])
        found = made_probes(history, comparable=self._comparable)
        made = self._against_noise(found, history)
        pairs = zip(made, history.stopped, strict=True)
        return [probe for probe, why in pairs if why != OUT_OF_TIME]

    def _against_noise(self, probes: list[Probe], history: History) -> list[Probe]:
        """The probes with what their losses are with exchanged targets, where these are known."""
        if not history.at_end:
            return probes
        found = compared(history.at_end, lambda: self._pairs)
        self._checked.append(found)
        return [
            replace(probe, permuted=probe.loss + gap, permuted_deviation=deviation)
            for probe, gap, deviation in zip(probes, found.gap, found.deviation, strict=True)
        ]

    @cached_property
    def _pairs(self) -> bool:
        """Whether the loss pairs rows with targets."""
        if isinstance(self._task, Loop) or isinstance(self._exchange, Unchecked):
            return False
        return pairs(self._task, self._exchange, self._seeds[0], self.trainer.device)

    @property
    def unchecked(self) -> str | None:
        """Why nothing is known of any probe with exchanged targets; None where something is."""
        if isinstance(self._exchange, Unchecked):
            return self._exchange.why
        reasons = [made.why_not for made in self._checked]
        return None if None in reasons or not reasons else reasons[0]

    @property
    def _comparable(self) -> bool:
        """Whether the loss that is evaluated is the one that is trained on."""
        return not isinstance(self._task, Loop) and self._task.valid_loss is None

    @cached_property
    def _probed(self) -> Problem:
        """The task without metrics: of the probes the loss alone counts."""
        return self._task.measured_by({}) if self._task.metrics else self._task

    @property
    def _evaluated(self) -> Iterable[Batch]:
        valid = self._data.valid if self._every == "epoch" else None
        return self._data.fixed_subset if valid is None else valid

    def _fit(
        self,
        task: Problem,
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
            trainer=self.trainer,
            progress=self._count,
            stop=self._limits,
            at_end=exchanged if at_end else None,
        )
        self.out_of_time |= OUT_OF_TIME in history.stopped
        self.trained += history.updates_trained
        self._raised += [message for message in history.raised if message is not None]
        return history

    def _count(self, updates: int) -> None:
        self.counted += updates
        if self._progress is not None:
            self._progress(updates)


def _with_probe_rows(task: Problem) -> Problem:
    """The task, with rows held out for the probe set where it has no validation set."""
    if isinstance(task, Loop):
        return task
    parts = None if task.valid is not None else held_out(task.train, task.batch_size)
    return task if parts is None else replace(task, train=parts[0], valid=parts[1])
