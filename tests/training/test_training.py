"""Trainers keep their contract, and `fit` equals a plain PyTorch loop."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import (
    CONSTANT,
    PER_EPOCH,
    Trips,
    absolute_error,
    base_lrs,
    linear_model,
    linear_task,
    momentum,
    near_tensors,
    no_global_draw,
    noisy_model,
    noisy_task,
    plain_sgd,
    plan,
    regression_rows,
    same_tensors,
    weights_of,
)
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules import FAMILIES, Family, Schedule
from lrfinder.tasks.builtin import classifier, linear, quadratic
from lrfinder.tasks.fields.measures import measure_column, measure_name
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History, Plan
from lrfinder.training.trainers.sequential import SequentialTrainer
from lrfinder.training.trainers.trainer import Trainer

DATA = Path(__file__).parents[1] / "data"
TRAINERS: dict[str, Callable[[], Trainer]] = {
    "sequential": SequentialTrainer,
    "batched": BatchedTrainer,
}
UPDATES = 10
SEEDS, LRS = [0, 0, 1], [0.01, 0.05, 0.02]


def loader_task(**fields) -> Task:
    return noisy_task(train=DataLoader(regression_rows(), 16, shuffle=True), **fields)


def adam_task(**fields) -> Task:
    return noisy_task(optimizer=lambda m, lr: torch.optim.Adam(m.parameters(), lr), **fields)


def two_groups(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": lr / 10}, {"params": others}]
    return torch.optim.AdamW(groups, lr)


class AlwaysRandom(nn.Module):
    """A model that drops out in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.dropout(x, 0.2, training=True))


TASKS = {
    "linear": linear_task,
    "noisy": noisy_task,
    "adam": adam_task,
    "always random": lambda **fields: linear_task(model=AlwaysRandom, **fields),
    "two groups": lambda **fields: noisy_task(optimizer=two_groups, **fields),
    "loader": loader_task,
    "accumulate": lambda **fields: noisy_task(accumulate=3, **fields),
    "clip_norm": lambda **fields: noisy_task(clip_norm=0.1, **fields),
    "steps_per_epoch": lambda **fields: noisy_task(steps_per_epoch=7, **fields),
}
EVERY_TRAINER = pytest.mark.parametrize("trainer", [make() for make in TRAINERS.values()])
EVERY_TASK = pytest.mark.parametrize("name", TASKS)


def table(lrs: list[float], updates: int, base: np.ndarray) -> np.ndarray:
    """Rows of learning rates that shrink by a percent an update, with the groups' ratios."""
    ratios = base / base.max(axis=1, keepdims=True)
    decay = 0.99 ** np.arange(updates)
    return np.array(lrs)[:, None, None] * decay[None, :, None] * ratios[:, None, :]


def run(
    trainer: Trainer,
    task: Task,
    seeds: list[int],
    lrs: list[float],
    pieces: tuple[int, ...] = (UPDATES,),
    between: Callable[[object], object] = lambda state: None,
) -> tuple[np.ndarray, list[dict[str, Tensor]]]:
    """Losses and weights of runs that are advanced in pieces."""
    state = trainer.start(task, seeds, lrs)
    rows = table(lrs, sum(pieces), base_lrs(state))
    losses, done = [], 0
    for piece in pieces:
        losses.append(trainer.advance(state, rows[:, done : done + piece]))
        done += piece
        between(state)
    return np.concatenate(losses, axis=1), [weights_of(state, k) for k in range(len(seeds))]


@cache
def shared_task(name: str) -> Task:
    """A task that tests share, for what trains it changes nothing of it; what it is costs time."""
    return TASKS[name](metrics={"error": absolute_error})


@cache
def whole_runs(trainer: Trainer, name: str) -> tuple[np.ndarray, list[dict[str, Tensor]]]:
    """Runs that are trained at once and left alone; never changed, since tests share them."""
    return run(trainer, shared_task(name), SEEDS, LRS)


def equal(a, b) -> bool:
    weights = all(same_tensors(x, y) for x, y in zip(a[1], b[1], strict=True))
    return np.array_equal(a[0], b[0], equal_nan=True) and weights


def near(trainer: Trainer, a, b) -> bool:
    """Whether runs are equal that were trained among other neighbours.

    Bitwise for the sequential trainer; up to rounding where a population is one program.
    """
    if isinstance(trainer, SequentialTrainer):
        return equal(a, b)
    weights = all(near_tensors(x, y) for x, y in zip(a[1], b[1], strict=True))
    return np.allclose(a[0], b[0], rtol=1e-10, atol=0, equal_nan=True) and weights


@EVERY_TRAINER
@EVERY_TASK
def test_the_same_plans_give_the_same_runs(trainer, name):
    once, again = (run(trainer, TASKS[name](), [0, 1], [0.01, 0.02]) for _ in range(2))
    assert equal(once, again)
    assert not np.array_equal(once[0][0], once[0][1])


