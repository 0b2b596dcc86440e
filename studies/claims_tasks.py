"""The tasks on which claims.py and fairness.py look at learning rates and decays."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import fine_tuning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset
from tuned import Problem, Way
from verdict_records import friedman, noisy_digits

from lrfinder import Family, Task, load_task
from lrfinder.schedules import Schedule

OUTLIERS = 0.05
"""Share of the training rows that are made outliers."""


@cache
def problems() -> dict[str, Problem]:
    """An MLP on images, one on images with wrong labels, and a regression."""
    found = [
        Problem("digits", load_task("digits"), 0.1),
        Problem("noisy digits", noisy_digits(), 0.002),
        Problem("friedman", friedman(), 0.02),
    ]
    return {problem.name: problem for problem in found}


_MADE: dict[str, Problem] = {}


def _once(name: str, make: Callable[[], Task], lr: float) -> Problem:
    """The problem of this name, made where there is none: what was found out of it is kept."""
    if name not in _MADE:
        _MADE[name] = Problem(name, make(), lr)
    return _MADE[name]


def of_length(problem: Problem, epochs: int) -> Problem:
    """The same with another number of epochs."""
    if epochs == problem.task.epochs:
        return problem
    name = f"{problem.name}, {epochs} epochs"
    return _once(name, lambda: replace(problem.task, epochs=epochs), problem.lr)


def with_outliers(problem: Problem) -> Problem:
    """The same with wrong labels, or targets five standard deviations off, in 5% of the rows."""
    x, y = problem.task.train.tensors
    random = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(y), generator=random)[: int(OUTLIERS * len(y))]
    y = y.clone()
    if y.is_floating_point():
        sign = torch.randint(2, (len(rows), 1), generator=random) * 2 - 1
        y[rows] += 5 * y.std() * sign
    else:
        shift = torch.randint(1, 10, (len(rows),), generator=random)
        y[rows] = (y[rows] + shift) % 10
    name = f"{problem.name}, outliers"
    return _once(name, lambda: replace(problem.task, train=TensorDataset(x, y)), problem.lr)


def with_optimizer(problem: Problem, kind: type[Optimizer], lr: float) -> Problem:
    """The same, trained by another optimizer."""
    name = f"{problem.name}, {kind.__name__}"

    def task() -> Task:
        return replace(problem.task, optimizer=lambda model, lr: kind(model.parameters(), lr))

    return _once(name, task, lr)


@cache
def fine_tunings() -> dict[str, Problem]:
    """Two trained bodies under a new head, the body at a tenth of the head's lr."""
    found = [
        Problem("new writers", replace(fine_tuning.make_task(), schedules={}), 0.01),
        Problem("new classes", new_classes(), 0.01),
    ]
    return {problem.name: problem for problem in found}


def new_classes() -> Task:
    """A body that knows the digits 0 to 4 learns 5 to 9 from 150 noisy images."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU())
        net = fine_tuning.Net(body)
    low = labels < 5
    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[low]), labels[low]).backward()
        optimizer.step()
    random = torch.Generator().manual_seed(0)
    high, new = images[~low], labels[~low] - 5
    high = high + 0.2 * torch.randn(high.shape, generator=random)
    order = torch.randperm(len(high), generator=random)
    train, valid = (TensorDataset(high[rows], new[rows]) for rows in (order[:150], order[150:]))
    task = replace(fine_tuning.make_task(), schedules={}, name="new_classes")
    return replace(
        task, model=lambda: fine_tuning.Net(copy.deepcopy(body)), train=train, valid=valid
    )


Rule = Callable[[int], float]


def per_group(name: str, body: Rule, head: Rule) -> Way:
    """A rule for each group, as shares of the lr; the optimizer gives the body a tenth of it."""
    family = Family(
        name=name,
        build=lambda optimizer, _: LambdaLR(optimizer, [lambda t: 10 * body(t), head]),
        space=lambda _trial, _budget: {},
    )
    return Way(name, lambda _: Schedule(family, {}))


def single_rules(epochs: int) -> list[Way]:
    """Both groups follow one rule; the body at a share of the head's lr."""
    return [
        per_group(f"{rule}, body x{share:g}", scaled(share, shape), shape)
        for rule, shape in rules(epochs).items()
        for share in (1.0, 0.1, 0.01)
    ]


def rules_per_group(epochs: int) -> list[Way]:
    """The groups follow different rules; as many ways as those with a single one."""
    shapes = rules(epochs)
    return [
        per_group(f"body {body} x{share:g}, head {head}", scaled(share, shapes[body]), shapes[head])
        for body, head in (("constant", "decaying"), ("decaying", "constant"))
        for share in (1.0, 0.1, 0.01)
    ]


def rules(epochs: int) -> dict[str, Rule]:
    """A constant lr, and one that falls to a hundredth."""
    gamma = 0.01 ** (1 / (epochs - 1))
    return {"constant": lambda _: 1.0, "decaying": lambda t: gamma**t}


def scaled(share: float, rule: Rule) -> Rule:
    """A share of the rule."""
    return lambda t: share * rule(t)


def random_targets() -> Task:
    """The step-decay example as it is often printed: one linear layer, and targets that are drawn.

    100 epochs of one batch of 32 rows, SGD at 0.1, StepLR(30, 0.1). Neither the inputs nor the
    targets have anything to do with each other, or with those of another batch.
    """

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(32, 10), torch.randn(32, 1)

    return Task(
        name="random_targets",
        model=lambda: nn.Linear(10, 1),
        batches=batch,
        valid_batches=batch,
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        updates=100,
        epochs=100,
        baseline=(0.1, lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.1)),
    )
