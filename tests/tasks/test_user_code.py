"""Whatever the user's code raises is its failure, in one line; an interrupt alone is not."""

import pytest
import torch
from small_tasks import linear_model, linear_task, plan, regression_rows
from torch import nn
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner

import lrfinder
from lrfinder.cli import app
from lrfinder.errors import TaskFailed, TaskLoadError
from lrfinder.tasks.loading import load_task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer


class Stop(BaseException):
    """One of the user's own."""


class Abort(KeyboardInterrupt):
    """An interrupt of the user's own."""


LEAVING = [SystemExit, GeneratorExit, Stop]


class Rows(Dataset):
    def __init__(self, error: type[BaseException]) -> None:
        self.rows, self.error = regression_rows(), error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        if index == 50:
            raise self.error(0)
        return self.rows[index]


class Net(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.layer, self.error = linear_model(), error

    def forward(self, x):
        if len(x) == 12:  # the ragged last batch
            raise self.error(0)
        return self.layer(x)


def in_forward(error):
    return linear_task(model=lambda: Net(error), valid=regression_rows(16))


def in_the_loss(error):
    def loss(output, target):
        if len(target) == 12:
            raise error(0)
        return nn.functional.mse_loss(output, target)

    return linear_task(criterion=loss, valid=regression_rows(16))


def in_the_rows(error):
    return linear_task(train=Rows(error))


def in_the_validation_rows(error):
    return linear_task(valid=DataLoader(Rows(error), 8))


def in_a_metric(error):
    def metric(output, target):
        raise error(0)

    return linear_task(metrics={"own": metric})


def in_the_model_factory(error):
    def model():
        raise error(0)

    return linear_task(model=model)


def in_the_optimizer(error):
    class Own(torch.optim.SGD):
        def step(self, closure=None):
            raise error(0)

    return linear_task(optimizer=lambda model, lr: Own(model.parameters(), lr))


PLACES = [
    in_forward,
    in_the_loss,
    in_the_rows,
    in_the_validation_rows,
    in_a_metric,
    in_the_model_factory,
    in_the_optimizer,
]


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", LEAVING)
def test_an_exit_in_training_is_a_failure_of_the_task(error, place, trainer):
    with pytest.raises((TaskFailed, lrfinder.InvalidArgument), match=error.__name__) as told:
        fit(place(error), [plan()], trainer=trainer())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_stays_one(place, trainer):
    with pytest.raises(Abort):
        fit(place(Abort), [plan()], trainer=trainer())


TASK = """
import sys, torch, lrfinder
from torch import nn
from torch.utils.data import TensorDataset
{at_import}
def make_task():
    {in_factory}
    x = torch.ones(64, 4)
    rows = TensorDataset(x, x[:, :1])
    def loss(output, target):
        {in_loss}
        return nn.functional.mse_loss(output, target)
    return lrfinder.Task(
        model=lambda: nn.Linear(4, 1), train=rows, valid=rows, criterion=loss, epochs=2,
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
    )
"""
FINE = {"at_import": "pass", "in_factory": "pass", "in_loss": "pass"}


@pytest.mark.parametrize("place", ["at_import", "in_factory"])
@pytest.mark.parametrize("error", ["SystemExit(0)", "GeneratorExit", "BaseException('own')"])
def test_an_exit_while_a_task_is_loaded_is_told(tmp_path, place, error):
    path = tmp_path / "leaves.py"
    path.write_text(TASK.format(**{**FINE, place: f"raise {error}"}))
    with pytest.raises(TaskLoadError, match=error.partition("(")[0]) as told:
        load_task(str(path))
    assert "\n" not in str(told.value)
    path.write_text(TASK.format(**{**FINE, place: "raise KeyboardInterrupt"}))
    with pytest.raises(KeyboardInterrupt):
        load_task(str(path))


@pytest.mark.parametrize("words", [["find"], ["run", "--out", "r"], ["sweep", "--lr", "1"]])
@pytest.mark.parametrize("leave", ["sys.exit(0)", "sys.exit()", "sys.exit('words')", "exit()"])
def test_the_command_never_ends_well_where_the_task_exits(tmp_path, monkeypatch, words, leave):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaves.py").write_text(TASK.format(**{**FINE, "in_loss": leave}))
    result = CliRunner().invoke(app, [words[0], "leaves.py", *words[1:], "-q"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the task raised SystemExit" in result.stderr
    assert len(result.stderr.splitlines()) == 1