@EVERY_TRAINER
@EVERY_TASK
@pytest.mark.parametrize("pieces", [(1,) * UPDATES, (3, 7), (4, 4, 2), (6, 1, 3)])
def test_advancing_in_pieces_and_evaluating_between_them_changes_nothing(trainer, name, pieces):
    task = shared_task(name)
    data = task.data()
    assert data.valid is not None
    with no_global_draw():
        evaluated = run(
            trainer,
            task,
            SEEDS,
            LRS,
            pieces,
            lambda state: (
                trainer.evaluate(state, data.valid),
                trainer.evaluate(state, data.fixed_subset),
            ),
        )
    assert equal(whole_runs(trainer, name), evaluated)


@EVERY_TRAINER
@EVERY_TASK
def test_a_run_does_not_depend_on_its_neighbours(trainer, name):
    losses, weights = whole_runs(trainer, name)
    for row, (seed, lr) in enumerate(zip(SEEDS, LRS, strict=True)):
        alone = run(trainer, shared_task(name), [seed], [lr])
        assert near(trainer, alone, (losses[[row]], [weights[row]]))


@EVERY_TRAINER
@EVERY_TASK
@pytest.mark.parametrize("before", [3, 4, 6])
@pytest.mark.parametrize("rows", [[0, 0], [1, 0, 1], [2], []])
def test_selected_runs_go_on_like_their_originals(trainer, name, before, rows):
    whole, weights = whole_runs(trainer, name)
    state = trainer.start(shared_task(name), SEEDS, LRS)
    learning = table(LRS, UPDATES, base_lrs(state))
    trainer.advance(state, learning[:, :before])
    chosen = trainer.select(state, rows)
    losses = trainer.advance(chosen, learning[rows, before:])
    assert len(chosen) == len(rows)
    assert chosen.stand_ins == [state.stand_ins[row] for row in rows]
    found = losses, [weights_of(chosen, k) for k in range(len(rows))]
    assert near(trainer, found, (whole[rows, before:], [weights[row] for row in rows]))


@EVERY_TRAINER
@EVERY_TASK
def test_duplicates_are_independent(trainer, name):
    state = trainer.start(shared_task(name), [0], [0.01])
    learning = table([0.01], UPDATES, base_lrs(state))
    trainer.advance(state, learning[:, :3])
    twins = trainer.select(state, [0, 0, 0])
    factors = np.array([1.0, 0.1, 1.0])[:, None, None]
    losses = trainer.advance(twins, factors * np.repeat(learning[:, 3:], 3, axis=0))
    alone, _ = run(trainer, shared_task(name), [0], [0.01])
    assert near(trainer, (losses[0], []), (losses[2], []))
    assert near(trainer, (losses[0], []), (alone[0, 3:], []))
    assert not near(trainer, (losses[1, 1:], []), (alone[0, 4:], []))


@EVERY_TRAINER
@EVERY_TASK
@pytest.mark.parametrize("before", [3, 4])
def test_a_fork_goes_on_like_its_original_which_goes_on_unharmed(trainer, name, before):
    whole, weights = whole_runs(trainer, name)
    state = trainer.start(shared_task(name), SEEDS, LRS)
    learning = table(LRS, UPDATES, base_lrs(state))
    trainer.advance(state, learning[:, :before])
    rows = [2, 0, 1, 0]
    forked = trainer.fork(state, rows)
    strongly = trainer.fork(state, [0, 1, 2])
    trainer.advance(strongly, 3 * learning[:, before:])
    found = trainer.advance(forked, learning[rows, before:])
    copies = found, [weights_of(forked, k) for k in range(len(rows))]
    assert near(trainer, copies, (whole[rows, before:], [weights[row] for row in rows]))
    original = trainer.advance(state, learning[:, before:])
    same = original, [weights_of(state, k) for k in range(len(SEEDS))]
    assert equal(same, (whole[:, before:], weights))


