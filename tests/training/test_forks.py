"""A fork goes on like a run trained alone, or there is none: hooks, closures, what has no copy."""

import copy
import io
import logging
import threading
from functools import partial, wraps
from weakref import ref

import numpy as np
import pytest
import torch
from small_tasks import PER_EPOCH, linear_model, linear_task, momentum, plan, regression_rows
from torch import Tensor, nn

import lrfinder
from lrfinder.errors import InvalidArgument
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.forks import why_not_forked
from lrfinder.training.trainers.sequential import SequentialTrainer

PLANS = [plan(0.02, family="step", step_size=1, gamma=gamma) for gamma in (0.5, 0.1)]


class Averaged(nn.Module):
    """A linear model that is evaluated with the moving average of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.live = linear_model()
        self.mean = linear_model().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.live(x) if self.training else self.mean(x)

    @torch.no_grad()
    def average(self) -> None:
        pairs = zip(self.mean.parameters(), self.live.parameters(), strict=True)
        for mean, live in pairs:
            mean.lerp_(live, 0.3)


class Average:
    """A moving average outside of the model, which it writes into `mean`."""

    def __init__(self, model: Averaged) -> None:
        self.model = model

    def update(self, *_: object) -> None:
        self.model.average()


NAMED: dict[str, Averaged] = {}


def named_average(*_: object) -> None:
    NAMED["model"].average()


def by_global(model: Averaged):
    NAMED["model"] = model
    return named_average


HOOKS = {
    "a closure": lambda model: lambda *_: model.average(),
    "an argument's default": lambda model: lambda *_, own=model: own.average(),
    "a closure of a closure": lambda model: (lambda inner: lambda *_: inner())(
        lambda: model.average()
    ),
    "an object in a closure": lambda model: (lambda own: lambda *_: own.update())(Average(model)),
    "a decorated closure": lambda model: wraps(named_average)(lambda *_: model.average()),
    "a weak reference": lambda model: (lambda own: lambda *_: own().average())(ref(model)),
    "a global variable": by_global,
    "a bound method": lambda model: Average(model).update,
    "a partial": lambda model: partial(Average.update, Average(model)),
}
COPIED = ("a bound method", "a partial")
"""Those that copy.deepcopy takes along."""


def averaging(hook: str, register: str = "register_step_post_hook"):
    def optimizer(model, lr):
        built = torch.optim.SGD([*model.live.parameters()], lr, momentum=0.9)
        getattr(built, register)(HOOKS[hook](model))
        return built

    return optimizer


def averaged_task(hook: str, **fields) -> Task:
    return linear_task(model=Averaged, optimizer=averaging(hook), **fields)


def alone(task: Task, plans=PLANS) -> np.ndarray:
    return np.concatenate([fit(task, [one]).measures["loss"] for one in plans])


@pytest.mark.parametrize("register", ["register_step_post_hook", "register_step_pre_hook"])
@pytest.mark.parametrize("hook", HOOKS)
def test_runs_with_a_hook_end_as_they_do_alone(hook, register):
    task = linear_task(model=Averaged, optimizer=averaging(hook, register))
    together = fit(task, PLANS)
    np.testing.assert_array_equal(together.measures["loss"], alone(task))
    shared = together.updates_trained < together.updates_asked
    assert shared == (hook in COPIED)


@pytest.mark.parametrize("hook", HOOKS)
def test_live_objects_with_a_hook_are_copied_or_refused_and_never_changed(hook):
    torch.manual_seed(0)
    model = Averaged()
    optimizer = averaging(hook)(model, 0.02)
    data = (nn.MSELoss(), regression_rows(), regression_rows(41, seed=1))
    before = copy.deepcopy(model.state_dict())
    if hook not in COPIED:
        with pytest.raises(InvalidArgument, match=r"a step post hook of the optimizer .*Task") as e:
            Task.from_objects(model, optimizer, *data)
        assert "\n" not in str(e.value)
        return
    task = Task.from_objects(model, optimizer, *data, batch_size=16, epochs=3)
    found = fit(task, PLANS).measures["loss"]
    np.testing.assert_array_equal(found, alone(task))
    assert all(torch.equal(a, before[k]) for k, a in model.state_dict().items())
    fresh = copy.deepcopy(model)
    assert found[0, -1] != found[0, 0]
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True)
    )


MODEL_HOOKS = {
    "forward hook": lambda m: m.live.register_forward_hook(lambda *_: m.average()),
    "forward pre hook": lambda m: m.register_forward_pre_hook(lambda *_: m.average()),
    "backward hook": lambda m: m.live.register_full_backward_hook(lambda *_: m.average()),
    "state dict hook": lambda m: m.register_state_dict_post_hook(lambda *_: m.average()),
    "the attribute after": lambda m: setattr(m, "after", lambda: m.average()),
}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("kind", MODEL_HOOKS)
def test_a_hook_of_the_model_is_found_too(kind):
    def build() -> nn.Module:
        model = Averaged()
        MODEL_HOOKS[kind](model)
        return model

    task = linear_task(model=build, optimizer=lambda m, lr: momentum(m.live, lr))
    together = fit(task, PLANS)
    np.testing.assert_array_equal(together.measures["loss"], alone(task))
    assert together.updates_trained == together.updates_asked
    model = build()
    with pytest.raises(InvalidArgument, match=kind):
        Task.from_objects(model, momentum(model.live, 0.1), nn.MSELoss(), regression_rows())


def masked(after_accumulation: bool):
    """A model of which one weight is kept by a hook on its gradient."""

    def zeroed(gradient: Tensor) -> Tensor:
        return gradient * torch.tensor([[0.0, 1, 1, 1]], dtype=gradient.dtype)

    def zero(parameter: Tensor) -> None:
        parameter.grad[:, 0] = 0

    def build() -> nn.Module:
        model = linear_model()
        if after_accumulation:
            model.weight.register_post_accumulate_grad_hook(zero)
        else:
            model.weight.register_hook(zeroed)
        model.weight.kept = True
        return model

    return build


@pytest.mark.parametrize("after_accumulation", [False, True])
@pytest.mark.parametrize("objects", [False, True])
def test_hooks_on_gradients_and_attributes_of_parameters_are_copied(objects, after_accumulation):
    task = linear_task(model=masked(after_accumulation))
    if objects:
        model = task.model()
        given = (task.criterion, task.train, task.valid)
        optimizer = momentum(model, 0.1)
        task = Task.from_objects(model, optimizer, *given, batch_size=16, epochs=3)
    assert task.model().weight.kept or not objects
    trainer = SequentialTrainer()
    state = trainer.start(task, [0], [0.02])
    first = state.runs[0].model.weight[0, 0].item()
    trainer.advance(state, np.full((1, 2, 1), 0.02))
    fork = trainer.fork(state, [0])
    trainer.advance(fork, np.full((1, 2, 1), 0.02))
    assert fork.runs[0].model.weight[0, 0].item() == first
    assert fork.runs[0].model.weight.kept
    found = fit(task, PLANS)
    np.testing.assert_array_equal(found.measures["loss"], alone(task))
    assert found.updates_trained < found.updates_asked


class Holding(nn.Module):
    """A linear model with something beside its tensors."""

    def __init__(self, held: object, late: bool = False) -> None:
        super().__init__()
        self.layer, self.late = linear_model(), held
        self.held = None if late else held

    def forward(self, x: Tensor) -> Tensor:
        self.held = self.late
        return self.layer(x)


UNCOPYABLE = {
    "lock": threading.Lock,
    "file": lambda: io.TextIOWrapper(io.BytesIO()),  # an open one would warn when it is collected
    "generator": lambda: (k for k in range(3)),
    "graph": lambda: torch.ones(2, requires_grad=True) * 2,
}
COPYABLE = {
    "logger": lambda: logging.getLogger("own"),
    "torch.Generator": lambda: torch.Generator().manual_seed(0),
    "numpy.Generator": lambda: np.random.default_rng(0),
}


@pytest.mark.parametrize("engine", ["sequential", "batched"])
@pytest.mark.parametrize("name", [*UNCOPYABLE, *COPYABLE])
def test_a_model_that_has_no_copy_is_trained_plan_by_plan(name, engine):
    make = (UNCOPYABLE | COPYABLE)[name]
    task = linear_task(model=lambda: Holding(make()))
    trainer = SequentialTrainer() if engine == "sequential" else BatchedTrainer()
    if engine == "batched" and trainer.why_not(task) is not None:
        return
    found = fit(task, PLANS, trainer=trainer)
    expected = fit(linear_task(model=lambda: Holding(None)), PLANS)
    np.testing.assert_allclose(found.measures["loss"], expected.measures["loss"], rtol=1e-9)
    shared = found.updates_trained < found.updates_asked
    assert shared == (engine == "batched" or name in COPYABLE)


def test_a_run_says_that_nothing_is_shared_and_why(tmp_path):
    task = linear_task(model=lambda: Holding(threading.Lock()))
    options = {"families": ["step"], "lr": 0.02, "trials": 2, "trial_seeds": 1, "confirm_seeds": 2}
    run = lrfinder.run(task, out=tmp_path / "run", progress=False, engine="sequential", **options)
    (note,) = run.answers.notes
    assert note.startswith("runs that begin alike are trained one by one: a run cannot be copied")
    assert "lock" in note
    assert note in (tmp_path / "run" / "report.md").read_text()


def test_runs_that_can_be_forked_are():
    assert why_not_forked(linear_task(), SequentialTrainer()) is None
    found = fit(linear_task(), PLANS)
    assert found.updates_asked - found.updates_trained == PER_EPOCH


def test_a_criterion_that_has_no_copy_is_refused_in_one_line():
    class Locked(nn.MSELoss):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(InvalidArgument, match=r"the loss must be copyable.*lock") as error:
        fit(linear_task(criterion=Locked()), [plan()])
    assert "\n" not in str(error.value)


class OldScheduler:
    """Wraps the step as torch 2.0 to 2.4 do: by a mark, the method in a closure."""

    def __init__(self, optimizer: torch.optim.Optimizer, mark: str) -> None:
        method = optimizer.step.__func__
        instance = ref(optimizer)

        def wrapper(*args, **kwargs):
            return method.__get__(instance(), type(instance()))(*args, **kwargs)

        setattr(wrapper, mark, True)
        optimizer.step = wrapper


@pytest.mark.parametrize("mark", ["_with_counter", "_wrapped_by_lr_sched"])
def test_the_wrapper_of_older_schedulers_is_known(mark):
    model = linear_model()
    optimizer = momentum(model, 0.02)
    OldScheduler(optimizer, mark)
    data = (nn.MSELoss(), regression_rows(), regression_rows(41, seed=1))
    task = Task.from_objects(model, optimizer, *data, batch_size=16, epochs=3)
    np.testing.assert_array_equal(fit(task, PLANS).measures["loss"], alone(task))
