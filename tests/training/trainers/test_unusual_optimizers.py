"""Closures, wrapped optimizers, lazy modules, and parameters that nobody trains."""

import numpy as np
import pytest
import torch
from small_tasks import linear_model, linear_task, momentum, noisy_model, plan, regression_rows
from torch import Tensor, nn

import lrfinder
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

STEP = [plan(0.02, family="step", step_size=1, gamma=gamma) for gamma in (0.5, 0.1)]


class Asserts(torch.optim.SGD):
    """As sharpness-aware minimisation is usually written."""

    def step(self, closure=None):
        assert closure is not None, "needs a closure"
        closure()
        return super().step()


class Calls(torch.optim.SGD):
    def step(self, closure=None):
        closure()
        return super().step()


class Raises(torch.optim.SGD):
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("step() requires a Closure")
        return super().step(closure)


@pytest.mark.parametrize("kind", [Asserts, Calls, Raises])
@pytest.mark.parametrize("act", ["fit", "range test", "run"])
def test_a_closure_asked_for_at_run_time_is_told_in_one_line(tmp_path, kind, act):
    task = linear_task(optimizer=lambda model, lr: kind(model.parameters(), lr))
    acts = {
        "fit": lambda: fit(task, [plan()]),
        "range test": lambda: range_test(task),
        "run": lambda: lrfinder.run(task, out=tmp_path / "run", progress=False),
    }
    with pytest.raises(InvalidArgument, match=f"{kind.__name__} needs a closure") as error:
        acts[act]()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


class Wrapper(torch.optim.Optimizer):
    """Passes on what is asked of it, as the optimizer that Accelerate prepares."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.skipped = False

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups):
        self.optimizer.param_groups = groups

    @property
    def state(self):
        return self.optimizer.state

    @property
    def defaults(self):
        return self.optimizer.defaults

    def step(self, closure=None):
        self.optimizer.step(closure)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)


class Lookahead(torch.optim.Optimizer):
    """Shares the groups of an inner optimizer, and moves half as far."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer.param_groups, dict(optimizer.defaults))
        self.optimizer = optimizer
        self.optimizer.param_groups = self.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        before = [p.clone() for p in parameters]
        self.optimizer.step()
        for p, old in zip(parameters, before, strict=True):
            p.lerp_(old, 0.5)


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()])
def test_a_wrapper_that_passes_everything_on_is_the_optimizer_inside(trainer, objects):
    task = linear_task(optimizer=lambda model, lr: Wrapper(momentum(model, lr)))
    if objects:
        torch.manual_seed(0)
        model, data = linear_model(), (task.criterion, task.train, task.valid)
        given = {"batch_size": 16, "epochs": 3}
        task = Task.from_objects(model, Wrapper(momentum(model, 0.1)), *data, **given)
        plain = Task.from_objects(model, momentum(model, 0.1), *data, **given)
    else:
        plain = linear_task()
    assert task.prototype.optimizer == "SGD"
    found, expected = (fit(one, STEP, trainer=trainer) for one in (task, plain))
    np.testing.assert_array_equal(found.train_loss, expected.train_loss)
    assert found.updates_trained == expected.updates_trained


def test_a_wrapper_that_does_more_is_left_as_it_is():
    wrapped = linear_task(optimizer=lambda m, lr: Lookahead(torch.optim.SGD(m.parameters(), lr)))
    plain = linear_task(optimizer=lambda m, lr: torch.optim.SGD(m.parameters(), lr / 2))
    assert wrapped.prototype.optimizer == "Lookahead"
    found, expected = fit(wrapped, STEP), fit(plain, STEP)
    np.testing.assert_allclose(found.train_loss, expected.train_loss, rtol=1e-9)
    shared = Task.from_objects(
        *_model_and(lambda m: Lookahead(torch.optim.SGD(m.parameters(), 0.1))),
        nn.MSELoss(),
        regression_rows(),
        regression_rows(41, seed=1),
        batch_size=16,
        epochs=3,
    )
    alone = [fit(shared, [one]).train_loss[0] for one in STEP]
    np.testing.assert_array_equal(fit(shared, STEP).train_loss, alone)


