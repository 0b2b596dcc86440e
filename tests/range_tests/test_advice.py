"""What a message of the range test tells people to do helps: each is provoked, and followed.

A case is a task and arguments that bring the message about, and what it says to do, done. Then
there is an lr that trains well, or the remark is gone.
"""

import ast
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tasks import CONSTANT, FEATURES, linear_model, linear_task, plain_sgd, regression_rows
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.curve import UNCHECKED
from lrfinder.range_tests.range_test import range_test
from lrfinder.report.wording import how_wrong
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.task import Task
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan

ROOM = Path(lrfinder.__file__).parent / "range_tests"
COSINE = Schedule(FAMILIES["cosine"], {"T_max": 200, "eta_min": 0.0}, per="batch")
ADVICE = re.compile(
    r"take (more|longer)|(lower|raise) --|give (it|a|fewer|the)\b|grow the lr|clip_norm"
    r"|train longer|start from fresh|names (it|others)|\(--probes\)|it takes \d+ rows"
    r"|check (the|that)"
)


@dataclass(frozen=True)
class Advice:
    """A message, how it comes about, and what it says to do."""

    says: str
    task: Callable[[], Task]
    given: dict[str, Any]
    done: dict[str, Any] = field(default_factory=dict)
    """Arguments of the range test that follow it."""
    made: dict[str, Any] = field(default_factory=dict)
    """Fields of the task that follow it."""


def scaled(factor: float) -> Callable[[], Task]:
    """A linear regression whose loss is multiplied, so that its best lr is as much lower."""

    def criterion(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return factor * nn.functional.mse_loss(output, target)

    return lambda: linear_task(criterion=criterion, epochs=20)


def plain() -> Task:
    return linear_task(epochs=20)


class Scaled(nn.Module):
    """Two linear layers whose first weights are larger in some seeds than in others."""

    def __init__(self, decades: float) -> None:
        super().__init__()
        self.factor = 10.0 ** (decades * float(torch.randn(())))
        self.first = nn.Linear(FEATURES, 8, dtype=torch.float64)
        self.second = nn.Linear(8, 1, dtype=torch.float64)
        with torch.no_grad():
            for weights in self.parameters():
                weights.mul_(self.factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def trained(*, noise: float) -> Task:
    """A linear regression from weights that a training has brought as low as they come."""
    x, y = regression_rows(200).tensors
    clean = x @ torch.linalg.lstsq(x, y).solution
    rows = clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    model = linear_model()
    with torch.no_grad():
        weights = torch.linalg.lstsq(x, rows).solution
        model.weight.copy_(weights.T)
        model.bias.zero_()
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    data = TensorDataset(x, rows)
    return Task.from_objects(
        model, optimizer, nn.MSELoss(), data, data, epochs=20, batch_size=16, name="trained"
    )


def adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr)


REFUSALS = {
    "trained already: fresh weights": Advice(
        r"the weights are trained already .* start from fresh ones \(Task\(model=...\)\)",
        lambda: trained(noise=0.5),
        {},
        made={"model": linear_model, "optimizer": adam},
    ),
    "trained to nothing: fresh weights": Advice(
        r"did not fall to speak of .* start from fresh ones",
        lambda: trained(noise=0.0),
        {},
        made={"model": linear_model, "optimizer": adam},
    ),
    "never fell: --min-lr": Advice(
        r"never fell below where it started.*lower --min-lr",
        scaled(1e9),
        {"probes": 0},
        {"min_lr": 1e-14, "max_lr": 1e-7},
    ),
    "never fell, with probes: --min-lr": Advice(
        r"never fell below where it started.*lower --min-lr",
        scaled(1e12),
        {},
        {"min_lr": 1e-18, "max_lr": 1.0},
    ),
    "still falls: --max-lr": Advice(
        r"still falls at the largest lr tested.*raise --max-lr",
        scaled(1e-6),
        {"probes": 0},
        {"min_lr": 1.0, "max_lr": 1e7},
    ),
    "falls from the first: --min-lr": Advice(
        r"falls from the smallest lr tested on.*lower --min-lr",
        plain,
        {"probes": 0, "min_lr": 0.03},
        {"min_lr": 3e-5},
    ),
    "wanders: --steps": Advice(
        r"wanders at every lr.*take more --steps",
        plain,
        {"probes": 0, "min_lr": 3e-3},
        {"steps": 200},
    ),
    "wanders: --min-lr": Advice(
        r"wanders at every lr.*lower --min-lr",
        plain,
        {"probes": 0, "min_lr": 3e-3},
        {"min_lr": 3e-5},
    ),
    "no more than its noise: --steps": Advice(
        r"no more than .* times its noise; take more --steps",
        plain,
        {"probes": 0, "min_lr": 1e-3, "max_lr": 1e6, "steps": 12},
        {"steps": 60},
    ),
    "ended at once: --min-lr": Advice(
        r"runs ended within \d steps.*lower --min-lr",
        plain,
        {"probes": 0, "min_lr": 1e200, "max_lr": 1e205},
        {"min_lr": 1e-5, "max_lr": 10.0},
    ),
    "seeds disagree: --seeds": Advice(
        r"the seeds disagree.*take more --seeds",
        lambda: linear_task(model=lambda: Scaled(0.3), epochs=20),
        {"probes": 0, "seeds": 2},
        {"seeds": 6},
    ),
}
"""Messages without an lr, after whose advice there is one."""


def lost(task: Task, lr: float) -> float:
    """Share of the achievable drop that a training at the lr loses, of those around it."""
    around = [lr * factor for factor in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)]
    updates = task.epochs * task.data().updates_per_epoch
    plans = [Plan(tried, CONSTANT, 100) for tried in around]
    history = fit(task, plans, updates=updates, evaluate_every=updates)
    start, end = history.measures["loss"].T
    end = np.where(np.isfinite(end), np.fmin(end, start), start)
    return float((end[around.index(lr)] - end.min()) / (start - end).max())


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_a_refusal_advises_gives_an_lr_that_trains_well(case):
    task = case.task()
    refused = range_test(task, **case.given).suggest()
    assert refused.verdict == "inconclusive"
    assert re.search(case.says, refused.reason)
    follows = replace(task, **case.made)
    found = range_test(follows, **{**case.given, **case.done}).suggest()
    assert found.lr is not None, found.reason
    assert lost(follows, found.lr) < 0.1