class Alternating(torch.optim.SGD):
    """Gradient descent that makes every second step only."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr)
        self.calls = 0

    def step(self, closure=None) -> None:
        self.calls += 1
        if self.calls % 2 == 0:
            super().step()


def tenth(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad.mul_(0.1)


def with_hook(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    optimizer.register_step_pre_hook(tenth)
    return optimizer


@pytest.mark.parametrize(
    "optimizer", [with_hook, lambda model, lr: Alternating(model.parameters(), lr)]
)
def test_a_fork_keeps_the_hooks_and_attributes_of_its_optimizer(optimizer):
    task, trainer = linear_task(optimizer=optimizer), SequentialTrainer()
    state = trainer.start(task, [0], [0.1])
    lrs = table([0.1], UPDATES, base_lrs(state))
    trainer.advance(state, lrs[:, :3])
    twin = trainer.fork(state, [0])
    after = [trainer.advance(one, lrs[:, 3:]) for one in (twin, state)]
    np.testing.assert_array_equal(*after)
    assert same_tensors(weights_of(twin, 0), weights_of(state, 0))


@EVERY_TRAINER
def test_weights_are_copies(trainer):
    state = trainer.start(linear_task(), [0], [0.01])
    first = weights_of(state, 0)
    kept = {name: tensor.clone() for name, tensor in first.items()}
    trainer.advance(state, np.full((1, 2, 1), 0.01))
    assert same_tensors(first, kept)
    assert not same_tensors(first, weights_of(state, 0))


@EVERY_TRAINER
@EVERY_TASK
def test_no_random_state_of_the_caller_moves(trainer, name):
    with no_global_draw():
        run(trainer, TASKS[name](), [0, 1], [0.01, 0.02])


@EVERY_TRAINER
@pytest.mark.parametrize("at", [1, 2, 5, UPDATES - 1])
def test_a_loss_that_is_not_finite_stops_that_run_only(trainer, at):
    task = linear_task(optimizer=plain_sgd)
    rows = np.full((3, UPDATES, 1), 0.02)
    rows[1, at - 1] = 1e200  # the square of what this makes of the weights overflows
    losses = trainer.advance(trainer.start(task, [0, 0, 1], [0.02] * 3), rows)
    healthy = np.full((1, UPDATES, 1), 0.02)
    for row, seed in ((0, 0), (2, 1)):
        alone = trainer.advance(trainer.start(task, [seed], [0.02]), healthy)
        assert np.array_equal(losses[row], alone[0])
    assert np.array_equal(losses[1, :at], losses[0, :at])
    assert np.isinf(losses[1, at])
    assert np.isnan(losses[1, at + 1 :]).all()


@EVERY_TRAINER
def test_a_broken_run_has_no_further_loss(trainer):
    state = trainer.start(linear_task(optimizer=plain_sgd), [0], [0.02])
    trainer.advance(state, np.array([[[1e200]]]))
    assert np.isinf(trainer.advance(state, np.array([[[0.02]]]))).all()
    assert np.isnan(trainer.advance(state, np.full((1, 4, 1), 0.02))).all()


@EVERY_TRAINER
def test_evaluating_leaves_every_train_flag_as_it_was(trainer):
    def frozen_norm() -> nn.Module:
        model = noisy_model()
        model[1].eval()  # its running means must not move
        return model

    task = linear_task(model=frozen_norm)
    state = trainer.start(task, [0], [0.02])
    before = weights_of(state, 0)
    for _ in range(2):
        trainer.evaluate(state, task.data().fixed_subset)
        trainer.advance(state, np.full((1, 2, 1), 0.02))
    after = weights_of(state, 0)
    assert torch.equal(before["1.running_mean"], after["1.running_mean"])
    assert not torch.equal(before["0.weight"], after["0.weight"])


@EVERY_TRAINER
def test_evaluating_twice_gives_the_same(trainer):
    task = linear_task(model=AlwaysRandom)
    state = trainer.start(task, [0, 1], [0.02, 0.02])
    first, second = (trainer.evaluate(state, task.data().fixed_subset)["loss"] for _ in range(2))
    assert np.array_equal(first, second)


def test_nothing_is_recorded_after_a_loss_that_is_not_finite():
    history = fit(linear_task(optimizer=plain_sgd), [plan(1e200)])
    assert history.diverged_at.tolist() == [1]
    assert np.isfinite(history.lr[0, :2]).all()
    assert np.isnan(history.lr[0, 2:]).all()
    assert np.isinf(history.train_loss[0, 1])
    assert np.isnan(history.train_loss[0, 2:]).all()
    assert history.updates_trained == 2


def test_a_validation_loss_that_is_not_finite_ends_the_run():
    def zero() -> nn.Module:
        model = linear_model()
        nn.init.zeros_(model.weight)
        return model

    valid = regression_rows(8)
    valid.tensors[0][:] *= 1e200  # harmless as long as the weights are zero
    history = fit(linear_task(model=zero, valid=valid), [plan()])
    assert history.diverged_at.tolist() == [PER_EPOCH - 1]
    assert np.isfinite(history.train_loss[0, :PER_EPOCH]).all()
    assert np.isnan(history.train_loss[0, PER_EPOCH:]).all()
    assert history.outcomes()[0].diverged


OPTIMIZERS = {
    "SGD": lambda m, lr: torch.optim.SGD(m.parameters(), lr, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda m, lr: torch.optim.Adam(m.parameters(), lr),
    "AdamW": lambda m, lr: torch.optim.AdamW(m.parameters(), lr),
}
SCHEDULES = {
    "step": (
        Schedule(FAMILIES["step"], {"step_size": 2, "gamma": 0.3}),
        lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.3),
    ),
    "plateau": (
        Schedule(FAMILIES["plateau"], {"mode": "min", "factor": 0.5, "patience": 0}),
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, eps=0),
    ),
    "cosine per batch": (
        Schedule(FAMILIES["cosine"], {"T_max": 20, "eta_min": 0.0}, per="batch"),
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 20),
    ),
}


def plain_loop(task: Task, build, scheduler_of, lr: float, seed: int, epochs: int, per: str):
    """The loop that every tutorial shows, over the task's own batches."""
    criterion, losses, lrs, valid_losses = nn.MSELoss(), [], [], []
    valid_x, valid_y = regression_rows(41, seed=1).tensors
    source = task.data().source
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = task.model()
        optimizer = build(model, lr)
        scheduler = scheduler_of(optimizer)
        for epoch in range(epochs):
            for x, y in source.epoch(seed, epoch):
                optimizer.zero_grad()
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                lrs.append(scheduler.get_last_lr()[0])
                if per == "batch":
                    scheduler.step()
            model.eval()
            with torch.no_grad():
                valid_losses.append(criterion(model(valid_x), valid_y).item())
            model.train()
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(valid_losses[-1])
            elif per == "epoch":
                scheduler.step()
    return losses, lrs, valid_losses


