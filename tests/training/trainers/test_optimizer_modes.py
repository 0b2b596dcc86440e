"""Optimizers that train at other weights than they evaluate, as schedule-free ones do."""

import copy

import numpy as np
import pytest
import torch
from small_tasks import linear_model, linear_task, momentum, plan

from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit


class Averaging(torch.optim.SGD):
    """SGD that evaluates at the mean of the weights that it has gone through."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.param_groups[0].update(training=False, steps=0)

    def _switch(self, training):
        group = self.param_groups[0]
        if group["training"] == training:
            return
        group["training"] = training
        for p in group["params"]:
            if "other" in self.state[p]:
                other = self.state[p]["other"].clone()
                self.state[p]["other"].copy_(p.detach())
                p.data.copy_(other)

    def train(self):
        self._switch(True)

    def eval(self):
        self._switch(False)

    def step(self, closure=None):
        group = self.param_groups[0]
        assert group["training"], "not in train mode"
        super().step()
        group["steps"] += 1
        for p in group["params"]:
            mean = self.state[p].setdefault("other", p.detach().clone())
            mean.lerp_(p.detach(), 1 / group["steps"])


def averaging(model, lr):
    return Averaging(model.parameters(), lr)


def by_hand(task: Task, lr: float) -> list[float]:
    """Validation loss before training and after every epoch, at the mean of the weights."""
    data = task.data()
    [model] = [None]
    seen: list[float] = []

    def watch(made_model, made_lr):
        nonlocal model
        model = made_model
        return torch.optim.SGD(made_model.parameters(), made_lr)

    twin = linear_task(optimizer=watch)
    fit(twin, [plan(lr)], updates=1)
    plain = [
        fit(twin, [plan(lr)], updates=k) and copy.deepcopy(model.state_dict())
        for k in range(1, task.epochs * data.updates_per_epoch + 1)
    ]
    for epoch in range(1, task.epochs + 1):
        weights = plain[: epoch * data.updates_per_epoch]
        mean = {k: torch.stack([w[k] for w in weights]).mean(0) for k in weights[0]}
        model.load_state_dict(mean)
        x, y = task.valid.tensors
        with torch.no_grad():
            seen.append(float(task.criterion(model(x), y)))
    return seen


def test_a_run_trains_in_train_mode_and_is_evaluated_in_eval_mode():
    task = linear_task(optimizer=averaging)
    found = fit(task, [plan(0.02)]).measures["loss"][0]
    np.testing.assert_allclose(found[1:], by_hand(task, 0.02), rtol=1e-5)
    plain = fit(
        linear_task(optimizer=lambda m, lr: torch.optim.SGD(m.parameters(), lr)), [plan(0.02)]
    )
    assert found[0] == plain.measures["loss"][0, 0]
    assert abs(found[-1] / plain.measures["loss"][0, -1] - 1) > 1e-3


def test_runs_that_share_a_beginning_are_those_that_do_not():
    task = linear_task(optimizer=averaging)
    plans = [plan(0.02, family="step", step_size=1, gamma=gamma) for gamma in (0.5, 0.1)]
    together = fit(task, plans)
    alone = [fit(task, [one]) for one in plans]
    assert together.updates_trained < together.updates_asked
    for row, one in enumerate(alone):
        np.testing.assert_array_equal(together.measures["loss"][row], one.measures["loss"][0])


def test_it_is_not_batched():
    reason = BatchedTrainer().why_not(linear_task(optimizer=averaging))
    assert reason == "Averaging switches between train() and eval()"


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_live_objects_may_be_in_either_mode_and_stay_in_it(mode):
    given = linear_task()
    torch.manual_seed(0)
    model = linear_model()
    optimizer = averaging(model, 0.05)
    getattr(optimizer, mode)()
    task = Task.from_objects(
        model, optimizer, given.criterion, given.train, given.valid, batch_size=16, epochs=3
    )
    range_test(task, steps=10, probes=0)
    assert optimizer.param_groups[0]["training"] == (mode == "train")
    assert fit(task, [plan(0.02)]).diverged_at.tolist() == [-1]


def test_an_optimizer_without_modes_is_left_alone():
    assert not hasattr(momentum(linear_model(), 0.1), "train")
