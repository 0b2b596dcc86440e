"""Tasks from live objects: they are copied, and nothing of the caller's changes."""

import copy
from contextlib import suppress
from types import MethodType

import numpy as np
import pytest
import torch
from small_tasks import (
    FEATURES,
    PER_EPOCH,
    Trips,
    global_states,
    linear_model,
    linear_task,
    momentum,
    no_global_draw,
    plan,
    regression_rows,
)
from torch import nn
from torch.utils.data import DataLoader

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.from_objects import factories
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

ACTIONS = {
    "range test": lambda task: range_test(task, steps=9, seeds=2, probes=3, max_lr=1.0),
    "range test per epoch": lambda task: range_test(
        task, steps=8, seeds=1, probes=3, every="epoch", max_lr=0.1
    ),
    "fit": lambda task: fit(task, [plan(0.01, seed) for seed in (0, 1)]),
    "a run that diverges": lambda task: range_test(task, steps=20, seeds=1, probes=3, max_lr=1e6),
}
FAMILIES = {
    "SGD": lambda params: torch.optim.SGD(params, 0.01, momentum=0.9),
    "Adam": lambda params: torch.optim.Adam(params, 0.01, amsgrad=True),
    "AdamW": lambda params: torch.optim.AdamW(params, 0.01),
    "RMSprop": lambda params: torch.optim.RMSprop(params, 0.01, momentum=0.5),
}


class Network(nn.Module):
    """Dropout, batch normalisation, a buffer that is not saved, a frozen part and a trap."""

    def __init__(self, at: int = -1, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES))
        self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
        self.head = nn.Linear(8, 1)
        self.trap = Trips(at, error)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.double()

    def forward(self, x):
        if self.training:
            self.seen += len(x)
        return self.head(self.body(self.frozen(x))) + 0 * self.trap(x)


class Training:
    """A caller in the middle of training: everything of theirs that a test may move."""

    def __init__(self, kind: str = "SGD", at: int = -1, error=RuntimeError) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = Network(at, error)
        groups = [
            {"params": [*self.model.body.parameters(), *self.model.trap.parameters()]},
            {"params": self.model.head.parameters(), "lr": 0.001},
        ]
        self.optimizer = FAMILIES[kind](groups)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.5)
        self.generator = torch.Generator().manual_seed(0)
        self.loader = DataLoader(regression_rows(), 16, shuffle=True, generator=self.generator)
        self.model.frozen.eval().requires_grad_(False)

    def train(self, epochs: int = 1) -> None:
        at, self.model.trap.at = self.model.trap.at, -1
        for _ in range(epochs):
            with torch.random.fork_rng():
                torch.manual_seed(1)
                for x, y in self.loader:
                    self.optimizer.zero_grad()
                    nn.functional.mse_loss(self.model(x), y).backward()
                    self.optimizer.step()
            self.scheduler.step()
        self.model.trap.calls, self.model.trap.at = 0, at

    def task(self, **fields) -> Task:
        valid = regression_rows(41, seed=1)
        arguments = (self.model, self.optimizer, nn.MSELoss(), self.loader, valid)
        return Task.from_objects(*arguments, **{"epochs": 2, **fields})

    def everything(self) -> list[object]:
        """All that could have moved, in a form that == compares bitwise."""
        model, tensors = self.model, [*self.model.named_parameters(), *self.model.named_buffers()]
        state = self.optimizer.state_dict()
        slots = [(k, n, plain(v)) for k, s in state["state"].items() for n, v in s.items()]
        return [
            {name: plain(tensor) for name, tensor in tensors},
            {name: plain(p.grad) for name, p in model.named_parameters()},
            {name: module.training for name, module in model.named_modules()},
            [id(p) for p in model.parameters()],
            slots,
            state["param_groups"],
            [group["lr"] for group in self.optimizer.param_groups],
            {k: v for k, v in self.scheduler.state_dict().items() if k != "_get_lr_called"},
            plain(self.generator.get_state()),
            model.trap.calls,
            global_states(),
        ]


