"""Schedulers of the user's own see the optimizer that is trained with; what they raise is told."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import PER_EPOCH, linear_task, plan
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.experiment import Experiment
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.schedules import FAMILIES, Family, Schedule
from lrfinder.settings import RunSettings
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer
from lrfinder.tuning.lr_ranges import from_range_test

TRAINERS = {"sequential": SequentialTrainer(), "batched": BatchedTrainer()}
LR = 0.04


class Adam(torch.optim.Adam):
    """An optimizer of the user's own, with an attribute that schedulers may read."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.floor = lr / 8


def own_optimizer(model, lr):
    groups = [
        {"params": [model.weight], "decays": True},
        {"params": [model.bias], "decays": False, "lr": lr / 2},
    ]
    return Adam(groups, lr)


class ToFloor(LRScheduler):
    """A scheduler without a closed form, for `Adam` alone."""

    def get_lr(self):
        if not isinstance(self.optimizer, Adam):
            raise TypeError(f"needs Adam, but got {type(self.optimizer).__name__}")
        return [max(group["lr"] / 2, self.optimizer.floor) for group in self.optimizer.param_groups]


def cosine_to(floor):
    """As several schedulers of transformers: the floor is a share of the optimizer's lr."""

    def build(optimizer, _):
        share = floor / optimizer.defaults["lr"]
        return LambdaLR(optimizer, lambda t: share + (1 - share) * (1 + np.cos(t)) / 2)

    return build


BUILDS = {
    "defaults": cosine_to(0.001),
    "group keys": lambda optimizer, _: LambdaLR(
        optimizer,
        [lambda t, on=g["decays"]: 0.5**t if on else 1.0 for g in optimizer.param_groups],
    ),
    "initial lr": lambda optimizer, _: LambdaLR(
        optimizer, lambda t: optimizer.param_groups[1].get("initial_lr", 1.0) ** t
    ),
    "class and attribute": lambda optimizer, _: ToFloor(optimizer),
    "betas": lambda optimizer, _: LambdaLR(
        optimizer, lambda t: optimizer.param_groups[0]["betas"][0] ** t
    ),
}


def own(build, **fields) -> Family:
    return Family("own", build, lambda *_: {}, **fields)


def own_task(build, **fields) -> Task:
    return linear_task(**{"optimizer": own_optimizer, "schedules": {"own": own(build)}, **fields})


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("name", BUILDS)
def test_the_lrs_trained_by_are_those_of_the_pasted_code(name, objects, trainer, warmup):
    task = own_task(BUILDS[name], epochs=5)
    if objects:
        model = task.model()
        optimizer = own_optimizer(model, LR if "attribute" in name else 2 * LR)
        data = (task.criterion, task.train, task.valid)
        fields = {"schedules": task.schedules, "batch_size": task.batch_size}
        task = Task.from_objects(model, optimizer, *data, **fields)
    schedule = Schedule(own(BUILDS[name]), warmup=warmup)
    history = fit(task, [Plan(LR, schedule, 0)], updates=20, trainer=TRAINERS[trainer])
    optimizer, rows = own_optimizer(task.model(), LR), []
    scope = {"torch": torch, "optimizer": optimizer, "task": task}
    exec(schedule.code(), scope)
    for _ in range(5):
        rows += [[group["lr"] for group in optimizer.param_groups]]
        optimizer.step()
        exec(schedule.step_code, scope)
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH], rows, rtol=1e-12)
    assert len(np.unique(rows)) > 2


@pytest.mark.parametrize("name", BUILDS)
def test_a_suggestion_is_moved_to_the_family_as_the_optimizer_has_it(name):
    experiment = Experiment(RunSettings(task="own", families=["own"]), own_task(BUILDS[name]))
    suggestion = Suggestion(0.1, 0.05, 0.2, "suggested", "")
    spaces, _ = from_range_test(experiment.spaces(None)[0], experiment.task, suggestion)
    assert all(space.lr_low < 0.1 < space.lr_high for space in spaces)


def fails(*_):
    raise ZeroDivisionError("by nothing")


def at_step(k):
    return lambda optimizer, _: LambdaLR(optimizer, lambda t: 1.0 if t < k else fails())


