"""The batched trainer gives what the sequential trainer gives, up to rounding in float64."""

import random
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from kinds_of_batches import task_of
from small_tasks import (
    base_lrs,
    linear_task,
    near_tensors,
    no_global_draw,
    noisy_task,
    plain_sgd,
    plan,
    regression_rows,
    weights_of,
)
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.batched.trial_step import BatchingPlan, plan_of
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History, Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

ROWS, PIXELS, CLASSES = 40, 36, 3
PLANS = (plan(0.02, 0), plan(0.05, 0, "exponential", gamma=0.5), plan(0.03, 1), plan(0.02, 7))


def images(seed: int = 0) -> TensorDataset:
    numbers = np.random.default_rng(seed)
    x = torch.tensor(numbers.standard_normal((ROWS, PIXELS)))
    y = (x[:, :CLASSES] + 0.3 * x[:, CLASSES : 2 * CLASSES]).argmax(dim=1)
    return TensorDataset(x, y)


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(dim=-1) == target).double().mean()


def adam(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr)


def image_task(model: Callable[[], nn.Module], *, precise: bool = True, **fields) -> Task:
    """Classification of 6x6 images in float64; three batches an epoch, the last one ragged."""
    given = {
        "model": lambda: model().double() if precise else model(),
        "train": images(),
        "valid": images(1),
        "criterion": nn.CrossEntropyLoss(),
        "metrics": {"accuracy": accuracy},
        "optimizer": adam,
        "batch_size": 16,
        "epochs": 2,
    }
    return Task(**{**given, **fields})


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(PIXELS, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(PIXELS, 8), nn.Dropout(0.4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, CLASSES)
    )


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)),
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


class Recurrent(nn.Module):
    """The rows of an image, one after another, through a recurrent layer."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.layer = kind(6, 5, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.view(-1, 6, 6))[0][:, -1])


class Transformer(nn.Module):
    """The rows of an image, side by side, through an encoder."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(6, 8) / 5)
        self.first = nn.Linear(6, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.first(x.view(-1, 6, 6)) + self.place).mean(dim=1))


class Tied(nn.Module):
    """A model that uses one parameter twice."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(PIXELS, 6)
        self.up = nn.Linear(PIXELS, 6)
        self.up.weight = self.down.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.down(x)) - torch.sigmoid(self.up(x)))


class Partly(nn.Module):
    """A model with a frozen layer, a frozen norm, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(PIXELS, 8).requires_grad_(False)
        self.norm = nn.BatchNorm1d(8).requires_grad_(False).eval()
        self.unused = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.frozen(x)))


class Averaging(nn.Module):
    """A model that replaces a buffer at every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(PIXELS, CLASSES)
        self.register_buffer("mean", torch.zeros(PIXELS))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=0)
        return self.layer(x - self.mean)


class Sometimes(nn.Module):
    """A model with a layer that is left out at random."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(PIXELS, PIXELS), nn.Linear(PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x) if random.random() < 0.5 else x)


class Rarely(nn.Module):
    """A model with a layer that is left out in few of its updates."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.first = layer or nn.Linear(PIXELS, PIXELS)
        self.layer, self.head = nn.Linear(PIXELS, PIXELS), nn.Linear(PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(x if self.training and random.random() < 0.1 else self.layer(x))


class Short(Rarely):
    """A model that leaves a layer out where a batch has few rows."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x) if len(x) > 8 else x)


class Rows(nn.Module):
    """A recurrent layer over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(6, PIXELS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unflatten(-1, (6, 6)))[0][:, -1]


class Scaled(nn.Module):
    """A model that draws from Python's and NumPy's random states."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * (0.5 + random.random()) + float(np.random.rand())
        return self.layer(x)


def named_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    penalty = sum(p.square().sum() for p in model.parameters())
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"]) + 1e-3 * penalty


