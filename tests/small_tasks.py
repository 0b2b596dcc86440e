"""Small real tasks, and what several test files look at."""

import copy
import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.task import Task
from lrfinder.training.records.history import Plan

CONSTANT = Schedule(FAMILIES["constant"])
ROWS, VALID_ROWS, FEATURES, BATCH = 60, 41, 4, 16
PER_EPOCH = 4  # batches of 16, 16, 16 and 12 rows


def regression_rows(count: int = ROWS, seed: int = 0, dtype=torch.float64) -> TensorDataset:
    """Rows (x, y) with y linear in x, and noise of standard deviation 0.1."""
    numbers = np.random.default_rng(seed).standard_normal((count, FEATURES + 1))
    x, noise = torch.tensor(numbers[:, :FEATURES]), torch.tensor(numbers[:, FEATURES:])
    y = x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]], dtype=torch.float64) + 0.1 * noise
    return TensorDataset(x.to(dtype), y.to(dtype))


def linear_model() -> nn.Module:
    return nn.Linear(FEATURES, 1, dtype=torch.float64)


def noisy_model() -> nn.Module:
    """A network whose training draws random numbers and moves buffers."""
    return nn.Sequential(
        nn.Linear(FEATURES, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(8, 1),
    ).double()


def momentum(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


def plain_sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr)


def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def linear_task(**fields) -> Task:
    """Linear regression in float64; four batches an epoch."""
    given = {
        "model": linear_model,
        "train": regression_rows(),
        "valid": regression_rows(VALID_ROWS, seed=1),
        "criterion": nn.MSELoss(),
        "optimizer": momentum,
        "batch_size": BATCH,
        "epochs": 3,
    }
    return Task(**{**given, **fields})


def noisy_task(**fields) -> Task:
    """The same with a network that has dropout and batch normalisation."""
    return linear_task(**{"model": noisy_model, **fields})


def plan(lr: float = 0.02, seed: int = 0, family: str = "constant", per="epoch", **params) -> Plan:
    return Plan(lr, Schedule(FAMILIES[family], params, per), seed)


def global_states() -> tuple:
    """The random states of Python, NumPy and torch, comparable by ==."""
    name, keys, *rest = np.random.get_state()
    torch_state = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), name, keys.tobytes(), tuple(rest), torch_state


@contextmanager
def no_global_draw() -> Generator[None]:
    """Fail where the block moves a global random state, also when it raises."""
    before = global_states()
    try:
        yield
    finally:
        assert global_states() == before


class Trips(nn.Module):
    """A linear model that raises at its k-th training batch, counted from 0."""

    def __init__(self, at: int, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.layer = linear_model()
        self.at, self.error, self.calls = at, error, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            if self.calls == self.at:
                raise self.error("tripped")
            self.calls += 1
        return self.layer(x)


def near_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts are equal up to rounding in float64."""
    pairs = ((a[k].double(), b[k].double()) for k in a)
    return a.keys() == b.keys() and all(torch.allclose(x, y, 1e-9, 1e-12) for x, y in pairs)


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts are bitwise equal."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def base_lrs(state) -> np.ndarray:
    """Learning rates that the optimizers of a State were built with: float64[runs, groups]."""
    runs = [one.param_groups for one in state.stand_ins]
    return np.array([[float(group["lr"]) for group in groups] for groups in runs])


def weights_of(state, run: int) -> dict[str, torch.Tensor]:
    """A copy of the state_dict that the model of a run has, in the State of either trainer."""
    if hasattr(state, "runs"):
        return {k: v.clone() for k, v in state.runs[run].model.state_dict().items()}
    template, roles, one = state.program.template, state.program.roles, state.population.run(run)
    model = copy.deepcopy(template.model)
    places = [template.parameter_names[k][0] for k in (*roles.leaves, *roles.fixed)]
    with torch.no_grad():
        for name, tensor in zip(places, [*one.leaves, *one.fixed], strict=True):
            model.get_parameter(name).copy_(tensor)
        for names, tensor in zip(template.buffer_names, one.buffers, strict=True):
            model.get_buffer(names[0]).copy_(tensor)
    return {k: v.clone() for k, v in model.state_dict().items()}