@EVERY_TRAINER
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("model", [linear_model, noisy_model])
def test_fit_equals_a_plain_loop(trainer, optimizer, schedule, model):
    build, (ours, theirs) = OPTIMIZERS[optimizer], SCHEDULES[schedule]
    task = linear_task(model=model, optimizer=build, epochs=5)
    history = fit(task, [Plan(0.1, ours, seed=3)], trainer=trainer)
    losses, lrs, valid = plain_loop(task, build, theirs, 0.1, 3, 5, ours.per)
    np.testing.assert_allclose(history.train_loss[0], losses, rtol=1e-12)
    np.testing.assert_allclose(history.lr[0, :, 0], lrs, rtol=1e-12)
    np.testing.assert_allclose(history.measures["loss"][0, 1:], valid, rtol=1e-12)


def test_plateau_really_decays_in_the_plain_loop_it_is_compared_with():
    task = noisy_task(epochs=5)
    _, lrs, _ = plain_loop(task, momentum, SCHEDULES["plateau"][1], 0.1, 3, 5, "epoch")
    assert len(set(lrs)) > 1


def test_plateau_follows_the_measure_that_is_watched():
    task = linear_task(metrics={"rising": lambda output, target: -((output - target) ** 2).mean()})
    params = {"mode": "max", "factor": 0.5, "patience": 0}
    plateau = Schedule(FAMILIES["plateau"], params)
    falling = fit(task, [Plan(0.02, plateau, 0)], watch="loss").lr[0, :, 0]
    rising = fit(task, [Plan(0.02, plateau, 0)], watch="rising").lr[0, :, 0]
    assert falling[-1] < 0.02
    assert (rising == 0.02).all()


@EVERY_TRAINER
def test_accumulation_makes_one_update_of_k_micro_batches(trainer):
    task = linear_task(accumulate=3, optimizer=plain_sgd)
    state = trainer.start(task, [0], [0.02])
    losses = trainer.advance(state, np.full((1, 2, 1), 0.02))
    weights = weights_of(state, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = linear_model()
    optimizer = plain_sgd(model, 0.02)
    batches = list(task.data().source.epoch(0, 0))
    expected = []
    for group in (batches[:3], batches[3:]):  # the second group is incomplete
        optimizer.zero_grad()
        means = [nn.functional.mse_loss(model(x), y) for x, y in group]
        torch.stack(means).mean().backward()
        optimizer.step()
        expected.append(np.mean([mean.item() for mean in means]))
    np.testing.assert_allclose(losses[0], expected, rtol=1e-12)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-12, atol=1e-12)


def test_the_lr_moves_once_per_update_under_accumulation():
    per_batch = plan(0.02, family="exponential", per="batch", gamma=0.5)
    history = fit(linear_task(accumulate=3, epochs=2), [per_batch])
    np.testing.assert_allclose(history.lr[0, :, 0], 0.02 * 0.5 ** np.arange(4))


@EVERY_TRAINER
def test_the_gradient_norm_is_clipped(trainer):
    task = linear_task(optimizer=plain_sgd, clip_norm=0.01)
    state = trainer.start(task, [0], [1.0])
    before = weights_of(state, 0)
    trainer.advance(state, np.full((1, 1, 1), 1.0))
    after = weights_of(state, 0)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_autocast_computes_the_forward_in_bfloat16():
    seen: list[torch.dtype] = []

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        seen.append(output.dtype)
        return nn.functional.mse_loss(output.float(), target.float())

    single = {"train": regression_rows(dtype=torch.float32), "model": lambda: nn.Linear(4, 1)}
    single["valid"] = single["train"]
    history = fit(linear_task(criterion=criterion, autocast=torch.bfloat16, **single), [plan()])
    assert set(seen) == {torch.bfloat16}
    reference = fit(linear_task(**single), [plan()])
    np.testing.assert_allclose(history.train_loss, reference.train_loss, rtol=0.1)
    assert (history.train_loss != reference.train_loss).any()