class NotAfterWarmup(LRScheduler):
    """Raises when it is started at another lr than the optimizer's own."""

    def get_lr(self):
        if self.optimizer.param_groups[0]["lr"] != self.base_lrs[0]:
            fails()
        return self.base_lrs


RAISING = {
    "in build": ({"build": fails}, 0, "starting"),
    "at its start": ({"build": at_step(0)}, 0, "starting"),
    "at the second step": ({"build": at_step(1)}, 0, "stepping"),
    "at the last step": ({"build": at_step(2)}, 0, "stepping"),
    "after warm-up": ({"build": lambda o, _: NotAfterWarmup(o)}, 1, "st(arting|epping)"),
    "in space": ({"build": at_step(9), "space": fails}, 0, "searching"),
    "in defaults": ({"build": at_step(9), "defaults": fails}, 0, "searching"),
}


def raising(case) -> Task:
    fields, _, _ = RAISING[case]
    return linear_task(
        schedules={"own": Family(**{"name": "own", "space": lambda *_: {}} | fields)}
    )


@pytest.mark.parametrize("case", RAISING)
def test_what_a_family_raises_is_one_line_with_its_place_before_anything_trains(case):
    _, warmup, doing = RAISING[case]
    settings = RunSettings(task="own", families=["own"], warmup=warmup)
    with pytest.raises(TaskFailed) as error:
        Experiment(settings, raising(case))
    line = inspect.getsourcelines(fails)[1] + 1
    place = rf"\({Path(__file__).name}, line {line}\)"
    assert error.match(f"^{doing} the schedule own, .*ZeroDivisionError: by nothing {place}$")


@pytest.mark.parametrize("case", [case for case in RAISING if case[:2] in ("in", "at")])
def test_and_where_it_is_trained_by_without_being_gone_through(case):
    if RAISING[case][2] == "searching":
        return
    schedule = Schedule(raising(case).schedules["own"])
    with pytest.raises(TaskFailed, match=r"the schedule own, .*by nothing"):
        fit(raising(case), [Plan(LR, schedule, 0)])


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda o, _: LambdaLR(o, lambda t: -1.0), "finite learning rates >= 0, but gave -"),
        (lambda o, _: LambdaLR(o, lambda t: float("nan") if t else 1), "but gave nan"),
        (lambda o, _: LambdaLR(o, lambda t: 1e400 if t else 1), "but gave inf"),
        (lambda o, _: OneCycleLR(o, 0.1, 10), "leave momentum alone.*cycle_momentum=False"),
    ],
)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_schedule_that_trains_otherwise_than_it_is_pasted_is_refused(build, said, optimizer):
    kinds = {
        "SGD": lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.95),
        "Adam": lambda model, lr: torch.optim.Adam(model.parameters(), lr),
    }
    task = linear_task(schedules={"own": own(build)}, optimizer=kinds[optimizer])
    with pytest.raises(InvalidArgument, match=said) as error:
        Experiment(RunSettings(task="own", families=["own"]), task)
    assert "\n" not in str(error.value)


class WeightDecay(LambdaLR):
    """Moves the weight decay beside the lr."""

    def step(self):
        super().step()
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.1 * self.last_epoch


def test_a_scheduler_that_moves_the_weight_decay_is_refused():
    schedule = Schedule(own(lambda optimizer, _: WeightDecay(optimizer, lambda t: 1.0)))
    with pytest.raises(InvalidArgument, match="own must leave weight_decay alone"):
        fit(linear_task(), [Plan(LR, schedule, 0)])


def test_the_optimizer_that_is_trained_is_not_touched_by_schedules():
    built = []

    def optimizer(model, lr):
        built.append(torch.optim.SGD(model.parameters(), lr))
        return built[-1]

    fit(linear_task(optimizer=optimizer), [plan(family="exponential", gamma=0.5)])
    assert all("initial_lr" not in one.param_groups[0] for one in built)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_gone_through_in_a_short_time(name):
    settings = RunSettings(task="own", families=[name], per="batch", epochs=200)
    Experiment(settings, linear_task())
