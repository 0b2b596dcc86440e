"""What a Task accepts, what it refuses, and what it measures."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tasks import (
    FEATURES,
    absolute_error,
    linear_model,
    linear_task,
    no_global_draw,
    noisy_task,
    plain_sgd,
    plan,
    regression_rows,
)
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules import FAMILIES
from lrfinder.tasks.task import Baseline, Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

CPU = torch.device("cpu")
MODEL = nn.Linear(1, 1)

BAD_FIELDS = {
    "epochs 0": ({"epochs": 0}, "epochs", "0"),
    "epochs a fraction": ({"epochs": 1.5}, "epochs", "1.5"),
    "epochs True": ({"epochs": True}, "epochs", "True"),
    "epochs a word": ({"epochs": "ten"}, "epochs", "'ten'"),
    "batch_size 0": ({"batch_size": 0}, "batch_size", "0"),
    "batch_size None": ({"batch_size": None}, "batch_size", "None"),
    "accumulate negative": ({"accumulate": -1}, "accumulate", "-1"),
    "steps_per_epoch 0": ({"steps_per_epoch": 0}, "steps_per_epoch", "0"),
    "clip_norm 0": ({"clip_norm": 0.0}, "clip_norm", "0"),
    "clip_norm nan": ({"clip_norm": float("nan")}, "clip_norm", "nan"),
    "clip_norm a word": ({"clip_norm": "one"}, "clip_norm", "'one'"),
    "autocast float64": ({"autocast": torch.float64}, "autocast", "float64"),
    "autocast a word": ({"autocast": "fp16"}, "autocast", "'fp16'"),
    "criterion and loss": ({"loss": lambda model, batch: 0}, "criterion and loss", "both"),
    "neither": ({"criterion": None}, "criterion and loss", "neither"),
    "criterion a word": ({"criterion": "mse"}, "criterion", "'mse'"),
    "valid_loss a word": ({"valid_loss": "mse"}, "valid_loss", "'mse'"),
    "forward with a criterion": (
        {"forward": lambda model, batch: model(batch[0])},
        "forward goes with loss",
        "criterion",
    ),
    "forward a word": ({"criterion": None, "loss": lambda *a: 0, "forward": "x"}, "forward", "'x'"),
    "evaluate a dict": ({"evaluate": {}}, "evaluate", "{}"),
    "model an object": ({"model": MODEL}, "model", "a model"),
    "model a number": ({"model": 3}, "model", "3"),
    "optimizer an object": (
        {"optimizer": torch.optim.SGD(MODEL.parameters(), 0.1)},
        "optimizer",
        "SGD",
    ),
    "rows a number": ({"rows": 5}, "rows", "5"),
    "a metric a number": ({"metrics": {"error": 5}}, "metrics['error']", "5"),
    "metrics a list": ({"metrics": [absolute_error]}, "metrics", "list"),
    "a metric called loss": ({"metrics": {"loss": absolute_error}}, "metrics", "'loss'"),
    "a metric called valid_loss": (
        {"metrics": {"valid_loss": absolute_error}},
        "metrics",
        "'valid_loss'",
    ),
    "train a tensor tuple": ({"train": (torch.zeros(3, 1),) * 2}, "train", "tuple"),
    "train None": ({"train": None}, "train", "NoneType"),
    "train empty": ({"train": TensorDataset(torch.zeros(0, 1))}, "train", "0 rows"),
    "valid a number": ({"valid": 3}, "valid", "int"),
    "valid empty": ({"valid": TensorDataset(torch.zeros(0, 1))}, "valid", "0 rows"),
    "schedules not families": ({"schedules": {"mine": "step"}}, "schedules['mine']", "'step'"),
    "a family under another name": (
        {"schedules": {"mine": replace(FAMILIES["step"], name="other")}},
        "schedules['mine']",
        "'other'",
    ),
    "a family called baseline": (
        {"schedules": {"baseline": replace(FAMILIES["step"], name="baseline")}},
        "schedules",
        "'baseline'",
    ),
    **{
        f"the name {name!r}": ({"name": name}, "name", repr(name) if fits else "a ")
        for name, fits in {
            "a/b": True,
            "../x": True,
            "..": True,
            "": True,
            " ": True,
            'a """ b': True,
            "a\\b": True,
            "a\nb": True,
            "a\tb": True,
            "x" * 101: False,
            3: True,
            None: True,
        }.items()
    },
    "a metric called 1": ({"metrics": {1: absolute_error}}, "metrics", "1"),
    "a metric with a quote": ({"metrics": {'"""': absolute_error}}, "metrics", '"""'),
    "a family with a slash": (
        {"schedules": {"a/b": replace(FAMILIES["step"], name="a/b")}},
        "schedules",
        "'a/b'",
    ),
    "the baseline True": ({"baseline": True}, "baseline", "bool"),
    "the baseline a word": ({"baseline": "fast"}, "baseline must look like 0.1", "'fast'"),
    "the baseline a list": ({"baseline": [0.1]}, "baseline", "list"),
    "the baseline a triple": ({"baseline": (0.1, None, 3)}, "baseline", "tuple"),
    "the baseline never an lr": ({"baseline": lambda it: 0.0}, "baseline: lr", "0.0"),
    "the baseline not a number": ({"baseline": lambda it: float("nan")}, "baseline: lr", "nan"),
    "the baseline a scheduler": (
        {"baseline": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3)},
        "baseline",
        "function",
    ),
    "the baseline zero": ({"baseline": 0}, "baseline: lr", "0"),
    "a family with a built-in name": (
        {"schedules": {"step": FAMILIES["step"]}},
        "schedules",
        "'step'",
    ),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_a_bad_field_is_refused_with_its_name_and_value_in_one_line(case):
    fields, name, value = BAD_FIELDS[case]
    with pytest.raises(InvalidArgument) as error:
        linear_task(**fields)
    message = str(error.value)
    assert name in message
    assert value in message
    assert "\n" not in message


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_a_baseline_needs_a_positive_finite_lr(lr):
    with pytest.raises(InvalidArgument, match=f"baseline: lr.*{lr}"):
        Baseline(lr)