def plain(value: object) -> object:
    return value.detach().numpy().tobytes() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("state", ["fresh", "keep"])
def test_nothing_of_the_callers_changes(kind, state):
    mine = Training(kind)
    mine.train()
    before = mine.everything()
    task = mine.task(optimizer_state=state)
    for act in ACTIONS.values():
        act(task)
        act(task)
    assert mine.everything() == before


@pytest.mark.parametrize("mode", [True, False])
def test_train_flags_stay_as_they_are(mode):
    mine = Training()
    mine.model.train(mode)
    before = mine.everything()
    ACTIONS["range test"](mine.task())
    assert mine.everything() == before


@pytest.mark.parametrize("at", [0, 1, 5])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_of_the_callers_changes_when_a_run_stops_in_the_middle(at, error):
    mine = Training(at=at, error=error)
    mine.train()
    before = mine.everything()
    expected = TaskFailed if error is RuntimeError else KeyboardInterrupt
    with pytest.raises(expected):
        ACTIONS["range test"](mine.task())
    assert mine.everything() == before


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("action", ACTIONS)
def test_training_after_a_test_is_bitwise_training_without_it(kind, action):
    tested, untested = Training(kind), Training(kind)
    outcomes = []
    for mine in (tested, untested):
        mine.train()
        if mine is tested:
            ACTIONS[action](mine.task(optimizer_state="keep"))
        mine.train(2)
        outcomes.append(mine.everything()[:-1])
    # parameters are told apart by address, which two trainings cannot share
    assert [o for k, o in enumerate(outcomes[0]) if k != 3] == [
        o for k, o in enumerate(outcomes[1]) if k != 3
    ]


def test_training_after_an_interrupted_test_is_bitwise_training_without_it():
    ends = []
    for at in (-1, 6):
        mine = Training(at=at, error=KeyboardInterrupt)
        mine.train()
        with suppress(KeyboardInterrupt):
            ACTIONS["range test"](mine.task(optimizer_state="keep"))
        mine.train()
        ends.append(mine.everything()[0])
    assert ends[0] == ends[1]


def resumed(state: str) -> np.ndarray:
    mine = Training()
    mine.train(3)
    with no_global_draw():
        history = fit(mine.task(optimizer_state=state), [plan(0.01, 0)], updates=6)
    return history.train_loss[0]


def test_kept_state_and_fresh_state_differ_after_the_first_update():
    kept, fresh = resumed("keep"), resumed("fresh")
    assert kept[0] == fresh[0]
    assert (kept[1:] != fresh[1:]).all()


def by_hand(model, optimizer, lrs: tuple[float, ...], updates: int) -> list[float]:
    """The next losses of a plain loop over the task's own batches."""
    source = linear_task().data().source
    losses = []
    for x, y in source.epoch(0, 0, 0):
        if len(losses) == updates:
            break
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("state", ["fresh", "keep"])
def test_a_run_continues_from_the_callers_weights_and_state(kind, state):
    model = linear_model()
    optimizer = FAMILIES[kind](model.parameters())
    by_hand(model, optimizer, (0.05,), 3)
    data = regression_rows()
    task = Task.from_objects(
        model, optimizer, nn.MSELoss(), data, data, batch_size=16, optimizer_state=state
    )
    history = fit(task, [plan(0.02)], updates=PER_EPOCH)
    twin = copy.deepcopy(model)
    ours = FAMILIES[kind](twin.parameters())
    if state == "keep":
        ours.load_state_dict(optimizer.state_dict())
    assert history.train_loss[0].tolist() == by_hand(twin, ours, (0.02,), PER_EPOCH)


def test_groups_keep_their_ratio_to_the_largest_lr_which_becomes_the_baseline():
    task = Training().task()
    assert task.baseline is not None
    assert task.baseline.lr == 0.01
    history = fit(task, [plan(0.5)], updates=2)
    np.testing.assert_allclose(history.lr[0], [[0.5, 0.05]] * 2)