def test_parameter_groups_keep_their_ratios():
    history = fit(noisy_task(optimizer=two_groups), [plan(0.1, family="exponential", gamma=0.5)])
    assert history.lr.shape == (1, 12, 2)
    np.testing.assert_allclose(history.lr[0, :, 0], history.lr[0, :, 1] / 10)
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH, 1], [0.1, 0.05, 0.025])


class Recorder(torch.optim.SGD):
    """SGD that writes down the lr of each of its steps."""

    used: list[float]

    def step(self, closure=None):
        self.used.append(self.param_groups[0]["lr"])
        return super().step(closure)


@given(
    lr=st.floats(1e-6, 0.1),
    gamma=st.floats(0.1, 1.0),
    updates=st.integers(1, 15),
    per=st.sampled_from(["epoch", "batch"]),
)
@settings(max_examples=15)
def test_the_recorded_lr_is_the_lr_used(lr, gamma, updates, per):
    built: list[Recorder] = []

    def recorder(model: nn.Module, lr: float) -> Recorder:
        built.append(Recorder(model.parameters(), lr))
        built[-1].used = []
        return built[-1]

    plans = [plan(lr, 0, "exponential", per, gamma=gamma), plan(lr / 2, 0)]
    history = fit(linear_task(optimizer=recorder), plans, updates=updates)
    used = [optimizer.used for optimizer in built if optimizer.used]
    assert history.lr[:, :, 0].tolist() == used


def unseeded(tasks: list[Task]) -> list[History]:
    plans = [plan(0.02, 0), plan(0.03, 0, "exponential", gamma=0.5), plan(0.02, 1)]
    return [fit(task, plans) for task in tasks]


@EVERY_TASK
def test_the_same_plans_give_the_same_history(name):
    with no_global_draw():
        first, second = unseeded([TASKS[name](), TASKS[name]()])
    assert np.array_equal(first.lr, second.lr)
    assert np.array_equal(first.train_loss, second.train_loss)
    assert np.array_equal(first.measures["loss"], second.measures["loss"])


@EVERY_TASK
def test_how_often_it_evaluates_and_what_else_is_trained_do_not_change_a_run(name):
    task = TASKS[name]()
    plans = [plan(0.02, 0), plan(0.05, 0), plan(0.02, 1)]
    together = fit(task, plans, evaluate_every=1, evaluate_on=task.data().fixed_subset)
    for row, one in enumerate(plans):
        alone = fit(task, [one])
        assert np.array_equal(together.train_loss[row], alone.train_loss[0])
        assert np.array_equal(together.lr[row], alone.lr[0])


@pytest.mark.parametrize("length", [1, 3, 4, 5, 12, 15])
def test_a_run_is_as_long_as_asked_and_is_evaluated_at_its_end(length):
    history = fit(linear_task(), [plan()], updates=length)
    assert history.train_loss.shape == (1, length)
    assert history.evaluated_at.tolist() == sorted({*range(0, length, PER_EPOCH), length})
    assert np.isfinite(history.measures["loss"]).all()
    assert history.updates_asked == history.updates_trained == length


@pytest.mark.parametrize("length", [5, 9])
def test_a_shorter_run_is_the_start_of_a_longer_one(length):
    short, long = fit(noisy_task(), [plan()], updates=length), fit(noisy_task(), [plan()])
    assert np.array_equal(short.train_loss, long.train_loss[:, :length])


@EVERY_TRAINER
def test_at_its_end_a_run_is_evaluated_on_further_batches_too(trainer):
    task = linear_task(optimizer=plain_sgd, metrics={"error": absolute_error})
    further = {"valid": task.data().valid, "one": task.data().fixed_subset[:1]}
    plans = [
        plan(0.02),
        plan(1e200),
        plan(0.01, seed=1),
        plan(0.02, family="step", step_size=1, gamma=0.5),
    ]
    history = fit(task, plans, trainer=trainer, at_end=further)
    assert history.at_end.keys() == further.keys()
    last = history.measures["loss"][:, -1]
    assert np.isnan(last).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(history.at_end["valid"], last)
    for row in range(len(plans)):
        alone = history.only(row).at_end
        assert {k: v.tolist() for k, v in alone.items() if row != 1} == {
            k: [v[row]] for k, v in history.at_end.items() if row != 1
        }
    parts = History.joined([history.only(row) for row in range(len(plans))])
    np.testing.assert_array_equal(parts.at_end["one"], history.at_end["one"])
    without = fit(task, plans, trainer=trainer)
    np.testing.assert_array_equal(without.train_loss, history.train_loss)


@EVERY_TRAINER
def test_a_loss_that_cannot_be_computed_on_further_batches_is_unknown(trainer):
    task = linear_task(optimizer=plain_sgd)
    history = fit(task, [plan()], trainer=trainer, at_end={"wide": [(torch.ones(3, 9), None)]})
    assert np.isnan(history.at_end["wide"]).all()
    assert np.isfinite(history.measures["loss"]).all()


