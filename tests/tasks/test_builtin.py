"""The built-in tasks: they load, learn, and reproduce what they are known for."""

import sys

import numpy as np
import pytest

from lrfinder.errors import TaskLoadError
from lrfinder.range_tests.range_test import range_test
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.tasks.builtin import BUILT_IN
from lrfinder.tasks.loading import load_named, load_task
from lrfinder.tasks.reference import TaskReference
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan

USUAL_LR = {
    "digits": 0.1,
    "digits_cnn": 0.01,
    "diabetes": 0.001,
    "linear": 0.1,
    "quadratic": 0.1,
    "classifier": 0.01,
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_task_learns_at_its_usual_lr(name):
    task = load_task(name)
    assert task.name == name
    plan = Plan(USUAL_LR[name], Schedule(FAMILIES["constant"]), 0)
    outcome = fit(task, [plan]).outcomes()[0]
    assert not outcome.diverged
    assert outcome.final < 0.8 * outcome.start


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("every", ["batch", "epoch"])
@pytest.mark.slow
def test_a_range_test_suggests_an_lr_within_a_decade_and_a_half_of_the_usual(name, every):
    suggestion = range_test(load_task(name), every=every, seeds=3).suggest()
    assert suggestion.verdict == "suggested"
    assert USUAL_LR[name] / 30 < suggestion.lr < USUAL_LR[name] * 30


def test_the_linear_program_steps_down_at_epochs_30_and_60():
    task = load_task("linear")
    history = fit(task, [Plan(0.1, task.baseline.schedule, 0)])
    lr = history.lr[0, :, 0]
    np.testing.assert_allclose(lr[:30], 0.1)
    np.testing.assert_allclose(lr[30:60], 0.01)
    np.testing.assert_allclose(lr[60:90], 0.001)
    assert len(lr) == 100


@pytest.mark.parametrize("name", [n for n in BUILT_IN if load_task(n).baseline is not None])
def test_a_baseline_beats_no_training(name):
    task = load_task(name)
    plan = Plan(task.baseline.lr, task.baseline.schedule, 0)
    outcome = fit(task, [plan]).outcomes()[0]
    assert outcome.final < 0.7 * outcome.start


@pytest.mark.parametrize(
    ("text", "module", "factory", "is_file"),
    [
        ("digits", "lrfinder.tasks.builtin.digits", "make_task", False),
        ("a/b.py", "b", "make_task", True),
        ("b.py:other", "b", "other", True),
        ("package.module:build", "package.module", "build", False),
    ],
)
def test_a_reference_is_read(text, module, factory, is_file):
    reference = TaskReference.parse(text)
    assert (reference.module, reference.factory) == (module, factory)
    assert (reference.file is not None) == is_file


def test_a_task_is_named_after_its_file(tmp_path):
    path = tmp_path / "spiral.py"
    path.write_text(
        "import dataclasses\nfrom lrfinder import load_task\n"
        "def make_task():\n    return dataclasses.replace(load_task('linear'), name='task')\n"
    )
    assert load_task(str(path)).name == "spiral"


def test_files_of_one_name_in_two_folders_are_two_tasks(tmp_path):
    for folder, epochs in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(
            "from dataclasses import replace\nfrom lrfinder import load_task\n"
            f"def make_task():\n    return replace(load_task('linear'), epochs={epochs})\n"
        )
    found = [load_task(str(tmp_path / folder / "same.py")).epochs for folder in ("a", "b")]
    assert found == [3, 4]


def test_a_file_that_does_not_parse_is_told(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def make_task(:\n")
    with pytest.raises(TaskLoadError, match="cannot be imported: SyntaxError"):
        load_task(str(path))


OWN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from lrfinder import Task

rows = TensorDataset(torch.randn(8, 2), torch.randn(8, 1))
{name} = Task(
    model=lambda: nn.Linear(2, 1), train=rows, valid=rows, criterion=nn.MSELoss(),
    optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr), epochs=3,
)
"""


@pytest.mark.parametrize(("name", "reference"), [("task", ""), ("task", ":task"), ("own", ":own")])
def test_a_task_at_the_level_of_a_module_is_taken_as_it_is(tmp_path, name, reference):
    path = tmp_path / f"level_{name}.py"
    path.write_text(OWN.format(name=name))
    task, found = load_named(f"{path}{reference}")
    assert (task.epochs, task.name) == (3, f"level_{name}")
    assert (found.factory, found.is_object) == (name, True)
    assert load_named(found.text)[0].epochs == 3


def test_a_file_with_neither_a_factory_nor_a_task_is_told_both_names(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    with pytest.raises(TaskLoadError, match=r"no factory make_task\(\) and no Task or Loop called"):
        load_task(str(path))
    with pytest.raises(TaskLoadError, match="no factory, Task or Loop called x2"):
        load_task(f"{path}:x2")


def test_a_factory_comes_before_a_task_of_the_module(tmp_path):
    path = tmp_path / "both.py"
    path.write_text(
        OWN.format(name="task")
        + "def make_task():\n    return Task(**{**vars(task), 'epochs': 9})\n"
    )
    assert load_task(str(path)).epochs == 9


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("its_task", "its_task.py"),
        ("./its_task", "./its_task.py"),
        ("folder/other", "folder/other.py"),
        ("third:make", "third.py:make"),
    ],
)
def test_a_name_without_py_is_told_its_file(tmp_path, monkeypatch, text, meant):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in sys.path if p])  # as of an installed command
    with pytest.raises(TaskLoadError) as alone:
        load_task(text)
    assert "did you mean" not in str(alone.value)
    (tmp_path / "folder").mkdir()
    source = "from lrfinder.tasks.builtin.quadratic import make_task\nmake = make_task\n"
    for name in ("its_task.py", "third.py", "folder/other.py"):
        (tmp_path / name).write_text(source)
    with pytest.raises(TaskLoadError, match=rf"did you mean .*{meant}\?"):
        load_task(text)
    assert load_task(meant).epochs