def test_an_optimizer_whose_lr_is_zero_has_no_baseline_and_trains_at_the_lr_asked_for():
    model = linear_model()
    task = Task.from_objects(
        model, momentum(model, 0.0), nn.MSELoss(), regression_rows(), regression_rows()
    )
    assert task.baseline is None
    assert fit(task, [plan(0.5)], updates=1).lr.tolist() == [[[0.5]]]


def test_a_baseline_of_the_callers_own_is_kept():
    task = Training().task(baseline=None, name="mine")
    assert task.baseline is None
    assert task.name == "mine"


def test_a_seed_varies_data_order_and_dropout_but_not_the_weights():
    history = fit(Training().task(), [plan(0.01, 0), plan(0.01, 1)], updates=2)
    assert history.measures["loss"][0, 0] == history.measures["loss"][1, 0]
    assert history.train_loss[0, 0] != history.train_loss[1, 0]


def training_flags(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def test_a_model_in_eval_mode_is_trained_in_train_mode():
    mine = Training()
    mine.model.eval()
    assert all(training_flags(mine.task().model()).values())


def test_frozen_parts_of_a_model_in_train_mode_stay_in_eval_mode():
    mine = Training()
    flags = training_flags(mine.task().model())
    assert {name for name, training in flags.items() if not training} == {
        "frozen",
        "frozen.0",
        "frozen.1",
    }
    first = fit(mine.task(), [plan(0.01)], updates=4)
    assert np.isfinite(first.train_loss).all()


def test_an_optimizer_of_strangers_is_refused():
    model, other = linear_model(), linear_model()
    optimizer = momentum(nn.ModuleList([model, other]), 0.1)
    with pytest.raises(InvalidArgument, match="the model's parameters only, but got 2 others"):
        Task.from_objects(model, optimizer, nn.MSELoss(), regression_rows())


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()
        self.cached = self.layer.weight * 2  # a tensor inside a graph


REFUSED = {
    "state": (linear_model, momentum, {"optimizer_state": "warm"}, "optimizer_state.*'warm'"),
    "model": (lambda: "net", lambda m, lr: momentum(linear_model(), lr), {}, "model.*str"),
    "optimizer": (linear_model, lambda m, lr: "sgd", {}, "optimizer.*str"),
    "copy": (Uncopyable, momentum, {}, r"copyable.*Task\(model="),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case):
    make_model, make_optimizer, fields, pattern = REFUSED[case]
    model = make_model()
    with pytest.raises(InvalidArgument, match=pattern) as error:
        Task.from_objects(
            model, make_optimizer(model, 0.1), nn.MSELoss(), regression_rows(), **fields
        )
    assert "\n" not in str(error.value)


def test_a_loss_of_model_and_batch_goes_with_no_criterion():
    model = linear_model()
    task = Task.from_objects(
        model,
        momentum(model, 0.1),
        None,
        regression_rows(),
        regression_rows(),
        loss=lambda m, batch: nn.functional.mse_loss(m(batch[0]), batch[1]),
    )
    assert np.isfinite(fit(task, [plan(0.01)], updates=1).train_loss).all()


@pytest.mark.parametrize("kind", FAMILIES)
def test_kept_state_follows_the_parameters_to_another_device(kind):
    mine = Training(kind)
    mine.train()
    task = mine.task(optimizer_state="keep")
    optimizer = task.optimizer(task.model().to("meta"), 0.1)
    places = {n: v.device.type for slots in optimizer.state.values() for n, v in slots.items()}
    stepped = {"step": "cpu"} if "step" in places else {}  # where torch's own loading keeps it
    assert places == {**dict.fromkeys(places, "meta"), **stepped}
    assert len(optimizer.state) == len(mine.optimizer.state)
    options = [
        {k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups
    ]
    assert [option["lr"] for option in options] == pytest.approx([0.1, 0.01])
    stays = task.optimizer(task.model(), 0.1).param_groups
    assert options == [{k: v for k, v in group.items() if k != "params"} for group in stays]
    assert {p.device.type for g in optimizer.param_groups for p in g["params"]} == {"meta"}


class Halving(torch.optim.SGD):
    """Gradient descent with an attribute that its step needs."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr)
        self.share = 0.5

    def step(self, closure=None) -> None:
        for group in self.param_groups:
            group["lr"] *= self.share
        super().step()


def test_the_copy_of_an_optimizer_has_its_hooks_and_attributes_but_no_counter_of_a_scheduler():
    model, called = nn.Linear(2, 1), list[torch.optim.Optimizer]()
    optimizer = Halving(model.parameters(), 0.1)
    optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: called.append(optimizer))
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    make_model, make_optimizer, _ = factories(model, optimizer, "fresh")
    built = make_model()
    twin, before = make_optimizer(built, 1.0), [p.clone() for p in model.parameters()]
    built(torch.ones(1, 2)).sum().backward()
    twin.step()
    assert called
    assert all(one is twin for one in called)
    assert twin.param_groups[0]["lr"] == 0.5
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def wrapped(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """An optimizer with a function around its step, as many a script makes one."""
    optimizer = momentum(model, lr)
    plain = optimizer.step
    optimizer.step = lambda closure=None: plain(closure)
    return optimizer


def with_another(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(1))], lr)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (wrapped, r"the optimizer's step must be .*; write a subclass of SGD"),
        (with_another, r"the model's parameters only, but got 1 others"),
    ],
)
@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()])
def test_an_optimizer_that_a_copy_would_not_step_like_is_refused(build, reason, trainer):
    model = linear_model()
    with pytest.raises(InvalidArgument, match=reason):
        Task.from_objects(model, build(model, 0.1), nn.MSELoss(), regression_rows())
    with pytest.raises(InvalidArgument, match=reason):
        fit(linear_task(optimizer=build), [plan()], trainer=trainer)


def bound(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """An optimizer with a method of its own, whose step ends twice as far."""
    optimizer = torch.optim.SGD(model.parameters(), lr)

    def step(self, closure=None) -> None:
        torch.optim.SGD.step(self)
        torch.optim.SGD.step(self)

    optimizer.step = MethodType(step, optimizer)
    return optimizer


def scheduled(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return optimizer


def compiled(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    optimizer.step = torch.compile(optimizer.step, backend="eager")
    return optimizer


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("build", "factor"), [(bound, 2.0), (scheduled, 1.0), (compiled, 1.0)])
def test_what_replaces_a_step_and_can_be_copied_goes_on_after_a_fork(build, factor):
    plain = linear_task(
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), factor * lr)
    )
    plans = [plan(0.02, family="step", step_size=1, gamma=gamma) for gamma in (0.5, 0.1)]
    found, expected = fit(linear_task(optimizer=build), plans), fit(plain, plans)
    np.testing.assert_allclose(found.train_loss, expected.train_loss, rtol=1e-9)


class Around(torch.optim.Optimizer):
    """Wraps an optimizer without torch's `__init__`, as Lookahead and its like are written."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        self.param_groups, self.state, self.defaults = base.param_groups, base.state, base.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    def step(self, closure=None) -> None:
        self.base.step()


class FurtherAround(Around):
    """Has the step of its parent."""


@pytest.mark.parametrize("kind", [Around, FurtherAround])
def test_an_optimizer_around_another_is_trained_and_its_class_left_alone(kind):
    def around(model, lr):
        return kind(torch.optim.SGD(model.parameters(), lr, momentum=0.9))

    plans = [plan(0.02, family="step", step_size=1, gamma=gamma) for gamma in (0.5, 0.1)]
    expected = fit(linear_task(), plans)
    found = fit(linear_task(optimizer=around), plans)
    np.testing.assert_allclose(found.train_loss, expected.train_loss, rtol=1e-9)
    model = linear_model()
    mine = around(model, 0.1)
    fit(Task.from_objects(model, mine, nn.MSELoss(), *[regression_rows()] * 2), plans)
    assert not hasattr(kind.step, "hooked")
    model(torch.ones(1, FEATURES, dtype=torch.float64)).sum().backward()
    mine.step()