def test_evaluations_are_of_the_weights_after_so_many_updates():
    task = linear_task()
    history = fit(task, [plan()], evaluate_every=3)
    trainer = SequentialTrainer()
    state = trainer.start(task, [0], [0.02])
    valid = task.data().valid
    assert valid is not None
    for place, at in enumerate(history.evaluated_at):
        expected = trainer.evaluate(state, valid)["loss"][0]
        assert history.measures["loss"][0, place] == expected
        if at < 12:
            trainer.advance(state, np.full((1, 3, 1), 0.02))


def test_progress_adds_up_to_what_was_asked_also_where_runs_diverge():
    made: list[int] = []
    history = fit(linear_task(), [plan(0.02), plan(1e200), plan(0.02, 1)], progress=made.append)
    assert sum(made) == history.updates_asked == 36
    assert history.updates_trained < 36
    assert history.diverged_at[0] == history.diverged_at[2] == -1


def test_finished_runs_are_handed_out_at_once_and_only_once():
    handed: list[tuple[int, ...]] = []
    plans = [plan(0.02, 0), plan(0.03, 0), plan(0.02, 1)]

    def finished(rows, history):
        handed.append(tuple(rows))
        assert [p.seed for p in history.plans] == [plans[row].seed for row in rows]
        assert np.isfinite(history.train_loss).all()

    fit(linear_task(), plans, finished=finished)
    assert handed == [(0,), (1,), (2,)]
    handed.clear()
    fit(loader_task(), plans, finished=finished)
    assert handed == [(0, 1, 2)]