def named(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    x, y = (torch.stack(part) for part in zip(*rows, strict=True))
    return {"x": x, "y": y}


def named_task() -> Task:
    return image_task(
        mlp,
        criterion=None,
        loss=named_loss,
        train=DataLoader(images(), 16, shuffle=True, collate_fn=named),
        valid=DataLoader(images(1), 16, collate_fn=named),
        metrics={"largest": lambda model, batch: model(batch["x"]).max()},
    )


def two_groups(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": lr / 10, "weight_decay": 0.0}, {"params": others}]
    return torch.optim.AdamW(groups, lr, weight_decay=0.1)


def fine_tuned(state: str) -> Task:
    """A live model and optimizer that have made a few updates."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = dropout().double()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x, y = images(2).tensors
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model[::2](x), y).backward()
        optimizer.step()
    loader = DataLoader(images(), 16, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    return Task.from_objects(
        model, optimizer, criterion, loader, images(1), epochs=2, optimizer_state=state
    )


def weighted() -> Task:
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    return image_task(mlp, criterion=nn.CrossEntropyLoss(weight, label_smoothing=0.1))


TASKS: dict[str, Callable[[], Task]] = {
    "mlp": lambda: image_task(mlp),
    "dropout": lambda: image_task(dropout),
    "convolutions": lambda: image_task(convolutions),
    "gru": lambda: image_task(lambda: Recurrent(nn.GRU)),
    "lstm": lambda: image_task(lambda: Recurrent(nn.LSTM)),
    "rnn": lambda: image_task(lambda: Recurrent(nn.RNN), epochs=1),
    "transformer": lambda: image_task(Transformer),
    "recurrent dropout": lambda: image_task(
        lambda: Recurrent(partial(nn.GRU, num_layers=2, dropout=0.3)), epochs=1
    ),
    "weight norm": lambda: image_task(
        lambda: nn.Sequential(weight_norm(nn.Linear(PIXELS, 4)), nn.PReLU(), nn.Linear(4, CLASSES))
    ),
    "tied": lambda: image_task(Tied),
    "partly frozen": lambda: image_task(Partly),
    "partly frozen, clipped": lambda: image_task(Partly, clip_norm=0.1),
    "replaced buffers": lambda: image_task(Averaging),
    "random scale": lambda: image_task(Scaled),
    "named batches": named_task,
    "weighted": weighted,
    "valid loss": lambda: image_task(
        dropout, criterion=nn.CrossEntropyLoss(label_smoothing=0.1), valid_loss=nn.MultiMarginLoss()
    ),
    "forward": lambda: image_task(
        dropout,
        criterion=None,
        forward=lambda model, batch: model(batch[0]),
        loss=lambda output, batch: nn.functional.cross_entropy(output, batch[1]),
        metrics={"accuracy": lambda output, batch: accuracy(output, batch[1])},
    ),
    "whole measures": lambda: image_task(
        convolutions,
        evaluate=lambda model: {
            "highest": model(images(3).tensors[0]).max(),
            "norm": float(sum(p.norm() for p in model.parameters())),
        },
    ),
    "two groups": lambda: image_task(mlp, optimizer=two_groups),
    "accumulate": lambda: image_task(convolutions, accumulate=2),
    "clip_norm": lambda: image_task(mlp, clip_norm=0.3),
    "loader": lambda: image_task(dropout, train=DataLoader(images(), 16, shuffle=True)),
    "fresh fine-tuning": lambda: fine_tuned("fresh"),
    "kept fine-tuning": lambda: fine_tuned("keep"),
    "noisy": noisy_task,
}


class Signs(torch.optim.Optimizer):
    """An optimizer of the user's own: the step depends on the norm of each parameter."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad.sign() * p.norm(), alpha=-group["lr"])


class Replacing(torch.optim.SGD):
    """Gradient descent that gives its parameters new data."""

    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * p.grad


class Clipping(torch.optim.SGD):
    """Gradient descent that clips the norm of its gradients."""

    def step(self, closure=None) -> None:
        nn.utils.clip_grad_norm_([p for g in self.param_groups for p in g["params"]], 20.0)
        super().step()


class Skipping(torch.optim.SGD):
    """Gradient descent that makes no step along large gradients."""

    def step(self, closure=None) -> None:
        if max(p.grad.abs().max() for g in self.param_groups for p in g["params"]) < 6:
            super().step()


class EverySecond(torch.optim.SGD):
    """Gradient descent that counts, and makes every second step only."""

    def __init__(self, params, lr: float, memory: object = None) -> None:
        super().__init__(params, lr)
        self.calls, self.memory = 0, memory

    def step(self, closure=None) -> None:
        self.calls += 1
        if self.calls % 2 == 0:
            super().step()


class FirstLr(torch.optim.SGD):
    """Gradient descent with a decay that follows the lr it was built with."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr)
        self.first = lr

    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - self.first)
        super().step()


def own(kind: type, **options) -> Callable[[nn.Module, float], torch.optim.Optimizer]:
    return lambda model, lr: kind(model.parameters(), lr, **options)


def hooked(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    optimizer.register_step_post_hook(lambda optimizer, args, kwargs: None)
    return optimizer


def scheduled(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """An optimizer whose step a torch scheduler has wrapped, as frameworks build it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    return optimizer


def sgd(**options) -> Callable[[nn.Module, float], torch.optim.Optimizer]:
    return lambda model, lr: torch.optim.SGD(model.parameters(), lr, **options)


def made(name: str, **options) -> Callable[[nn.Module, float], torch.optim.Optimizer]:
    return lambda model, lr: getattr(torch.optim, name)(model.parameters(), lr, **options)


ONE = {
    "SGD": sgd(),
    "SGD with weight decay": sgd(momentum=0.9, weight_decay=0.1),
    "SGD with dampening": sgd(momentum=0.9, dampening=0.5),
    "Nesterov": sgd(momentum=0.9, nesterov=True),
    "Adam": made("Adam"),
    "amsgrad": made("Adam", amsgrad=True, weight_decay=0.1),
    "AdamW": made("AdamW", weight_decay=0.3),
    "RMSprop": made("RMSprop", momentum=0.5, centered=True),
    "Adagrad": made("Adagrad", initial_accumulator_value=0.1),
    "Adadelta": made("Adadelta"),
    "Adamax": made("Adamax"),
    "NAdam": made("NAdam"),
    "RAdam": made("RAdam"),
    "counts": own(EverySecond),
    "with a scheduler": scheduled,
}
"""Optimizers of which one serves all runs."""
FUSED = {name for name in ONE if "SGD" in name} | {
    "counts",
    "with a scheduler",
    "Nesterov",
    "Adam",
    "amsgrad",
    "AdamW",
    "Adagrad",
}
"""Those of which torch has a fused kernel for processors."""
MANY = {
    "Rprop": made("Rprop"),
    "ASGD": made("ASGD"),
    "Adafactor": made("Adafactor"),
    "Muon": made("Muon"),
    "own": lambda model, lr: Signs(model.parameters(), lr),
    "decay that follows the lr": lambda model, lr: torch.optim.SGD(
        model.parameters(), lr, weight_decay=lr
    ),
    "lr decay of its own": made("Adagrad", lr_decay=0.1),
    "clips": own(Clipping),
    "skips": own(Skipping),
    "remembers its lr": own(FirstLr),
}
"""Optimizers of which every run keeps its own."""
EITHER = {"lr decay of its own"}  # exact in both ways


def matrices() -> nn.Module:
    """A model of matrices only."""
    return nn.Sequential(
        nn.Linear(PIXELS, 8, bias=False), nn.Tanh(), nn.Linear(8, CLASSES, bias=False)
    )


def assert_same_history(a: History, b: History) -> None:
    np.testing.assert_array_equal(a.lr, b.lr)
    np.testing.assert_array_equal(a.diverged_at, b.diverged_at)
    np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-10)
    assert a.measures.keys() == b.measures.keys()
    for name, values in a.measures.items():
        np.testing.assert_allclose(values, b.measures[name], rtol=1e-10, atol=1e-12, err_msg=name)


def assert_trainers_agree(task: Task, plans: tuple[Plan, ...] = PLANS) -> None:
    with no_global_draw():
        batched = fit(task, plans, trainer=BatchedTrainer())
    assert_same_history(fit(task, plans, trainer=SequentialTrainer()), batched)


def ways(task: Task) -> BatchingPlan:
    found = plan_of(task, None)
    assert isinstance(found, BatchingPlan), found
    return found


def lrs_for(state, lrs: list[float], updates: int) -> np.ndarray:
    ratios = base_lrs(state) / base_lrs(state).max(axis=1, keepdims=True)
    decay = 0.97 ** np.arange(updates)
    return np.array(lrs)[:, None, None] * decay[None, :, None] * ratios[:, None, :]


@pytest.mark.parametrize("name", TASKS)
def test_both_trainers_give_the_same_history(name):
    assert_trainers_agree(TASKS[name]())


@pytest.mark.parametrize("name", TASKS)
def test_runs_of_many_seeds_in_one_state_are_those_of_the_sequential_trainer(name):
    seeds, lrs = [3, 0, 3, 1], [0.01, 0.05, 0.02, 0.02]
    results = []
    for trainer in (SequentialTrainer(), BatchedTrainer()):
        task = TASKS[name]()
        state = trainer.start(task, seeds, lrs)
        learning = lrs_for(state, lrs, 7)
        before = trainer.advance(state, learning[:, :2])
        rows = [2, 3, 1, 2]
        state = trainer.select(state, rows)
        after = trainer.advance(state, learning[rows, 2:])
        measures = trainer.evaluate(state, task.data().valid or [])
        results.append((before, after, measures, [weights_of(state, k) for k in range(4)]))
    (a, b, c, weights), (x, y, z, others) = results
    np.testing.assert_allclose(a, x, rtol=1e-10)
    np.testing.assert_allclose(b, y, rtol=1e-10)
    for measure in c:
        np.testing.assert_allclose(c[measure], z[measure], rtol=1e-10, atol=1e-12)
    assert all(u.keys() == v.keys() for u, v in zip(weights, others, strict=True))


@pytest.mark.parametrize("name", ONE)
def test_one_optimizer_serves_all_runs_where_that_is_exact(name):
    task = image_task(mlp, optimizer=ONE[name])
    way = ways(task)
    assert way.one_optimizer
    assert way.fused == (name in FUSED)
    assert_trainers_agree(task)


def test_a_kernel_that_was_asked_for_is_kept():
    task = image_task(mlp, optimizer=made("Adam", foreach=True))
    assert ways(task).one_optimizer
    assert not ways(task).fused
    assert_trainers_agree(task)


@pytest.mark.parametrize("name", MANY)
def test_every_run_keeps_an_optimizer_that_one_cannot_replace(name):
    task = image_task(matrices, optimizer=MANY[name])
    assert ways(task).one_optimizer == (name in EITHER)
    assert_trainers_agree(task)


@pytest.mark.parametrize("name", ["SGD with weight decay", "Adagrad"])
def test_weights_agree_too(name):
    task = image_task(mlp, optimizer=ONE[name])
    weights = []
    for trainer in (SequentialTrainer(), BatchedTrainer()):
        state = trainer.start(task, [0, 1], [0.01, 0.05])
        trainer.advance(state, lrs_for(state, [0.01, 0.05], 5))
        weights.append([weights_of(state, run) for run in range(2)])
    assert all(near_tensors(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("model", [mlp, convolutions, dropout])
@pytest.mark.parametrize("optimizer", [ONE["Nesterov"], MANY["own"]])
def test_a_run_that_breaks_leaves_its_neighbours_bitwise_untouched(model, optimizer):
    task = image_task(model, optimizer=optimizer)
    trainer = BatchedTrainer()
    states = [trainer.start(task, [0, 0, 0], [0.02] * 3) for _ in range(2)]
    lrs = np.full((2, 3, 8, 1), 0.02)
    lrs[1, 1, 2] = np.inf
    healthy, broken = (trainer.advance(s, rows) for s, rows in zip(states, lrs, strict=True))
    assert np.array_equal(healthy[[0, 2]], broken[[0, 2]])
    assert np.array_equal(healthy[1, :3], broken[1, :3])
    assert not np.isfinite(broken[1, 3:]).any()
    assert np.isnan(broken[1, 4:]).all()
    kept = trainer.select(states[1], [0, 2])
    going_on = trainer.advance(kept, np.full((2, 2, 1), 0.02))
    assert np.isfinite(going_on).all()


@pytest.mark.parametrize("pieces", [(8,), (4, 4), (3, 3, 2)])
def test_a_broken_run_ends_like_that_of_the_sequential_trainer_and_harms_no_other(pieces):
    task = noisy_task(optimizer=plain_sgd)
    weights, losses = [], []
    for trainer in (SequentialTrainer(), BatchedTrainer()):
        state = trainer.start(task, [0, 0, 1], [0.02] * 3)
        lrs = np.full((3, sum(pieces), 1), 0.02)
        lrs[1, 2] = 1e300
        done = 0
        found = []
        for piece in pieces:
            found.append(trainer.advance(state, lrs[:, done : done + piece]))
            done += piece
        losses.append(np.concatenate(found, axis=1))
        state = trainer.select(trainer.fork(state, [1, 0]), [0, 1])
        assert np.isnan(trainer.advance(state, lrs[:2, :1] * 0)[0]).all()
        weights.append(weights_of(state, 1))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
    assert near_tensors(*weights)


@pytest.mark.parametrize("name", ["mlp", "dropout", "convolutions", "transformer"])
def test_the_size_of_a_population_does_not_matter_beyond_rounding(name):
    task, trainer = TASKS[name](), BatchedTrainer()
    found = []
    for runs in (1, 2, 7):
        state = trainer.start(task, [0] * runs, [0.02] * runs)
        found.append(trainer.advance(state, np.full((runs, 6, 1), 0.02)))
    for losses in found[1:]:
        np.testing.assert_allclose(losses, np.repeat(found[0], len(losses), axis=0), rtol=1e-10)


def numpy_accuracy(output: Tensor, target: Tensor) -> float:
    return float((output.numpy().argmax(axis=1) == target.numpy()).mean())


@pytest.mark.parametrize("model", [mlp, lambda: nn.Sequential(AlwaysDropping(), mlp())])
def test_a_metric_that_vmap_does_not_take_is_measured_run_by_run(model):
    metrics = {"accuracy": accuracy, "own": numpy_accuracy, "rows": lambda o, t: len(o)}
    task = image_task(model, metrics=metrics)
    together = ways(task).together
    assert together == (("loss", "accuracy", "rows") if model is mlp else ())
    assert_trainers_agree(task)


def test_a_large_evaluation_is_made_run_by_run():
    rows = torch.randn(4000, PIXELS, dtype=torch.float64)
    task = image_task(convolutions, valid=TensorDataset(rows, torch.zeros(4000, dtype=torch.long)))
    assert ways(task).together == ()
    assert_trainers_agree(task, PLANS[:3])


class AlwaysDropping(nn.Module):
    """Dropout in eval mode, too."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.3, training=True)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_float32_and_autocast_are_the_same_up_to_their_precision(autocast):
    (x, y), (valid_x, valid_y) = images().tensors, images(1).tensors
    task = image_task(
        mlp,
        precise=False,
        train=TensorDataset(x.float(), y),
        valid=TensorDataset(valid_x.float(), valid_y),
        autocast=autocast,
        optimizer=plain_sgd,
    )
    trainers = (SequentialTrainer(), BatchedTrainer())
    one, other = (fit(task, PLANS, trainer=trainer) for trainer in trainers)
    rtol = 1e-4 if autocast is None else 0.05
    np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=rtol)


class Reads(nn.Module):
    """A linear model whose forward does something that vmap may not take."""

    def __init__(self, what: Callable[["Reads", Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(PIXELS, CLASSES)
        self.register_buffer("sum", torch.zeros(PIXELS))
        self.what = what
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self, self.layer(x))


class Doubled(torch.autograd.Function):
    """An autograd function in the old form."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * gradient


def counted(model: Reads, y: Tensor) -> Tensor:
    model.calls += 1
    return y / model.calls


class OwnNumbers(nn.Module):
    """A model with random numbers that it keeps outside its parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = float(torch.rand(()))
        self.layer = nn.Linear(PIXELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(x)


class Langevin(torch.optim.SGD):
    """An optimizer that adds noise."""

    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.add_(torch.randn_like(p.grad))
        super().step()


REFUSED: dict[str, tuple[Callable[[], Task], str]] = {
    "item": (lambda: image_task(lambda: Reads(lambda m, y: y * y.sum().item())), "item"),
    "control flow": (
        lambda: image_task(lambda: Reads(lambda m, y: y if y.sum() > 0 else -y)),
        "control flow",
    ),
    "mask": (lambda: image_task(lambda: Reads(lambda m, y: y * y[y > 0].mean())), "vmap"),
    "batch norm without momentum": (
        lambda: image_task(
            lambda: nn.Sequential(
                nn.Linear(PIXELS, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, CLASSES)
            )
        ),
        "item|vmap",
    ),
    "old function": (lambda: image_task(lambda: Reads(lambda m, y: Doubled.apply(y))), "vmap"),
    "counter": (lambda: image_task(lambda: Reads(counted)), "changes its attribute calls"),
    "own numbers": (lambda: image_task(OwnNumbers), "attribute scale differs between seeds"),
    "noisy optimizer": (
        lambda: image_task(mlp, optimizer=lambda m, lr: Langevin(m.parameters(), lr)),
        "the optimizer draws random numbers",
    ),
    "checkpoint": (
        lambda: image_task(
            lambda: Reads(lambda m, y: checkpoint(torch.tanh, y, use_reentrant=True))
        ),
        ".",
    ),
    "spectral norm": (
        lambda: image_task(lambda: spectral_norm(nn.Linear(PIXELS, CLASSES))),
        "Batching rule not implemented",
    ),
    "layers that come and go": (
        lambda: image_task(Sometimes),
        "which parameters get a gradient differs between runs",
    ),
    "layers left out now and then": (
        lambda: image_task(Rarely),
        "which parameters get a gradient differs between updates",
    ),
    "layers left out of a recurrent model": (
        lambda: image_task(lambda: Rarely(Rows())),
        "which parameters get a gradient differs between updates",
    ),
    "masks drawn in the order of a transposed input": (
        lambda: image_task(lambda: Transformer(0.2)),
        "runs trained together differ from runs trained alone",
    ),
    "new data": (lambda: image_task(mlp, optimizer=own(Replacing)), "replaces the data"),
    "hook": (lambda: image_task(mlp, optimizer=hooked), "has a hook on its step"),
    "memory": (
        lambda: image_task(mlp, optimizer=own(EverySecond, memory=torch.zeros(3))),
        r"EverySecond keeps a Tensor \(memory\) that runs trained together would share",
    ),
    "raises": (
        lambda: image_task(lambda: nn.Linear(5, CLASSES)),
        "its code raised RuntimeError: .*shapes",
    ),
    "packed": (lambda: task_of("packed sequence"), "hold packed sequences"),
    "asks for a number": (
        lambda: image_task(lambda: Reads(lambda m, y: y if y.sum() > 0 else -y)),
        r"torch.func.vmap does not take its training step \(RuntimeError: vmap: .*item",
    ),
}
INTERNAL = re.compile(r"'int' object|has no attribute|plain value|^'")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_batched_is_told_in_one_line(name):
    make, pattern = REFUSED[name]
    task, trainer = make(), BatchedTrainer()
    with no_global_draw():
        reason = trainer.why_not(task)
    assert reason is not None
    assert "\n" not in reason
    assert not INTERNAL.search(reason)
    with pytest.raises(InvalidArgument, match=pattern):
        trainer.start(task, [0], [0.1])
    with pytest.raises(InvalidArgument, match="cannot be batched"):
        trainer.capacity(task)


@pytest.mark.parametrize("name", TASKS)
def test_what_can_be_batched_is_tried_without_moving_a_random_state(name):
    with no_global_draw():
        assert BatchedTrainer().why_not(TASKS[name]()) is None


def test_capacity_shrinks_with_the_model():
    small = BatchedTrainer().capacity(linear_task())
    large = BatchedTrainer().capacity(
        image_task(lambda: nn.Sequential(nn.Linear(PIXELS, 2**15), nn.Linear(2**15, CLASSES)))
    )
    assert small == 256
    assert 1 <= large < 64


def test_what_the_model_raises_later_is_one_line():
    def fails(output: Tensor, target: Tensor) -> Tensor:
        if len(target) == 12:  # the ragged last batch
            raise ValueError("twelve")
        return nn.functional.mse_loss(output, target)

    task = linear_task(criterion=fails, valid=regression_rows(16))
    with pytest.raises(TaskFailed, match=r"training, the task raised ValueError: twelve"):
        fit(task, [plan()], trainer=BatchedTrainer())


def test_a_gradient_that_is_missing_later_is_one_line():
    task = image_task(Short)
    assert BatchedTrainer().why_not(task) is None
    with pytest.raises(TaskFailed, match="use --engine sequential"):
        fit(task, [plan()], trainer=BatchedTrainer())


def test_a_metric_that_is_not_a_number_is_batched():
    task = linear_task(metrics={"nan": lambda output, target: output.sum() * float("nan")})
    assert BatchedTrainer().why_not(task) is None
    history = fit(task, [plan()], updates=2, trainer=BatchedTrainer())
    assert np.isnan(history.measures["nan"]).all()
    assert np.isfinite(history.measures["loss"]).all()