def _model_and(optimizer):
    torch.manual_seed(0)
    model = linear_model()
    return model, optimizer(model)


class NoOptimizer:
    """A wrapper that is no torch Optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def test_another_wrapper_is_refused_with_what_to_return():
    task = linear_task(optimizer=lambda model, lr: NoOptimizer(momentum(model, lr)))
    with pytest.raises(InvalidArgument, match=r"got NoOptimizer; return its \.optimizer"):
        fit(task, [plan()])


def lazy_model() -> nn.Module:
    layers = (nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(1))
    return nn.Sequential(*layers).double()


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_live_objects_without_weights_are_refused_and_the_advice_helps():
    model, data = lazy_model(), (nn.MSELoss(), regression_rows())
    with pytest.raises(InvalidArgument, match="run a batch through it first") as error:
        Task.from_objects(model, momentum(model, 0.1), *data)
    assert "\n" not in str(error.value)
    model(regression_rows().tensors[0])
    Task.from_objects(model, momentum(model, 0.1), *data)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()])
def test_lazy_modules_are_built_under_the_seed_of_their_run(trainer):
    task = linear_task(model=lazy_model)
    plans = [*STEP, plan(seed=1), plan(seed=0)]
    found = fit(task, plans, trainer=trainer)
    starts = found.measures["loss"][:, 0]
    assert starts[0] == starts[1] == starts[3]
    assert starts[0] != starts[2]
    assert (found.measures["loss"][:, -1] < starts).all()
    alone = [fit(task, [one], trainer=trainer).measures["loss"][0] for one in plans]
    np.testing.assert_allclose(found.measures["loss"], alone, rtol=1e-9)
    assert range_test(task, seeds=2, steps=20).suggest().reason
    assert task.prototype.parameters == 0


def test_a_model_without_lazy_modules_is_not_run_to_be_built():
    calls: list[int] = []

    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return super().forward(x)

    task = linear_task(model=lambda: Counting(4, 1).double())
    SequentialTrainer().start(task, [0], [0.1])
    assert calls == []


class Learnt(nn.Module):
    """A criterion with a weight that somebody should train."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.scale * (output - target) ** 2).mean()


UNTRAINED = {
    "a criterion's": (
        {"criterion": Learnt()},
        "the criterion has parameters of its own, which nobody trains",
    ),
    "a part of the model": (
        {"optimizer": lambda model, lr: torch.optim.SGD([model.weight], lr)},
        "1 of the model's 2 trainable parameters are not in the optimizer",
    ),
}


@pytest.mark.parametrize("case", UNTRAINED)
def test_parameters_that_nobody_trains_are_noted(tmp_path, case):
    fields, said = UNTRAINED[case]
    task = linear_task(**fields)
    assert [note for note in task.data().notes() if note.startswith(said)]
    options = {"families": ["step"], "lr": 0.02, "trials": 1, "trial_seeds": 1, "confirm_seeds": 1}
    run = lrfinder.run(task, out=tmp_path / "run", progress=False, **options)
    assert [note for note in run.answers.notes if note.startswith(said)]


def test_nothing_is_noted_where_all_is_trained_or_frozen():
    def frozen() -> nn.Module:
        model = noisy_model()
        model[0].requires_grad_(False)
        return model

    def optimizer(model, lr):
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr)

    assert linear_task(model=frozen, optimizer=optimizer).data().notes() == []


OTHER = linear_model()


@pytest.mark.parametrize("act", [lambda task: fit(task, [plan()]), range_test])
def test_a_loss_of_another_model_is_refused(act):
    task = linear_task(criterion=None, loss=lambda _, b: ((OTHER(b[0]) - b[1]) ** 2).mean())
    with pytest.raises(InvalidArgument, match="no parameter of the optimizer gets a gradient"):
        act(task)