def test_no_plans_make_an_empty_history():
    history = fit(linear_task(), [])
    assert history.train_loss.shape == (0, 12)
    assert history.frame().empty


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"updates": 0}, "updates must be at least 1, but got 0"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1, but got 0"),
        ({"watch": "accuracy"}, "watch must be one of .*'loss'.*, but got 'accuracy'"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(fields, message):
    with pytest.raises(InvalidArgument, match=message):
        fit(linear_task(), [plan()], **fields)


@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan"), float("inf")])
def test_a_plan_needs_a_positive_finite_lr(lr):
    with pytest.raises(InvalidArgument, match=f"lr must be positive and finite, but got {lr}"):
        plan(lr)


def infinite_rows() -> object:
    data = regression_rows()
    data.tensors[0][:] = float("inf")
    return data


@pytest.mark.parametrize("role", ["train", "valid"])
def test_a_loss_that_is_not_finite_before_the_first_update_is_an_error(role):
    message = {
        "train": r"the loss of training batch 1 of epoch 1 \(seed 4\) is nan .*check the data",
        "valid": r"the loss is nan before the first update \(seed 4\).*check the data",
    }[role]
    with pytest.raises(TaskFailed, match=message) as error:
        fit(linear_task(**{role: infinite_rows()}), [plan(seed=4)])
    assert "\n" not in str(error.value)


def test_a_watched_metric_that_is_not_finite_before_the_first_update_is_an_error():
    nan = {"f1": lambda output, target: float("nan")}
    with pytest.raises(TaskFailed, match="the f1 is nan before the first update"):
        fit(linear_task(metrics=nan), [plan()], watch="f1")
    assert np.isfinite(fit(linear_task(metrics=nan), [plan()]).measures["loss"]).all()


@pytest.mark.parametrize("at", [0, 3])
def test_what_the_model_raises_in_training_is_one_line_with_its_place(at):
    pattern = r"training, the task raised RuntimeError: tripped \(small_tasks.py, line \d+\)"
    with pytest.raises(TaskFailed, match=pattern) as error:
        fit(linear_task(model=lambda: Trips(at)), [plan()])
    assert "\n" not in str(error.value)


def test_an_interrupt_is_passed_on_and_moves_nothing():
    with no_global_draw(), pytest.raises(KeyboardInterrupt):
        fit(linear_task(model=lambda: Trips(3, KeyboardInterrupt)), [plan()])


UNUSABLE = {
    "closure": (lambda m, lr: torch.optim.LBFGS(m.parameters(), lr), "LBFGS needs a closure"),
    "own lr": (lambda m, lr: torch.optim.SGD(m.parameters(), 0.3), r"must use its lr.*\[0.3\]"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_optimizer_that_cannot_be_used_is_refused_in_one_line(case):
    optimizer, message = UNUSABLE[case]
    with pytest.raises(InvalidArgument, match=message) as error:
        fit(linear_task(optimizer=optimizer), [plan()])
    assert "\n" not in str(error.value)


def three_runs() -> History:
    metrics = {"error": absolute_error}
    return fit(linear_task(metrics=metrics), [plan(0.02), plan(1e200), plan(0.05, 7)])


def test_a_frame_has_a_row_per_run_and_evaluation():
    history = three_runs()
    frame = history.frame()
    columns = ["run", "seed", "schedule", "peak_lr", "update", "epoch", "lr", "train_loss"]
    assert list(frame) == [*columns, "valid_loss", "error"]
    assert frame.groupby("run").size().to_dict() == {0: 4, 1: 1, 2: 4}
    last = frame[frame["run"] == 2]
    assert last["update"].tolist() == [0, 4, 8, 12]
    assert last["epoch"].tolist() == [0, 1, 2, 3]
    assert last["seed"].eq(7).all()
    assert last["lr"].tolist()[1:] == [0.05] * 3
    assert last["train_loss"].iloc[-1] == history.train_loss[2, 8:].mean()
    assert last["valid_loss"].tolist() == history.measures["loss"][2].tolist()


def test_one_run_and_all_runs_joined_are_the_history_again():
    history = three_runs()
    joined = History.joined([history.only(k) for k in range(3)])
    assert joined.plans == history.plans
    assert joined.updates_asked == history.updates_asked
    assert joined.updates_trained == history.updates_trained
    pd.testing.assert_frame_equal(joined.frame(), history.frame())
    assert history.only(2).plans == (history.plans[2],)
    assert np.array_equal(history.only(2).train_loss[0], history.train_loss[2])


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_outcomes_are_finite_and_never_worse_than_the_start(direction):
    history = three_runs()
    better = min if direction == "minimize" else max
    healthy, lost, _ = history.outcomes("error", direction)
    start, final = history.measures["error"][0, [0, -1]]
    assert (healthy.start, healthy.final) == (start, final)
    assert healthy.value == better(start, final)
    assert lost.value == lost.start == history.measures["error"][1, 0]
    assert np.isnan(lost.final)
    assert (healthy.diverged, lost.diverged) == (False, True)


def test_the_loss_is_called_valid_loss_where_people_see_it():
    assert measure_column("loss") == "valid_loss"
    assert measure_name("valid_loss", ["loss", "error"]) == "loss"
    assert measure_name("error", ["loss", "error"]) == "error"
    for wrong in ("loss", "f1"):
        with pytest.raises(
            InvalidArgument,
            match=f"valid_loss, error, or best_ before one of them, but got '{wrong}'",
        ):
            measure_name(wrong, ["loss", "error"])


def test_a_family_of_the_users_own_gives_the_learning_rates():
    family = Family(
        "root",
        lambda optimizer, p: lr_scheduler.LambdaLR(optimizer, lambda t: (1 + t) ** -0.5),
        lambda trial, budget: {},
    )
    history = fit(linear_task(), [Plan(0.1, Schedule(family), 0)])
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH, 0], 0.1 / np.sqrt([1, 2, 3]))


@EVERY_TRAINER
def test_the_published_trace_of_gradient_descent_on_a_parabola(trainer):
    trace = pd.read_csv(DATA / "exponential_quadratic_trace.csv")
    task = quadratic.make_task()
    assert task.baseline is not None
    schedule = task.baseline.schedule
    assert schedule is not None
    history = fit(task, [Plan(task.baseline.lr, schedule, 0)], trainer=trainer)
    # its lr column is the lr of the next update
    np.testing.assert_allclose(history.lr[0, 1:, 0], trace["lr"][:-1], rtol=1e-6)
    # the loss is the squared distance to the minimum, and a weight of 5 has steps of 5e-7
    distance, printed = np.sqrt(history.measures["loss"][0, 1:]), np.sqrt(trace["loss"])
    np.testing.assert_allclose(distance, printed, rtol=2.5e-6, atol=2.5e-7)
    state = trainer.start(task, [0], [task.baseline.lr])
    weights = []
    for lr in history.lr[0]:
        trainer.advance(state, lr[None, None])
        weights.append(float(weights_of(state, 0)["w"]))
    np.testing.assert_allclose(weights, trace["w"], rtol=5e-6)
    assert weights[-1] == pytest.approx(-0.9957312, abs=1e-6)


def test_the_published_learning_rates_of_cosine_annealing():
    trace = pd.read_csv(DATA / "cosine_classifier_trace.csv")
    task = classifier.make_task()
    assert task.baseline is not None
    schedule = task.baseline.schedule
    assert schedule is not None
    history = fit(task, [Plan(task.baseline.lr, schedule, 0)])
    by_epoch = history.lr[0, :, 0].reshape(10, 13)
    assert (by_epoch == by_epoch[:, :1]).all()
    np.testing.assert_allclose(by_epoch[1:, 0], trace["lr_after_step"][:-1], atol=1e-8)
    assert history.train_loss[0, -13:].mean() < 0.5 * history.train_loss[0, 0]


def test_step_decay_of_the_linear_example_is_a_tenth_every_thirty_epochs():
    task = linear.make_task()
    assert task.baseline is not None
    schedule = task.baseline.schedule
    assert schedule is not None
    history = fit(task, [Plan(task.baseline.lr, schedule, 0)])
    expected = np.repeat([0.1, 0.01, 0.001, 0.0001], [30, 30, 30, 10])
    np.testing.assert_allclose(history.lr[0, :, 0], expected, rtol=1e-12)


def test_constant_schedules_are_constant():
    history = fit(linear_task(), [Plan(0.02, CONSTANT, 0)])
    assert (history.lr == 0.02).all()


def as_pair(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(part) for part in zip(*rows, strict=True))


@EVERY_TRAINER
@pytest.mark.parametrize("kind", ["tensors", "loader", "own"])
def test_an_evaluation_does_not_depend_on_the_other_runs(trainer, kind):
    rows = regression_rows(41, seed=1)
    task = linear_task(model=AlwaysRandom, valid=DataLoader(rows, 6) if kind == "loader" else rows)
    shuffled = DataLoader(rows, 7, shuffle=True, collate_fn=as_pair)
    batches = shuffled if kind == "own" else task.data().valid
    assert batches is not None
    state = trainer.start(task, [0, 1, 0], [0.02] * 3)
    with no_global_draw():
        together = trainer.evaluate(state, batches)["loss"]
        for row, seed in enumerate([0, 1, 0]):
            alone = trainer.evaluate(trainer.start(task, [seed], [0.02]), batches)["loss"]
            assert alone.tolist() == [together[row]]
    assert together[0] == together[2]


@EVERY_TRAINER
def test_measures_are_the_weighted_means_of_plain_numbers(trainer):
    metrics = {
        "error": absolute_error,
        "number": lambda output, target: float(output.sum()),
        "single": lambda output, target: output.sum().float(),
        "whole": lambda output, target: len(output) if len(output) > 5 else torch.tensor(3),
    }
    task = linear_task(metrics=metrics, valid=DataLoader(regression_rows(41, seed=1), 6))
    state = trainer.start(task, [0, 1], [0.02] * 2)
    batches = list(task.data().valid or [])
    found = trainer.evaluate(state, batches)
    for run in range(2):
        model = linear_model()
        model.load_state_dict(weights_of(state, run))
        with torch.no_grad():
            functions = task.measures_on(torch.device("cpu"))
            measured = [functions.measure(model, batch) for batch in batches]
        for name in task.measures:
            total = sum(len(b[0]) * float(m[name]) for b, m in zip(batches, measured, strict=True))
            assert found[name][run] == pytest.approx(total / 41, rel=1e-12)


@EVERY_TRAINER
def test_no_runs_have_no_measures(trainer):
    state = trainer.select(trainer.start(linear_task(), [0], [0.02]), [])
    assert trainer.evaluate(state, linear_task().data().fixed_subset)["loss"].tolist() == []


def test_plateau_waits_where_the_last_measure_is_not_finite():
    calls: list[int] = []

    def sometimes(output: Tensor, target: Tensor) -> float:
        calls.append(1)
        return float("nan") if len(calls) > 2 else 1.0

    params = {"mode": "min", "factor": 0.5, "patience": 0}
    history = fit(
        linear_task(metrics={"sometimes": sometimes}, epochs=4),
        [Plan(0.02, Schedule(FAMILIES["plateau"], params), 0)],
        watch="sometimes",
    )
    np.testing.assert_allclose(history.lr[0, ::PER_EPOCH, 0], [0.02, 0.02, 0.01, 0.005])


class ReadNumbers(TorchDispatchMode):
    """Counts how often a tensor is read as a number, for which an accelerator must be waited."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@EVERY_TRAINER
def test_an_evaluation_waits_for_no_batch(trainer):
    task = linear_task(metrics={"error": absolute_error})
    state = trainer.start(task, [0, 1], [0.02] * 2)
    batches = [tuple(t[:9] for t in regression_rows().tensors)] * 5
    trainer.evaluate(state, batches)
    with ReadNumbers() as read:
        torch.zeros(()).item()
        trainer.evaluate(state, batches)
    assert read.count == 1


@EVERY_TRAINER
def test_every_evaluation_sees_all_batches_of_an_iterator(trainer):
    task, plans = linear_task(), [plan(), plan(0.05, family="exponential", gamma=0.5)]
    batches = list(task.data().valid or [])
    once = fit(task, plans, evaluate_on=iter(batches), trainer=trainer)
    assert np.array_equal(once.measures["loss"], fit(task, plans, trainer=trainer).measures["loss"])
    with pytest.raises(TaskFailed, match=r"reading the batches to evaluate on.*ZeroDivisionError"):
        fit(task, plans, evaluate_on=(batches[k // 0] for k in range(2)), trainer=trainer)


def test_the_old_name_of_the_batches_to_evaluate_on_still_works_and_warns():
    task, plans = linear_task(), [plan(0.02, 0)]
    batches = task.data().valid
    with pytest.warns(DeprecationWarning, match=r"fit\(on=\.\.\.\) is now fit\(evaluate_on"):
        old = fit(task, plans, on=batches)
    new = fit(task, plans, evaluate_on=batches)
    assert np.array_equal(old.measures["loss"], new.measures["loss"])
    with pytest.raises(InvalidArgument, match="evaluate_on and on are the same"):
        fit(task, plans, on=batches, evaluate_on=batches)