def pair_loss(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def pair_error(model, batch):
    x, y = batch
    return absolute_error(model(x), y)


class Named(Dataset):
    """The regression as dicts, as a tokenizer would give them."""

    def __init__(self, rows: TensorDataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        x, y = self.rows[index]
        return {"inputs": x, "labels": y}


class OwnLoss(nn.Module):
    """A model that takes a batch by its names and returns its loss, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear_model()

    def forward(self, inputs, labels):
        return SimpleNamespace(loss=nn.functional.mse_loss(self.layer(inputs), labels))


WAYS = {
    "criterion": {"metrics": {"error": absolute_error}},
    "loss": {"criterion": None, "loss": pair_loss, "metrics": {"error": pair_error}},
    "dicts": {
        "criterion": None,
        "model": OwnLoss,
        "loss": lambda model, batch: model(**batch).loss,
        "metrics": {"error": lambda m, b: absolute_error(m.layer(b["inputs"]), b["labels"])},
        "train": DataLoader(Named(regression_rows()), 16),
        "valid": Named(regression_rows(41, seed=1)),
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_give_a_loss_measures_the_same(way):
    expected = fit(linear_task(**WAYS["criterion"]), [plan()], updates=1)
    history = fit(linear_task(**WAYS[way]), [plan()], updates=1)
    for name in ("loss", "error"):
        assert history.measures[name][0, 0] == pytest.approx(expected.measures[name][0, 0])


def test_dict_batches_train_like_pairs():
    dicts = fit(linear_task(**WAYS["dicts"]), [plan()])
    pairs = fit(linear_task(train=DataLoader(regression_rows(), 16)), [plan()])
    assert np.array_equal(dicts.train_loss, pairs.train_loss)


@given(st.integers(1, 70), st.integers(1, 20))
def test_a_measure_over_batches_is_the_measure_over_all_rows_at_once(rows, size):
    data = regression_rows(rows, seed=2)
    task = linear_task(valid=DataLoader(data, size), metrics={"error": absolute_error})
    history = fit(task, [plan(seed=5)], updates=1)
    with no_global_draw(), torch.random.fork_rng():
        torch.manual_seed(5)
        output = linear_model()(data.tensors[0]).detach()
    target = data.tensors[1]
    assert history.measures["loss"][0, 0] == pytest.approx(float(((output - target) ** 2).mean()))
    assert history.measures["error"][0, 0] == pytest.approx(float(absolute_error(output, target)))


def test_the_tasks_own_row_count_weighs_its_means():
    data = DataLoader(regression_rows(20), 15)  # 15 and 5 rows, weighed here as 1 and 1
    batches = list(data)
    task = linear_task(valid=data, rows=lambda batch: 1)
    value = fit(task, [plan(seed=5)], updates=1).measures["loss"][0, 0]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = linear_model()
    means = [pair_loss(model, batch).item() for batch in batches]
    assert value == pytest.approx(np.mean(means))


ROW_COUNTS = {
    "tensor": (torch.tensor, True),
    "float": (float, True),
    "numpy": (np.int64, True),
    "array": (np.array, True),
    "none": (lambda rows: None, False),
    "negative": (lambda rows: -rows, False),
    "nan": (lambda rows: float("nan"), False),
    "inf": (lambda rows: torch.tensor(float("inf")), False),
    "word": (str, False),
    "many": (torch.ones, False),
    "shape": (lambda rows: (rows, 1), False),
}


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
@pytest.mark.parametrize("kind", ROW_COUNTS)
def test_the_tasks_own_row_count_is_any_number_of_rows(kind, trainer):
    made, fits = ROW_COUNTS[kind]
    data = DataLoader(regression_rows(41, seed=1), 16)

    def values(rows):
        task = linear_task(valid=data, rows=rows)
        return fit(task, [plan()], updates=2, trainer=trainer()).measures["loss"]

    if fits:
        expected = values(lambda batch: len(batch[1]))
        assert np.array_equal(values(lambda batch: made(len(batch[1]))), expected)
    else:
        with pytest.raises(InvalidArgument, match=r"rows must return .*, but got") as told:
            values(lambda batch: made(len(batch[1])))
        assert "\n" not in str(told.value)


WITHOUT_GRADIENT = {
    "detached": (lambda loss: loss.detach(), "must have a gradient"),
    "made anew": (lambda loss: torch.tensor(loss.item()), "must have a gradient"),
    "a whole number": (lambda loss: loss.long(), "must have a gradient, but got a torch.int64"),
    "complex": (lambda loss: loss * 1j, r"one number .*, but got a torch.complex.*\.abs\(\)"),
}


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
@pytest.mark.parametrize("kind", WITHOUT_GRADIENT)
def test_a_loss_without_a_gradient_is_refused_with_what_to_do(kind, trainer):
    changed, says = WITHOUT_GRADIENT[kind]
    task = linear_task(criterion=lambda output, y: changed(nn.functional.mse_loss(output, y)))
    with pytest.raises(InvalidArgument, match=says) as told:
        fit(task, [plan()], trainer=trainer())
    assert "\n" not in str(told.value)


def test_a_loss_may_lose_its_gradient_only_where_it_is_evaluated():
    def loss(model, batch):
        value = pair_loss(model, batch)
        return value if model.training else value.detach()

    assert np.isfinite(fit(linear_task(criterion=None, loss=loss), [plan()]).measures["loss"]).all()


def test_a_metric_may_return_a_number_or_a_tensor():
    metrics = {
        "number": lambda output, target: 3,
        "tensor": lambda output, target: output.sum() * 0,
    }
    history = fit(linear_task(metrics=metrics), [plan()], updates=1)
    assert history.measures["number"].tolist() == [[3.0, 3.0]]
    assert history.measures["tensor"].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (nn.MSELoss(reduction="none"), r"shape \(16, 1\)|shape \(41, 1\)"),
        (lambda output, target: 1.0, "float"),
    ],
)
def test_a_loss_that_is_not_one_number_is_refused_in_one_line(loss, got):
    with pytest.raises(InvalidArgument, match=f"one number in a tensor, but got ({got})") as error:
        fit(linear_task(criterion=loss), [plan()])
    assert "\n" not in str(error.value)


def test_a_criterion_needs_pairs():
    triple = TensorDataset(torch.zeros(8, FEATURES), torch.zeros(8, 1), torch.zeros(8))
    with pytest.raises(InvalidArgument, match=r"batches \(x, y\), but got 3 parts.*loss=f"):
        fit(linear_task(train=triple, valid=triple), [plan()])


def test_a_shared_model_is_refused():
    shared = linear_model()
    with pytest.raises(InvalidArgument, match="must build a new model at every call"):
        fit(linear_task(model=lambda: shared), [plan()])


@pytest.mark.parametrize("value", [None, "high", torch.zeros(2)])
def test_a_metric_that_is_not_one_number_is_refused_by_name(value):
    task = linear_task(metrics={"score": lambda output, target: value})
    with pytest.raises(InvalidArgument, match="metric 'score' must give one number, but got"):
        fit(task, [plan()])


def test_a_criterion_that_sums_is_said():
    notes = linear_task(criterion=nn.MSELoss(reduction="sum")).data().notes()
    assert any("sums over rows" in note for note in notes)


def explode(*_):
    raise ValueError("first line\nsecond line")


EXPLODING = {
    "model": ({"model": explode}, "building the model"),
    "optimizer": ({"optimizer": explode}, "building the optimizer"),
    "criterion": ({"criterion": explode}, "evaluating"),
    "metric": ({"metrics": {"error": explode}}, "evaluating"),
    "rows": ({"rows": explode}, "evaluating"),
}


@pytest.mark.parametrize("part", EXPLODING)
def test_what_the_users_code_raises_is_one_line_with_its_place(part):
    fields, doing = EXPLODING[part]
    pattern = rf"{doing}.*ValueError: first line second line \(test_task.py, line \d+\)"
    with pytest.raises(TaskFailed, match=pattern) as error:
        fit(linear_task(**fields), [plan()])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ({"model": lambda: "net", "optimizer": lambda m, lr: None}, "net|str"),
        ({"optimizer": lambda model, lr: nn.Linear(2, 2)}, "Linear"),
        ({"optimizer": lambda model, lr: None}, "None"),
    ],
)
def test_a_factory_that_returns_something_else_is_named_in_one_line(fields, got):
    with pytest.raises((InvalidArgument, TaskFailed), match=got) as error:
        fit(linear_task(**fields), [plan()])
    assert "\n" not in str(error.value)


def test_prototype_tells_device_size_optimizer_and_group_ratios():
    def grouped(model, lr):
        groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": lr / 10}]
        return torch.optim.Adam(groups, lr)

    with no_global_draw():
        prototype = linear_task(optimizer=grouped).prototype
    assert prototype.device == CPU
    assert prototype.parameters == FEATURES + 1
    assert prototype.optimizer == "Adam"
    assert prototype.groups.ratios == (1.0, 0.1)


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"batch_size": 8}, 8),
        ({"batch_size": 8, "accumulate": 3}, 24),
        ({"train": DataLoader(regression_rows(), 6)}, 6),
        (
            {
                "train": DataLoader(
                    regression_rows(),
                    batch_sampler=BatchSampler(RandomSampler(range(60)), 7, drop_last=False),
                ),
                "accumulate": 2,
            },
            14,
        ),
        ({"train": DataLoader(list(regression_rows()), batch_size=None)}, None),
    ],
)
def test_update_rows_are_the_rows_of_a_full_update(fields, rows):
    assert linear_task(**fields).update_rows == rows


def test_data_are_opened_once_per_device():
    task = linear_task()
    assert task.data() is task.data(CPU)
    assert task.data().valid is task.data().valid


@pytest.mark.parametrize(
    ("fields", "updates"),
    [
        ({}, 4),
        ({"accumulate": 3}, 2),
        ({"accumulate": 4}, 1),
        ({"steps_per_epoch": 7}, 7),
        ({"steps_per_epoch": 7, "accumulate": 3}, 7),
    ],
)
def test_updates_per_epoch_count_an_incomplete_accumulation_group(fields, updates):
    assert linear_task(**fields).data().updates_per_epoch == updates


def test_opening_and_looking_at_a_task_draws_nothing():
    with no_global_draw():
        task = noisy_task(train=DataLoader(regression_rows(), 16, shuffle=True))
        assert len(task.data().fixed_subset) == 1
        task.data().notes()


def test_the_probe_is_of_the_validation_rows_where_there_are_any():
    task = linear_task()
    valid = {tuple(row.tolist()) for row in regression_rows(41, seed=1).tensors[0]}
    train = {tuple(row.tolist()) for row in regression_rows().tensors[0]}
    assert {tuple(row.tolist()) for row in task.data().fixed_subset[0][0]} == valid
    without = linear_task(valid=None)
    assert {tuple(row.tolist()) for row in without.data().fixed_subset[0][0]} == train


def test_a_task_without_validation_data_cannot_be_trained_for_comparison():
    with pytest.raises(InvalidArgument, match=r"but got none; give Task\(valid=\.\.\.\)"):
        fit(linear_task(valid=None), [plan()])


def test_fields_are_given_by_name():
    with pytest.raises(TypeError):
        Task(linear_model, regression_rows(), plain_sgd)


TAKEN = "loss valid_loss train_loss lr seed step epoch update updates value diverged candidate"
TAKEN += " schedule run peak_lr act name trial"


@pytest.mark.parametrize("name", TAKEN.split())
def test_a_metric_has_no_name_that_the_records_use(name):
    with pytest.raises(InvalidArgument, match=f"metrics: the name '{name}' is taken"):
        linear_task(metrics={name: absolute_error})


def test_a_family_of_the_tasks_own_is_taken_under_its_own_name():
    mine = replace(FAMILIES["step"], name="mine")
    assert linear_task(schedules={"mine": mine}).schedules["mine"] is mine


class Weighted(nn.Module):
    """A squared error with a buffer, which counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((1,), 2.0, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, output, target):
        self.calls += 1
        return (self.weight * (output - target) ** 2).mean()


class WeightedLoss(Weighted):
    def forward(self, model, batch):
        return super().forward(model(batch[0]), batch[1])


OWN_TENSORS = {
    "criterion": lambda module: {"criterion": module},
    "loss": lambda module: {"criterion": None, "loss": module},
    "metric": lambda module: {"metrics": {"weighted": module}},
}


@pytest.mark.parametrize("role", OWN_TENSORS)
def test_a_module_that_measures_is_copied_to_the_device_and_the_callers_stays(role):
    module = WeightedLoss() if role == "loss" else Weighted()
    task = linear_task(**OWN_TENSORS[role](module))
    meta = torch.device("meta")
    batch = tuple(tensor.to(meta) for tensor in regression_rows().tensors)
    functions = task.measures_on(meta)
    measured = functions.measure(linear_model().to(meta), batch)
    assert {value.device.type for value in measured.values()} == {"meta"}
    assert functions.loss(linear_model().to(meta), batch).device.type == "meta"
    fit(task, [plan()])
    assert module.weight.device == module.calls.device == CPU
    assert module.calls == 0


def test_a_criterion_with_tensors_measures_as_it_does_outside():
    weighed = fit(linear_task(criterion=Weighted()), [plan()], updates=1).measures["loss"]
    plainly = fit(linear_task(), [plan()], updates=1).measures["loss"]
    assert weighed[0, 0] == pytest.approx(2 * plainly[0, 0])


class Normed(nn.Module):
    """A squared error over its own running mean, which moves in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones((), dtype=torch.float64))

    def forward(self, output, target):
        error = ((output - target) ** 2).mean()
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * error.detach()
        return error / self.mean


class NormedLoss(Normed):
    def forward(self, model, batch):
        return super().forward(model(batch[0]), batch[1])


KEEPING = {
    "criterion": lambda: {"criterion": Normed()},
    "loss": lambda: {"criterion": None, "loss": NormedLoss()},
}


@pytest.mark.parametrize("role", KEEPING)
def test_what_a_criterion_keeps_stays_in_its_run(role):
    plans = [plan(0.02, 0), plan(0.05, 0), plan(0.02, 0, "exponential", gamma=0.5), plan(0.02, 1)]
    task = linear_task(**KEEPING[role]())
    for together in (fit(task, plans), fit(task, plans)):
        for row, one in enumerate(plans):
            alone = fit(linear_task(**KEEPING[role]()), [one])
            assert np.array_equal(together.train_loss[row], alone.train_loss[0])
            assert np.array_equal(together.measures["loss"][row], alone.measures["loss"][0])


class Halved(nn.Module):
    """A squared error, half of it in eval mode."""

    def forward(self, output, target):
        error = ((output - target) ** 2).mean()
        return error if self.training else error / 2


@pytest.mark.parametrize("trainer", [SequentialTrainer(), BatchedTrainer()], ids=["one", "many"])
def test_modules_that_measure_are_in_eval_mode_while_evaluating_and_as_given_in_training(trainer):
    plans = [plan(0.02, 0), plan(0.02, 1)]
    plain = fit(linear_task(metrics={"error": nn.MSELoss()}), plans, trainer=trainer)
    for module, in_training in ((Halved(), 1.0), (Halved().eval(), 0.5)):
        task = linear_task(criterion=module, metrics={"error": Halved()})
        history = fit(task, plans, trainer=trainer)
        first = history.train_loss[:, 0]
        np.testing.assert_allclose(first, in_training * plain.train_loss[:, 0], rtol=1e-12)
        for values in history.measures.values():
            np.testing.assert_allclose(values[:, 0], plain.measures["error"][:, 0] / 2, rtol=1e-12)


class Counting(nn.Module):
    """An absolute error that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, output, target):
        self.calls += 1
        return absolute_error(output, target)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"criterion": Normed()}, "the loss changes its attribute mean"),
        ({"criterion": Weighted()}, "the loss changes its attribute calls"),
        ({"metrics": {"error": Counting()}}, "the metric error changes its attribute calls"),
    ],
)
def test_what_measures_and_keeps_something_is_not_batched(fields, reason):
    assert BatchedTrainer().why_not(linear_task(**fields)) == reason