class Blind(nn.Module):
    """A model of dictionaries, as batches without a pair of inputs and targets have it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def named_rows(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Rows whose target has a name of its own."""
    return [{"x": x, "wanted": y} for x, y in regression_rows(count, seed)]


def named_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch["x"]), batch["wanted"])


def named_task() -> Task:
    rows = {"train": named_rows(60, 0), "valid": named_rows(64, 1)}
    return linear_task(criterion=None, loss=named_loss, model=Blind, epochs=20, **rows)


def one_sample(rows: int, seed: int) -> DataLoader:
    """A data set of one sample that holds all rows, as a graph its nodes."""
    return DataLoader([regression_rows(rows, seed).tensors])


def with_targets(target: float) -> TensorDataset:
    x, y = regression_rows().tensors
    return TensorDataset(x, torch.full_like(y, target))


REMARKS = {
    "no probes: --probes": Advice(
        r"it takes runs .*\(--probes\)", plain, {"probes": 0}, {"probes": 8}
    ),
    "no target: target=": Advice(
        r"no target was found.*Task\(target=...\) names it",
        named_task,
        {},
        made={"target": "wanted"},
    ),
    "the wrong target: target=": Advice(
        r"does not use the targets that were found; Task\(target=...\) names others",
        lambda: linear_task(
            train=TensorDataset(*regression_rows(60).tensors, torch.arange(60.0)),
            valid=TensorDataset(*regression_rows(64, 1).tensors, torch.arange(64.0)),
            criterion=None,
            loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
            target=2,
            epochs=20,
        ),
        {},
        made={"target": 1},
    ),
    "few rows: 32": Advice(
        r"it takes 32 rows to evaluate",
        lambda: linear_task(valid=regression_rows(12, seed=1), epochs=20),
        {},
        made={"valid": regression_rows(32, seed=1)},
    ),
    "rows of another dimension: rows=": Advice(
        r"it takes 32 rows to evaluate, but got 1;.* Task\(rows=...\) that counts them",
        lambda: linear_task(train=one_sample(60, 0), valid=one_sample(64, 1), epochs=200),
        {},
        made={"rows": lambda batch: batch[0].shape[1]},
    ),
    "all alike: other targets": Advice(
        r"it takes 8 rows with other targets",
        lambda: linear_task(train=with_targets(5.0), valid=with_targets(5.0), epochs=20),
        {},
        made={"train": regression_rows(), "valid": regression_rows(64, seed=1)},
    ),
    "small batches: 8 rows": Advice(
        r"it takes 8 rows in a batch",
        lambda: linear_task(valid=DataLoader(regression_rows(35, seed=1), 5), epochs=20),
        {},
        made={"valid": DataLoader(regression_rows(35, seed=1), 8)},
    ),
    "small batches: 8 batches": Advice(
        r"or 8 batches of one shape",
        lambda: linear_task(valid=DataLoader(regression_rows(35, seed=1), 5), epochs=20),
        {},
        made={"valid": DataLoader(regression_rows(40, seed=1), 5)},
    ),
    "other rows than the targets have: rows=": Advice(
        r"it takes Task\(rows=...\) that counts them",
        lambda: linear_task(
            valid=DataLoader(regression_rows(40, seed=1), batch_sampler=[range(40)]),
            rows=lambda batch: 2 * len(batch[0]),
            epochs=20,
        ),
        {},
        made={"rows": lambda batch: len(batch[0])},
    ),
}
"""What is said of an lr that was not checked, and is not said after its advice."""


