"""Runs that share a beginning are trained once, and nothing about any of them changes."""

import math
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import PER_EPOCH, linear_task, momentum, noisy_task, plan, regression_rows
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from lrfinder.schedules import FAMILIES, Family, Schedule
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History, Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

EPOCHS = 4


class Holding(SequentialTrainer):
    """A sequential trainer of another capacity, which knows how many of its runs are alive."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity
        self._models: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self.largest = self.most = 0

    def capacity(self, task):
        return self._capacity

    def start(self, task, seeds, lrs):
        return self._seen(super().start(task, seeds, lrs))

    def select(self, state, rows):
        return self._seen(super().select(state, rows))

    def fork(self, state, rows):
        return self._seen(super().fork(state, rows))

    def _seen(self, state):
        self._models.update(run.model for run in state.runs)
        self.largest = max(self.largest, len(state))
        self.most = max(self.most, len(self._models))
        return state


def schedules() -> st.SearchStrategy[Schedule]:
    """Schedules of which many begin alike."""
    steps = st.builds(
        lambda size, gamma: Schedule(FAMILIES["step"], {"step_size": size, "gamma": gamma}),
        st.integers(1, EPOCHS),
        st.sampled_from([0.1, 0.5]),
    )
    plateau = st.builds(
        lambda factor: Schedule(
            FAMILIES["plateau"], {"mode": "min", "factor": factor, "patience": 0}
        ),
        st.sampled_from([0.1, 0.5]),
    )
    cosine = st.builds(
        lambda per: Schedule(FAMILIES["cosine"], {"T_max": EPOCHS, "eta_min": 0.0}, per),
        st.sampled_from(["epoch", "batch"]),
    )
    return st.one_of(st.just(Schedule(FAMILIES["constant"])), steps, plateau, cosine)


PLANS = st.lists(
    st.builds(Plan, st.sampled_from([0.01, 0.1, 1e200]), schedules(), st.integers(0, 1)),
    min_size=1,
    max_size=12,
)


def same_run(one: History, row: int, other: History) -> bool:
    """Whether the run of a row is, bit for bit, the only run of another history."""
    pairs = [
        (one.lr[row], other.lr[0]),
        (one.train_loss[row], other.train_loss[0]),
        (one.diverged_at[row], other.diverged_at[0]),
        *((values[row], other.measures[name][0]) for name, values in one.measures.items()),
    ]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def distinct_updates(history: History) -> int:
    """Updates that differ in seed, peak lr or any lr up to their epoch's end."""
    seen = set()
    for row, one in enumerate(history.plans):
        for update in range(history.lr.shape[1]):
            end = (update // history.updates_per_epoch + 1) * history.updates_per_epoch
            if np.isfinite(history.lr[row, update, 0]):
                seen.add((one.seed, one.lr, history.lr[row, :end].tobytes(), update))
    return len(seen)


@settings(max_examples=25, deadline=None)
@given(plans=PLANS, capacity=st.sampled_from([1, 2, 3, 100]), noisy=st.booleans())
def test_a_run_that_shares_its_beginning_is_bitwise_the_run_alone(plans, capacity, noisy):
    task = noisy_task(epochs=EPOCHS) if noisy else linear_task(epochs=EPOCHS)
    together = fit(task, plans, trainer=Holding(capacity), evaluate_every=3)
    for row, one in enumerate(plans):
        assert same_run(together, row, fit(task, [one], evaluate_every=3))


@settings(max_examples=25, deadline=None)
@given(plans=PLANS, capacity=st.sampled_from([1, 2, 3, 100]))
def test_every_distinct_update_is_made_exactly_once(plans, capacity):
    history = fit(linear_task(epochs=EPOCHS), plans, trainer=Holding(capacity))
    assert history.updates_trained == distinct_updates(history)
    assert history.updates_asked == len(plans) * EPOCHS * PER_EPOCH


@settings(max_examples=25, deadline=None)
@given(plans=PLANS, capacity=st.integers(1, 5))
def test_no_population_exceeds_the_capacity_and_few_wait(plans, capacity):
    trainer = Holding(capacity)
    fit(linear_task(epochs=EPOCHS), plans, trainer=trainer)
    waiting = 1 + math.log2(max(1, len(plans) / capacity))
    assert trainer.largest <= capacity
    assert trainer.most <= capacity * (1 + waiting)


@settings(max_examples=25, deadline=None)
@given(plans=PLANS, capacity=st.sampled_from([1, 3, 100]))
def test_every_plan_is_handed_out_once_and_progress_adds_up(plans, capacity):
    handed: list[int] = []
    made: list[int] = []
    history = fit(
        linear_task(epochs=EPOCHS),
        plans,
        trainer=Holding(capacity),
        progress=made.append,
        finished=lambda rows, part: handed.extend(rows),
    )
    assert sorted(handed) == list(range(len(plans)))
    assert sum(made) == history.updates_asked


def test_step_decays_of_one_lr_share_their_constant_trunk():
    plans = [plan(0.01, family="step", step_size=k, gamma=0.5) for k in (1, 2, 3)]
    history = fit(linear_task(epochs=EPOCHS), plans)
    trunk = 3
    tails = sum(EPOCHS - k for k in (1, 2, 3))
    assert history.updates_trained == PER_EPOCH * (trunk + tails)


def test_duplicates_are_trained_once():
    history = fit(linear_task(), [plan(), plan(), plan()])
    assert history.trained.tolist() == [12, 0, 0]
    assert np.array_equal(history.train_loss[0], history.train_loss[2])


def test_a_plateau_shares_the_constant_run_until_it_first_decays():
    plateau = plan(0.05, family="plateau", mode="min", factor=0.1, patience=0)
    history = fit(linear_task(epochs=10), [plan(0.05), plateau])
    lrs = history.lr[1, :, 0]
    shared = int(np.argmax(lrs < 0.05))
    assert 0 < shared < len(lrs)
    assert history.trained.tolist() == [len(lrs), len(lrs) - shared]


def test_plans_that_diverge_together_have_diverged_at_the_same_update():
    history = fit(linear_task(), [plan(1e200), plan(1e200, family="step", step_size=2, gamma=0.1)])
    assert history.diverged_at[0] == history.diverged_at[1] >= 0
    assert history.trained[1] == 0


def test_an_optimizer_that_uses_the_lr_otherwise_is_not_shared_between_lrs():
    def decayed(model, lr):
        return torch.optim.SGD(model.parameters(), lr, weight_decay=lr)

    task = linear_task(optimizer=decayed)
    warm = [Plan(lr, Schedule(FAMILIES["constant"], {}, "epoch", 0), 0) for lr in (0.01, 0.02)]
    together = fit(task, warm)
    assert all(same_run(together, row, fit(task, [one])) for row, one in enumerate(warm))


def test_runs_of_one_seed_read_a_loader_together_where_they_fit():
    read: list[int] = []

    class Reading(DataLoader):
        def __iter__(self):
            read.append(1)
            return super().__iter__()

    task = linear_task(train=Reading(regression_rows(), 16, shuffle=True), epochs=2)
    plans = [plan(lr, seed) for lr in (0.01, 0.02, 0.03) for seed in (0, 1, 2)]
    fit(task, plans, trainer=Holding(4))
    assert len(read) == 2 * 3  # epochs x seeds


@pytest.mark.parametrize("capacity", [1, 4])
def test_groups_keep_their_own_learning_rates_where_runs_are_forked(capacity):
    def groups(model, lr):
        first, *others = model.parameters()
        return torch.optim.SGD([{"params": [first], "lr": lr / 10}, {"params": others}], lr)

    task = linear_task(optimizer=groups, epochs=EPOCHS)
    plans = [plan(0.02, family="step", step_size=k, gamma=0.5) for k in (1, 3)]
    together = fit(task, plans, trainer=Holding(capacity))
    assert all(same_run(together, row, fit(task, [one])) for row, one in enumerate(plans))
    assert np.allclose(together.lr[:, :, 0] * 10, together.lr[:, :, 1])


def test_momentum_is_forked_with_the_weights():
    task = linear_task(optimizer=momentum, epochs=EPOCHS)
    plans = [plan(0.02, family="step", step_size=2, gamma=gamma) for gamma in (0.1, 0.9)]
    together = fit(task, plans)
    assert together.trained[1] == PER_EPOCH * (EPOCHS - 2)
    assert all(same_run(together, row, fit(task, [one])) for row, one in enumerate(plans))


def test_plateau_goes_by_the_start_where_a_watched_metric_is_not_finite_at_first():
    calls = []

    def metric(output, target):
        calls.append(1)
        return torch.tensor(1.0 if len(calls) == 1 else float("nan"))

    task = linear_task(metrics={"f1": metric}, epochs=3)
    plateau = plan(0.02, family="plateau", mode="max", factor=0.5, patience=0)
    history = fit(task, [plateau], watch="f1")
    assert history.diverged_at.tolist() == [-1]
    assert np.isfinite(history.lr).all()


def test_a_branch_that_diverges_takes_no_other_with_it():
    """Plans that part have each a watch of its own over their losses, from what they share on."""
    jump = Family(
        name="jump",
        build=lambda optimizer, p: LambdaLR(optimizer, lambda epoch: p["factor"] ** (epoch > 1)),
        space=lambda trial, budget: {"factor": 1.0},
    )
    task = linear_task(optimizer=momentum, epochs=EPOCHS)
    plans = [Plan(0.01, Schedule(jump, {"factor": factor}), 0) for factor in (500.0, 1.0, 0.5)]
    together = fit(task, plans)
    assert together.updates_trained < together.updates_asked
    for row, alone in enumerate(plans):
        history = fit(task, [alone])
        assert together.diverged_at[row] == history.diverged_at[0]
        np.testing.assert_array_equal(together.train_loss[row], history.train_loss[0])
    assert (together.diverged_at >= 0).tolist() == [True, False, False]
