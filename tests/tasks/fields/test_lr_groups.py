"""A parameter group's lr may be any function of the lr asked for; every act uses what it is."""

import numpy as np
import pytest
import torch
from small_tasks import PER_EPOCH, linear_task, plan

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.report.wording import validity
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

BIAS = {
    "proportional": lambda lr: lr / 10,
    "fixed": lambda lr: 1e-2,
    "frozen": lambda lr: 0.0,
    "capped": lambda lr: min(lr, 3e-3),
    "at least": lambda lr: max(lr, 1e-3),
    "squared": lambda lr: lr**2,
    "inverse": lambda lr: 1e-6 / lr,
}
HOLDS = {"floats": float, "tensors": torch.tensor}
TRAINERS = {"sequential": SequentialTrainer(), "batched": BatchedTrainer()}


def grouped(rule, holds=float):
    """A factory whose bias has an lr of its own, and whose weight has the lr asked for."""

    def optimizer(model, lr):
        groups = [{"params": [model.bias], "lr": holds(rule(lr))}, {"params": [model.weight]}]
        return torch.optim.SGD(groups, holds(lr), momentum=0.9)

    return optimizer


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("every", ["batch", "epoch"])
@pytest.mark.parametrize("rule", BIAS)
def test_each_step_of_a_sweep_has_the_lrs_that_the_optimizer_is_built_with(
    monkeypatch, rule, every, trainer
):
    seen: list[np.ndarray] = []
    advance = type(TRAINERS[trainer]).advance

    def watched(self, state, lrs):
        seen.append(lrs[0].copy())
        return advance(self, state, lrs)

    monkeypatch.setattr(type(TRAINERS[trainer]), "advance", watched)
    task = linear_task(optimizer=grouped(BIAS[rule]))
    curve = range_test(
        task,
        steps=8,
        seeds=1,
        min_lr=1e-5,
        max_lr=1e-2,
        probes=0,
        every=every,
        trainer=TRAINERS[trainer],
    )
    expected = np.array([[BIAS[rule](float(lr)), lr] for lr in curve.lr])
    used = np.concatenate(seen)[:: PER_EPOCH if every == "epoch" else 1]
    np.testing.assert_allclose(used[:8], expected, rtol=1e-12)


@pytest.mark.parametrize("holds", HOLDS)
@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("rule", BIAS)
@pytest.mark.parametrize("family", ["constant", "step", "cosine", "plateau"])
def test_a_schedule_moves_the_groups_like_torch_does_on_the_optimizer_that_is_built(
    family, rule, trainer, holds
):
    params = {
        "constant": {},
        "step": {"step_size": 1, "gamma": 0.5},
        "cosine": {"T_max": 3, "eta_min": 0.0},
        "plateau": {"mode": "max", "factor": 0.5, "patience": 0},
    }[family]
    lr, schedule = 0.02, Schedule(FAMILIES[family], params)
    build = grouped(BIAS[rule], HOLDS[holds])
    task = linear_task(optimizer=build)
    history = fit(task, [Plan(lr, schedule, 0)], trainer=TRAINERS[trainer])
    optimizer, rows = build(task.model(), lr), []
    scope = {"torch": torch, "optimizer": optimizer}
    exec(schedule.code(), scope)
    for epoch in range(task.epochs):
        rows += [[float(group["lr"]) for group in optimizer.param_groups]]
        optimizer.step()
        scope["valid_loss"] = history.measures["loss"][0, epoch + 1]
        exec(schedule.step_code, scope)
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH], rows, rtol=1e-6)


def test_a_fixed_group_does_not_end_a_sweep():
    """The loss of the weights falls far above the lr at which a bias grown with them explodes."""
    curve = range_test(linear_task(optimizer=grouped(BIAS["fixed"])), steps=40, seeds=3)
    assert curve.suggest().verdict == "suggested"
    alone = range_test(linear_task(optimizer=grouped(lambda lr: lr)), steps=40, seeds=3)
    assert curve.suggest().lr == pytest.approx(alone.suggest().lr, rel=0.5)


def test_a_capped_lr_follows_and_one_that_is_no_function_of_the_lr_is_refused():
    capped = linear_task(optimizer=lambda m, lr: torch.optim.SGD(m.parameters(), min(lr, 1e-3)))
    assert fit(capped, [plan(5.0)]).lr.max() == 1e-3
    fixed = linear_task(optimizer=lambda m, lr: torch.optim.SGD(m.parameters(), 0.3))
    with pytest.raises(InvalidArgument, match=r"must use its lr.*\[0\.3\]"):
        range_test(fixed)


def test_the_number_of_groups_must_not_depend_on_the_lr():
    def optimizer(model, lr):
        parts = [[model.weight], [model.bias]] if lr > 0.1 else [[model.weight, model.bias]]
        return torch.optim.SGD([{"params": part} for part in parts], lr)

    with pytest.raises(InvalidArgument, match="the same parameter groups") as error:
        range_test(linear_task(optimizer=optimizer))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "lr", "lowest"),
    [
        ("proportional", 0.5, 0.05),
        ("fixed", 0.5, 1e-2),
        ("fixed", 1e-3, 1e-3),
        ("frozen", 0.5, 0.5),
    ],
)
def test_the_lowest_lr_of_a_group_bounds_the_floors_of_schedules(rule, lr, lowest):
    groups = linear_task(optimizer=grouped(BIAS[rule])).prototype.groups
    assert groups.lowest(lr) == pytest.approx(lowest)


def test_another_option_that_depends_on_the_lr_is_noted():
    def optimizer(model, lr):
        return torch.optim.SGD(model.parameters(), lr, weight_decay=lr / 10)

    (note,) = linear_task(optimizer=optimizer).data().notes()
    assert note.startswith("the optimizer's weight_decay depends on the lr")
    assert linear_task(optimizer=grouped(BIAS["fixed"])).data().notes() == []


def with_one_cycle(model, lr):
    """As some programs build it: the scheduler has lowered the optimizer's lr to lr / 25."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=100)
    return optimizer


def both_scaled(model, lr):
    groups = [{"params": [model.bias]}, {"params": [model.weight]}]
    return torch.optim.SGD(groups, 0.1 * lr)


@pytest.mark.parametrize(
    ("factory", "scale"),
    [
        (with_one_cycle, 0.04),
        (both_scaled, 0.1),
        (lambda model, lr: torch.optim.SGD(model.parameters(), lr), 1.0),
        *((grouped(rule), 1.0) for rule in BIAS.values()),
    ],
)
def test_an_optimizer_whose_lr_is_not_the_one_asked_for_is_told(factory, scale):
    """All its groups are scaled alike, so that nothing in them shows it."""
    task = linear_task(optimizer=factory)
    told = [note for note in task.data().notes() if "not the optimizer's own" in note]
    assert len(told) == (scale != 1)
    assert all(f"sets {scale:g} times the lr" in note for note in told)
    suggestion = range_test(task, seeds=1, steps=8, probes=0).suggest()
    assert suggestion.lr_scale == pytest.approx(scale)
    assert (f"at {scale:g} times this lr" in validity(suggestion)) == (scale != 1)