@pytest.mark.parametrize("case", REMARKS.values(), ids=REMARKS)
def test_what_a_remark_advises_makes_it_go(case):
    task = case.task()
    first = range_test(task, **case.given).suggest()
    assert UNCHECKED in first.reason
    assert re.search(case.says, first.reason)
    found = range_test(replace(task, **case.made), **{**case.given, **case.done}).suggest()
    assert UNCHECKED not in found.reason
    assert found.lr is not None


def test_the_least_cost_that_is_named_is_enough():
    task = linear_task(epochs=200)
    with pytest.raises(InvalidArgument, match="cost must be at least") as raised:
        range_test(task, cost=0.001)
    least = float(re.search(r"at least (\d+)%", str(raised.value)).group(1))
    curve = range_test(task, cost=least / 100)
    assert curve.updates <= least / 100 * task.epochs * task.data().updates_per_epoch
    assert curve.suggest().lr is not None


def test_a_longer_timeout_is_enough():
    with pytest.raises(InvalidArgument, match="give a longer one"):
        range_test(plain(), timeout=1e-9)
    assert range_test(plain(), timeout=600.0).suggest().lr is not None


def overfitting(epochs: int) -> Task:
    """Noise learnt by heart: 40 rows in 60 dimensions, of which four tell something."""
    numbers = np.random.default_rng(0).standard_normal((240, 61))
    x = torch.tensor(numbers[:, :60])
    y = x[:, :4].sum(dim=1, keepdim=True) + 1.5 * torch.tensor(numbers[:, 60:])
    return linear_task(
        model=lambda: nn.Linear(60, 1, dtype=torch.float64),
        train=TensorDataset(x[:40], y[:40]),
        valid=TensorDataset(x[40:], y[40:]),
        optimizer=plain_sgd,
        epochs=epochs,
    )


def test_where_the_loss_turned_up_stopping_early_is_better():
    task = overfitting(epochs=200)
    found = range_test(task).suggest()
    assert found.lr is not None
    assert found.turned_up_at is not None
    assert "stop early" in how_wrong(found)
    history = fit(task, [Plan(0.03, CONSTANT, 100)], updates=600, evaluate_every=5)
    losses = history.measures["loss"][0]
    stopped = losses[history.evaluated_at <= 3 * found.turned_up_at].min()
    assert stopped < losses[-1]


