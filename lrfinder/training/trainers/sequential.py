"""The reference trainer: any model, any optimizer, one run after another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules.live import stand_in
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.sources import Feed, in_pieces
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe, user_code
from lrfinder.training.trainers.at_start import Update, check_lost
from lrfinder.training.trainers.building import (
    build_model,
    build_optimizer,
    device_of,
)
from lrfinder.training.trainers.evaluation import (
    evaluating,
    read_numbers,
)
from lrfinder.training.trainers.optimizer_modes import in_evaluation
from lrfinder.training.trainers.raised import NO_LR, is_divergence
from lrfinder.training.trainers.run_evaluation import RunEvaluation
from lrfinder.training.trainers.training_run import TrainingRun, make_update


@dataclass
class SequentialState:
    """Runs, and one feed of batches for each of their seeds."""

    task: Task
    runs: list[TrainingRun]
    feeds: dict[int, Feed]
    stand_ins: list[Optimizer]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def raised(self) -> dict[int, str]:
        """What the task raised in runs that have diverged by it, by their place."""
        return {k: run.raised for k, run in enumerate(self.runs) if run.raised is not None}


class SequentialTrainer:
    """Trains one run after another; a DataLoader is still iterated once per seed and epoch.

    `device` is where models and data are moved to; None leaves the model where its factory put it.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = None if device is None else torch.device(device)

    def capacity(self, task: Task) -> int:
        """Return 1 where batches can be indexed; a few runs where a DataLoader is worth sharing."""
        return 1 if task.data(self.device).source.random_access else 8

    def start(self, task: Task, seeds: Sequence[int], lrs: Sequence[float]) -> SequentialState:
        """Build one model and optimizer per run, each under its own seed and for its own lr."""
        runs = [self._build(task, seed, lr) for seed, lr in zip(seeds, lrs, strict=True)]
        source = task.data(self.device).source
        feeds = {seed: Feed(source, seed) for seed in seeds}
        return SequentialState(task, runs, feeds, [stand_in(run.optimizer) for run in runs])

    def advance(self, state: SequentialState, lrs: Floats) -> Floats:
        """Train on by the lrs float64[runs, updates, groups]; see `Trainer.advance`."""
        losses = np.full(lrs.shape[:2], np.nan)
        together: dict[tuple[int, int], list[int]] = {}
        for row, run in enumerate(state.runs):
            together.setdefault((run.seed, run.update), []).append(row)
        for rows in together.values():
            self._advance(state, rows, lrs, losses)
        return losses

    def evaluate(self, state: SequentialState, batches: Iterable[Batch]) -> dict[str, Floats]:
        """Row-weighted means over the batches, in eval mode, by measure: float64[runs]."""
        task, weight = state.task, 0
        evaluations = [RunEvaluation(task, run, self.may_go_on) for run in state.runs]
        modules = [module for run in state.runs for module in run.modules]
        modes = in_evaluation(run.optimizer for run in state.runs)
        with modes, evaluating(modules), user_code("evaluating"):
            for piece in in_pieces(batches):
                rows = [task.count(batch) for batch in piece]
                weight += sum(rows)
                for evaluation in evaluations:
                    evaluation.add(piece, rows)
            sums = read_numbers([e.sums[name] for name in task.means for e in evaluations])
            whole = read_numbers([value for e in evaluations for value in e.whole()])
        if weight == 0:
            raise InvalidArgument("the validation data must have a row, but got none")
        means = sums.reshape(len(task.means), len(state)) / weight
        found = [*means, *whole.reshape(len(state), len(task.whole)).T]
        return dict(zip(task.measures, found, strict=True))

    def select(self, state: SequentialState, rows: Sequence[int]) -> SequentialState:
        """Keep, drop or duplicate runs; the first use of a run keeps it, further ones copy it."""
        runs = [
            state.runs[row].copy() if row in rows[:place] else state.runs[row]
            for place, row in enumerate(rows)
        ]
        feeds = {run.seed: state.feeds[run.seed] for run in runs}
        return SequentialState(state.task, runs, feeds, [state.stand_ins[row] for row in rows])

    def fork(self, state: SequentialState, rows: Sequence[int]) -> SequentialState:
        """Return independent copies of runs; the state given goes on as if nothing happened."""
        try:
            runs = [state.runs[row].copy() for row in rows]
        except Exception as error:
            raise TaskFailed(f"a run cannot be copied: {describe(error)}") from error
        source = state.task.data(self.device).source
        feeds = {run.seed: Feed(source, run.seed) for run in runs}
        return SequentialState(state.task, runs, feeds, [state.stand_ins[row] for row in rows])

    def train_at_no_lr(self, task: Task, seed: int, updates: int) -> None:
        """Train for so many updates without learning anything; raises what the task raises."""
        state = self.start(task, [seed], [NO_LR])
        state.runs[0].control = True
        groups = len(state.stand_ins[0].param_groups)
        self.advance(state, np.full((1, updates, groups), NO_LR))

    def may_go_on(
        self, error: Exception, task: Task, run: TrainingRun, batches: Sequence[Batch]
    ) -> bool:
        """Whether what an evaluation raised is a divergence of the run; without batches the whole.

        That is, what `Task.evaluate` raised.
        """
        made = Update(run.seed, run.update, batches)
        control = self.train_at_no_lr
        return is_divergence(error, task, self.device, made, control, evaluating=True)

    def _build(self, task: Task, seed: int, lr: float) -> TrainingRun:
        model, random = build_model(task, seed, self.device)
        optimizer = build_optimizer(task, model, lr, random)
        device = device_of(model)
        scaler = GradScaler(device.type) if task.autocast is torch.float16 else None
        return TrainingRun(seed, model, task.measures_on(device), optimizer, random, scaler=scaler)

    def _advance(self, state: SequentialState, rows: list[int], lrs: Floats, out: Floats) -> None:
        """Train runs of one seed that stand at the same update."""
        first, task = state.runs[rows[0]], state.task
        data = task.data(self.device)
        done, updates = 0, lrs.shape[1]
        while done < updates:
            epoch, start = divmod(first.update, data.updates_per_epoch)
            count = min(
                updates - done,
                data.updates_per_epoch - start,
                max(1, state.feeds[first.seed].at_once // task.accumulate),
            )
            with user_code("reading the training data"):
                batches = state.feeds[first.seed].take(
                    epoch, start * task.accumulate, count * task.accumulate
                )
            parts = [
                batches[i : i + task.accumulate] for i in range(0, len(batches), task.accumulate)
            ]
            for row in rows:
                span = slice(done, done + count)
                out[row, span] = self._train(task, state.runs[row], parts, lrs[row, span])
            done += count

    def _train(
        self, task: Task, run: TrainingRun, updates: list[list[Batch]], lrs: Floats
    ) -> Floats:
        """Make one update per list of micro-batches; returns the losses: float64[updates]."""
        losses = np.full(len(updates), np.nan)
        with run.random.active(), user_code("training"):
            for index, micro_batches in enumerate(updates):
                run.update += 1
                if run.broken:
                    continue
                made = Update(run.seed, run.update - 1, micro_batches)
                try:
                    losses[index] = make_update(task, run, micro_batches, lrs[index])
                except Exception as error:
                    if run.control or not is_divergence(
                        error, task, self.device, made, self.train_at_no_lr
                    ):
                        raise
                    run.raised, run.broken = describe(error), True
                    continue
                if run.broken:
                    check_lost(task, self.device, made, run.last)
                run.last = micro_batches
        return losses
