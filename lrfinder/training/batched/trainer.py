"""The batched trainer: all runs of a State in one program, where vmap takes the model.

Equal to the sequential trainer up to rounding, and faster for small models. Parameters, buffers and
gradients of all runs are stacked (`runs.py`, `program.py`), one optimizer steps all of them
(`optimizers.py`) where an experiment shows that this is exact (`optimizer_check.py`), and how a
task is batched, or why it cannot be, is found by trying a step (`trial_step.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lrfinder.arrays import Floats
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.data.sources import Feed, in_pieces
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe, user_code
from lrfinder.training.batched.module_state import ignore_vmap_fallback_warning
from lrfinder.training.batched.one_by_one import (
    IsDivergence,
    gradients_one_by_one,
    remembered,
)
from lrfinder.training.batched.state import BatchedState, select_runs, start_runs
from lrfinder.training.batched.trial_step import BatchingPlan, plan_of
from lrfinder.training.trainers.at_start import Update, check_lost
from lrfinder.training.trainers.evaluation import evaluating, evaluation_stream, read_numbers
from lrfinder.training.trainers.raised import is_divergence, may_be_divergence
from lrfinder.training.trainers.sequential import SequentialTrainer

_MOST_RUNS = 256
_BUDGET = 2**31  # bytes of one State on a processor
_SHARE = 0.5  # of the free memory of an accelerator, for one State
_BySeed = Mapping[int, Sequence[Sequence[Batch]]]


class BatchedTrainer:
    """Trains all runs of a State in one program, equal to `SequentialTrainer` up to rounding.

    `device` is where models and data are moved to; None leaves the model where its factory put it.
    Raises InvalidArgument for a task that cannot be batched; `why_not` says why.
    """

    def __init__(
        self, device: torch.device | str | None = None, most_runs: int = _MOST_RUNS
    ) -> None:
        self.device = None if device is None else torch.device(device)
        self._most_runs = most_runs

    def why_not(self, task: Task) -> str | None:
        """One line that says why the task cannot be batched, or None where it can."""
        plan = plan_of(task, self.device)
        return plan if isinstance(plan, str) else None

    def capacity(self, task: Task) -> int:
        """Runs that fit into 2 GiB, or half an accelerator's free memory; not over `most_runs`."""
        plan, device = self._plan(task), self.device or task.prototype.device
        budget = _BUDGET
        if device.type == "cuda":
            budget = int(_SHARE * torch.cuda.mem_get_info(device)[0])
        return max(1, min(self._most_runs, budget // max(1, plan.bytes_per_run)))

    def start(self, task: Task, seeds: Sequence[int], lrs: Sequence[float]) -> BatchedState:
        """Build one model per seed and one optimizer per run, for its own lr."""
        return start_runs(task, self._plan(task), self.device, seeds, lrs)

    def advance(self, state: BatchedState, lrs: Floats) -> Floats:
        """Train on by the lrs float64[runs, updates, groups]; see `Trainer.advance`."""
        losses, updates = np.full(lrs.shape[:2], np.nan), lrs.shape[1]
        before, done = state.broken, 0
        state.stepper.plan(lrs)
        with ignore_vmap_fallback_warning():
            while done < updates and len(state.broken) < len(state):
                first, known = state.update, state.broken
                trained, batches = self._train(state, done, updates - done)
                made = _read(trained)
                losses[:, done : done + made.shape[1]] = made
                done += made.shape[1]
                lost = np.flatnonzero(~np.isfinite(losses[:, :done]).all(axis=1)).tolist()
                for row in set(lost) - known - set(state.raised):
                    at = int(np.argmin(np.isfinite(made[row])))
                    self._check_lost(state, row, first, at, batches)
                state.broken |= frozenset(lost)
                state.last = {seed: micro[-1] for seed, micro in batches.items()}
        state.update += updates - done
        return _until_lost(losses, sorted(before))

    def evaluate(self, state: BatchedState, batches: Iterable[Batch]) -> dict[str, Floats]:
        """Row-weighted means over the batches, in eval mode, by measure: float64[runs]."""
        task, weight = state.task, 0
        judge = partial(self._is_divergence, state, evaluating=True)
        evaluation, buffers = (
            _Evaluation(state, judge),
            [b.clone() for b in state.population.buffers],
        )
        with evaluating(state.program.modules), user_code("evaluating"):
            for piece in in_pieces(batches):
                rows = [task.count(batch) for batch in piece]
                weight += sum(rows)
                if len(state):
                    evaluation.add(piece, rows)
            whole = evaluation.whole().T
            sums = evaluation.sums()
        for buffer, before in zip(state.population.buffers, buffers, strict=True):
            buffer.copy_(before)
        if weight == 0:
            raise InvalidArgument("the validation data must have a row, but got none")
        means = {name: sums[name] / weight for name in task.means}
        return means | dict(zip(task.whole, whole, strict=True))

    def select(self, state: BatchedState, rows: Sequence[int]) -> BatchedState:
        """Keep, drop or duplicate runs; the state given is used up."""
        return select_runs(state, rows, state.feeds)

    def fork(self, state: BatchedState, rows: Sequence[int]) -> BatchedState:
        """Independent copies of runs, repeats allowed; the state given goes on unharmed."""
        source = state.task.data(self.device).source
        return select_runs(state, rows, {seed: Feed(source, seed) for seed in state.feeds})

    def _plan(self, task: Task) -> BatchingPlan:
        plan = plan_of(task, self.device)
        if isinstance(plan, str):
            raise InvalidArgument(f"the task cannot be batched, use SequentialTrainer: {plan}")
        return plan

    def _check_lost(
        self, state: BatchedState, row: int, first: int, at: int, batches: _BySeed
    ) -> None:
        """Raise TaskFailed where update `at` of those from `first` on was lost by its batch."""
        seed = state.population.layout.seeds[row]
        before = batches[seed][at - 1] if at else state.last.get(seed)
        check_lost(state.task, self.device, Update(seed, first + at, batches[seed][at]), before)

    def _train(self, state: BatchedState, planned: int, most: int) -> tuple[list[Tensor], _BySeed]:
        """Make at most so many updates, from number `planned` of the plan.

        Returns the losses, and the micro-batches of each update by seed.
        """
        layout, k = state.population.layout, state.task.accumulate
        per_epoch = state.task.data(self.device).updates_per_epoch
        epoch, start = divmod(state.update, per_epoch)
        at_once = min(state.feeds[seed].at_once for seed in layout.distinct)
        room = max(1, at_once // (k * len(layout.distinct)))
        count = min(most, per_epoch - start, room)
        with user_code("reading the training data"):
            feeds = [state.feeds[seed] for seed in layout.distinct]
            taken = [feed.take(epoch, start * k, count * k) for feed in feeds]
        batches = list(zip(*taken, strict=True))
        losses: list[Tensor] = []
        with ExitStack() as stack:
            if state.draws_globally:
                stack.enter_context(state.streams[layout.distinct[0]].active())
            stack.enter_context(user_code("training"))
            for index in range(count):
                micro_batches = batches[index * k : (index + 1) * k]
                losses.append(self._update(state, micro_batches, planned + index))
        parts = [[list(own[i * k : (i + 1) * k]) for i in range(count)] for own in taken]
        return losses, dict(zip(layout.distinct, parts, strict=True))

    def _update(
        self, state: BatchedState, micro_batches: Sequence[Sequence[Batch]], planned: int
    ) -> Tensor:
        before = remembered(state)
        try:
            losses, gradients = state.gradients(micro_batches)
        except Exception as error:
            if state.update == 0 or not may_be_divergence(error):
                raise
            judge = partial(self._is_divergence, state)
            losses, gradients = gradients_one_by_one(state, micro_batches, before(), judge)
        if state.task.clip_norm is not None:
            gradients = _clipped(gradients, state.task.clip_norm)
        by_index = dict(zip(state.program.roles.leaves, gradients, strict=True))
        state.stepper.step(planned, by_index, state.broken)
        state.update += 1
        return losses

    def _is_divergence(
        self,
        state: BatchedState,
        error: Exception,
        row: int,
        batches: Sequence[Batch],
        *,
        evaluating: bool = False,
    ) -> bool:
        made = Update(state.population.layout.seeds[row], state.update, batches)
        control = SequentialTrainer(self.device).train_at_no_lr
        return is_divergence(error, state.task, self.device, made, control, evaluating=evaluating)


class _Evaluation:
    """The sums of the runs' measures over rows, kept on the device: nothing waits for them."""

    def __init__(self, state: BatchedState, is_divergence: IsDivergence) -> None:
        self._state, self._is_divergence = state, is_divergence
        self._together = state.plan.together
        self._apart = [name for name in state.task.means if name not in self._together]
        runs = len(state)
        self._random = evaluation_stream(state.device)
        self._randoms = [self._random.copy() for _ in range(runs)] if self._apart else []
        self._sums: list[Tensor | float] = [0.0] * len(self._together)
        self._single: dict[str, list[Tensor | float]] = {name: [0.0] * runs for name in self._apart}

    def add(self, batches: Sequence[Batch], rows: Sequence[float]) -> None:
        """Measure the batches, whose means weigh so many rows."""
        if self._together:
            with self._random.active(), ignore_vmap_fallback_warning():
                for batch, weight in zip(batches, rows, strict=True):
                    values = self._measured(batch)
                    pairs = zip(self._sums, values, strict=True)
                    self._sums = [total + weight * value for total, value in pairs]
        for run, random in enumerate(self._randoms):
            with random.active():
                for batch, weight in zip(batches, rows, strict=True):
                    for name, value in self._measured_alone(run, batch, self._apart).items():
                        self._single[name][run] += weight * value

    def _measured(self, batch: Batch) -> Sequence[Tensor]:
        """Measures of all runs at once, or run by run where the task raises: [runs] by name."""
        state, names = self._state, self._together
        try:
            return state.program.measure(state.population, batch, names)
        except Exception as error:
            if state.update == 0 or not may_be_divergence(error):
                raise
        alone = [self._measured_alone(run, batch, names) for run in range(len(state))]
        device = state.device
        return [torch.tensor([float(own[k]) for own in alone], device=device) for k in names]

    def _measured_alone(
        self, run: int, batch: Batch, names: Sequence[str]
    ) -> Mapping[str, Tensor | float]:
        state = self._state
        if run in state.raised:
            return dict.fromkeys(names, float("nan"))
        try:
            return state.program.measure_run(state.population, run, batch, names)
        except Exception as error:
            if not self._is_divergence(error, run, [batch]):
                raise
            state.raised[run] = describe(error)
            return dict.fromkeys(names, float("nan"))

    def whole(self) -> Floats:
        """The measures of the whole set: float64[runs, measures]."""
        task, runs = self._state.task, range(len(self._state))
        if task.evaluate is None:
            return np.zeros((len(runs), 0))
        found = [value for run in runs for value in self._whole_of(run)]
        return read_numbers(found).reshape(len(runs), len(task.whole))

    def _whole_of(self, run: int) -> Sequence[Tensor | float]:
        state = self._state
        lost = [float("nan")] * len(state.task.whole)
        if run in state.raised:
            return lost
        try:
            with evaluation_stream(state.device).active():
                return state.program.evaluate_run(state.population, run, state.task)
        except Exception as error:
            if not self._is_divergence(error, run, []):
                raise
            state.raised[run] = describe(error)
            return lost

    def sums(self) -> dict[str, Floats]:
        """The sums by measure: float64[runs]."""
        runs = len(self._state)
        tensors = [t for t in self._sums if isinstance(t, Tensor)]
        read = torch.stack(tensors).cpu().numpy() if tensors else np.zeros((len(self._sums), runs))
        found = {name: read_numbers(values) for name, values in self._single.items()}
        sums = dict(zip(self._together, read.astype(np.float64), strict=True)) | found
        for values in sums.values():
            values[list(self._state.raised)] = np.nan
        return sums


def _clipped(gradients: list[Tensor], most: float) -> list[Tensor]:
    """The gradients of each run, scaled like torch.nn.utils.clip_grad_norm_ does it."""
    rows = [gradient.flatten(1) for gradient in gradients]
    norms = torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows])
    factors = (most / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
    pairs = zip(rows, gradients, strict=True)
    return [(row * factors[:, None]).view_as(gradient) for row, gradient in pairs]


def _until_lost(losses: Floats, broken: Sequence[int]) -> Floats:
    """The losses, nan after a run's first one that is not finite, and for runs broken before."""
    losses[broken] = np.nan
    lost = ~np.isfinite(losses)
    after = np.cumsum(lost, axis=1) - lost > 0
    return np.where(after, np.nan, losses)


def _read(losses: list[Tensor]) -> Floats:
    """Losses of several updates as float64[runs, updates], read together."""
    return torch.stack(losses).T.cpu().double().numpy()