def drawn(updates: int) -> Task:
    """Four noisy rows at a time, each drawn anew, so that none is seen twice."""

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        x, noise = torch.randn(4, 20), torch.randn(4, 1)
        return x, x.sum(dim=1, keepdim=True) / 4 + noise

    return Task(
        model=lambda: nn.Linear(20, 1),
        optimizer=plain_sgd,
        criterion=nn.MSELoss(),
        batches=batch,
        valid_batches=batch,
        updates=updates,
    )


def test_where_rows_are_drawn_anew_a_decay_mends_what_turned_up():
    """Nobody is told to regularise where nothing is over-fitted."""
    task = drawn(3000)
    curve = range_test(task, seeds=range(3))
    rising = replace(curve.suggest(), turned_up_at=36, over_fitted=curve._over_fits(36))
    assert not curve.repeats
    assert re.search(r"rose again after 36 updates; .*else let the lr decay", how_wrong(rising))
    plans = [Plan(0.1, schedule, 100) for schedule in (CONSTANT, COSINE)]
    history = fit(task, plans, updates=200, evaluate_every=200)
    constant, decayed = history.measures["loss"][:, -1]
    assert decayed < 0.8 * constant


def test_no_row_was_seen_twice_before_the_first_epoch_has_ended():
    curve = range_test(plain(), seeds=1, steps=20, probes=0)
    epoch = curve.updates_per_epoch
    assert [curve._over_fits(epoch), curve._over_fits(epoch + 1)] == [False, True]
    assert replace(curve, repeats=False)._over_fits(epoch + 1) is None
    assert replace(curve, of_training=True)._over_fits(epoch + 1) is False
    rising = replace(curve.suggest(), turned_up_at=epoch, over_fitted=False)
    assert "no over-fitting; let the lr decay" in how_wrong(rising)


@pytest.mark.slow
def test_more_steps_see_through_a_fall_that_is_none_of_the_inputs():
    from studies.leaderboard.tasks import task

    made = task("long_factors")
    for seed in range(5):
        refused = range_test(made, seeds=[seed]).suggest()
        if refused.lr is None:
            assert "does not depend on the inputs" in refused.reason
            assert "take more --steps" in refused.reason
            assert range_test(made, seeds=[seed], steps=400).suggest().lr is not None
            return
    raise AssertionError("no test was refused")


class Stiff(nn.Module):
    """A linear model of inputs that are eight times as large in some seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 8.0 if float(torch.rand(())) < 0.3 else 1.0
        self.layer = linear_model()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.factor * x)


STIFF_SEEDS = [3, 0, 1, 2, 4]
"""The first is stiff, and the others are not."""


@pytest.mark.slow
def test_where_one_seed_diverged_clipping_helps_and_so_does_an_lr_well_below():
    task = linear_task(model=Stiff, epochs=20, optimizer=plain_sgd)
    refused = range_test(task, seeds=STIFF_SEEDS).suggest()
    assert refused.lr is None
    message = re.search(
        r"one seed diverged at ([\d.e-]+).*clip_norm.*clip_grad_norm_\), or train well below",
        refused.reason,
    )
    assert message is not None, refused.reason
    clipped = replace(task, clip_norm=1.0)
    found = range_test(clipped, seeds=STIFF_SEEDS).suggest()
    assert found.lr is not None, found.reason
    updates = task.epochs * task.data().updates_per_epoch
    well_below = float(message[1]) / 10
    for one, lr, left in ((clipped, found.lr, 0.3), (task, well_below, 0.8)):
        plans = [Plan(lr, CONSTANT, seed) for seed in STIFF_SEEDS]
        history = fit(one, plans, updates=updates, evaluate_every=updates)
        start, end = history.measures["loss"].T
        assert (end < left * start).all(), (lr, start, end)


class Slow(nn.Module):
    """A linear model that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.005)
        return self.layer(x)


def test_a_sweep_that_the_clock_cut_is_finished_with_more_time():
    task = linear_task(model=Slow, epochs=20)
    cut = range_test(task, timeout=0.2).suggest()
    assert cut.lr is None
    assert re.search(r"came no farther than lr .*give it more time", cut.reason), cut.reason
    found = range_test(task, timeout=600.0).suggest()
    assert found.lr is not None, found.reason


@pytest.mark.slow
def test_where_the_loss_fell_in_no_run_more_steps_see_it_fall():
    """Weights next to nothing: runs stand on a plateau, whose end a longer one sees."""

    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1e-8)
        return model

    parts: list[TensorDataset] = []
    for seed, rows in enumerate((500, 200)):
        x, noise = (
            torch.randn(rows, k, generator=torch.Generator().manual_seed(s))
            for k, s in ((8, seed), (1, seed + 50))
        )
        parts.append(TensorDataset(x, 10 + 0.1 * (x[:, :2].sum(1, keepdim=True) + 0.3 * noise)))
    task = linear_task(
        model=build,
        train=parts[0],
        valid=parts[1],
        optimizer=plain_sgd,
        batch_size=32,
        epochs=80,
    )
    short = range_test(replace(task, epochs=7)).suggest()
    assert short.lr is None
    assert short.reason.endswith("train longer (--epochs)"), short.reason
    refused = range_test(task, steps=300).suggest()
    assert refused.lr is None
    assert re.search(r"fell in no run at a constant lr .*take more --steps", refused.reason)
    found = range_test(task, steps=1000).suggest()
    assert found.lr is not None, found.reason


def drifting(*, measured: bool) -> Loop:
    """A loop whose training loss, of four rows, is noise for the most part."""

    def train(training) -> None:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        optimizer = plain_sgd(model, 0.1)
        training.drive(optimizer)
        x, noise = torch.randn(2, 1000, 1, generator=torch.Generator().manual_seed(1))
        if measured:
            training.measure(lambda: (0.7 * x + noise - model(x)).square().mean())
        for _ in range(20 * training.epochs):
            few, more = torch.randn(2, 4, 1)
            loss = (0.7 * few + more - model(few)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            training.log(loss)

    return Loop(train, epochs=50, steps_per_epoch=20)


def test_measuring_more_rows_tells_a_small_fall_of_a_noisy_training_loss():
    refused = range_test(drifting(measured=False)).suggest()
    assert refused.lr is None
    assert re.search(r"no more than .* times its noise; .* measure it on more", refused.reason)
    found = range_test(drifting(measured=True)).suggest()
    assert found.lr is not None, found.reason
    assert 1e-3 < found.lr < 0.3


ELSEWHERE = (
    "take more --steps",  # the words themselves
    "train longer (--epochs)",
    "loss fell in no run at a constant lr",
    "times its noise; 1",
    "came no farther than lr",
    "one seed diverged at",
    "has no lowest value",  # in test_losses_without_bottom.py
    "must be long enough for two steps",
    "turned up after",
    "was none",
    "give a longer one",
)
"""What is followed by a test of its own."""


def texts(file: Path) -> list[str]:
    """The texts of a module that are no docstring, values in them as 1."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    apart = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "1" for p in node.values]
            found.append("".join(map(str, parts)))
            apart |= {id(part) for part in node.values}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return found + [c.value for c in constants if isinstance(c.value, str) and id(c) not in apart]


def test_every_message_that_advises_is_followed():
    said = [text for file in sorted(ROOM.rglob("*.py")) for text in texts(file)]
    advising = [text for text in said if ADVICE.search(text) and " " in text]
    cases = [case.says for case in (*REFUSALS.values(), *REMARKS.values())]
    followed = (*cases, r"does not depend on the inputs", r"cost must be at least")
    missed = [
        text
        for text in advising
        if not any(re.search(says, text) for says in followed)
        and not any(part in text for part in ELSEWHERE[2:])
        and text not in ELSEWHERE[:2]
    ]
    assert len(advising) >= 10
    assert missed == [], missed
