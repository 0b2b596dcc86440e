"""Tasks of many dimensions at once: each is answered, or refused in one line.

`LRFINDER_FUZZ=500` tries so many of them, other ones each time; by default a few, always the same.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_task import DIMENSIONS, FAULTS, build
from asking import ask, check_found, check_run, limited, process_put_back, run_script
from fuzzing import fuzzed
from hypothesis import given, strategies

from lrfinder.errors import LRFinderError
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.records.history import History, Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ORDINARY = strategies.fixed_dictionaries(
    {name: strategies.sampled_from(values) for name, values in DIMENSIONS.items()}
    | {"fault": strategies.just("none")}
)
SHAPES = ORDINARY | strategies.builds(
    lambda shape, fault: {**shape, "fault": fault}, ORDINARY, strategies.sampled_from(FAULTS)
)
NOTHING_TO_LEARN = ("deletes its gradients", "loss is constant")
"""Faults with which no lr is better than another."""
FIND = ["--steps", "20", "--seeds", "2", "--probes", "3", "-q", "--json"]
RUN = ["--families", "step", "--trials", "2", "--trial-seeds", "1", "--confirm-seeds", "2"]
RUN += ["--find-seeds", "1", "--steps", "12", "--probes", "3", "-q", "--json"]
PLANS = [
    Plan(0.01, Schedule(FAMILIES["constant"]), seed) for seed in (0, 1)
] + [Plan(0.01, Schedule(FAMILIES["exponential"], {"gamma": 0.5}), 0)]  # fmt: skip
ROUNDING = {"float64": 1e-7, "default float64": 1e-7, "float32": 1e-3}


def written(shape: dict[str, Any]) -> str:
    """Name of a task file of the shape in the current folder."""
    text = f"import torch\nfrom any_task import build\n\nSHAPE = {shape!r}\n\n\n"
    Path("any_shape.py").write_text(f"{text}def make_task():\n    return build(SHAPE)\n")
    return "any_shape.py"


def check_find(shape: dict[str, Any]) -> str:
    """Ask for a range test; returns the refusal, or nothing."""
    answer = ask("find", written(shape), *FIND)
    if answer.status in (1, 2, 3):
        return answer.refusal
    check_found(answer)
    if shape["fault"] in NOTHING_TO_LEARN:
        assert answer.status == 4, answer.stdout
    return ""


def check_whole_run(shape: dict[str, Any], folder: Path) -> str:
    """Ask for a run, for it again, and for its script; returns the refusal, or nothing."""
    answer = ask("run", written(shape), *RUN, "--out", str(folder))
    if answer.status:
        return answer.refusal
    facts = check_run(folder, answer)
    if shape["fault"] == "none":
        assert len(run_script(folder)) == facts["epochs"]
    return ""


def losses(shape: dict[str, Any], trainer: Any) -> History | str:
    """Losses of a few short trainings, or why there are none."""
    try:
        with limited(), process_put_back():
            task = build(shape)
            subset = task.data().fixed_subset
            return fit(
                task, PLANS, updates=5, evaluate_every=2, evaluate_on=subset, trainer=trainer
            )
    except LRFinderError as error:
        return str(error)


def check_near(a: History, b: History, rounding: float) -> None:
    for one, other in ((a.train_loss, b.train_loss), (a.measures["loss"], b.measures["loss"])):
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding)


def plain(shape: dict[str, Any]) -> dict[str, Any]:
    """The same task in other words: pairs, rows first, the mean by a criterion, no metrics."""
    words = {"layout": "rows first", "batch": "pair", "loss": "criterion", "metrics": "none"}
    words["hooks"] = "none" if shape["hooks"] in ("ema", "forward", "before step") else None
    words["valid"] = "loader" if shape["valid"] in ("tensors", "dataset") else None
    return {**shape, **{name: word for name, word in words.items() if word is not None}}


def check_in_other_words(shape: dict[str, Any]) -> bool:
    """The losses of a task do not depend on how it is written; False where they cannot be had."""
    twin = plain(shape)
    if shape["loss"] == "sum" or shape["dtype"] not in ROUNDING or shape["autocast"]:
        return False
    if shape["hooks"] == "ema" and shape["entry"] == "objects":  # refused, with its reason
        return False
    one, other = losses(shape, SequentialTrainer()), losses(twin, SequentialTrainer())
    if isinstance(one, str) or isinstance(other, str):
        assert isinstance(one, str) == isinstance(other, str), (one, other)
        return False
    check_near(one, other, ROUNDING[shape["dtype"]])
    return True


def check_both_trainers(shape: dict[str, Any]) -> bool:
    """Both trainers give the same; False where the task is not batched."""
    with process_put_back():
        try:
            batched = BatchedTrainer().why_not(build(shape)) is None
        except LRFinderError:
            return False
    if not batched or shape["dtype"] not in ROUNDING or shape["autocast"]:
        return False
    one, other = losses(shape, SequentialTrainer()), losses(shape, BatchedTrainer())
    assert not isinstance(one, str), one
    assert not isinstance(other, str), other
    check_near(one, other, ROUNDING[shape["dtype"]])
    return True


@pytest.fixture(autouse=True)
def here(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("fuzz"))


@fuzzed(20)
@given(shape=SHAPES)
def test_any_task_is_searched_or_refused(shape):
    check_find(shape)


@fuzzed(4)
@given(shape=SHAPES)
def test_any_task_is_run_and_resumed_or_refused(shape, tmp_path_factory):
    check_whole_run(shape, tmp_path_factory.mktemp("run") / "r")


@fuzzed(20)
@given(shape=ORDINARY)
def test_the_losses_of_a_task_do_not_depend_on_how_it_is_written(shape):
    check_in_other_words(shape)


@fuzzed(20)
@given(shape=ORDINARY)
def test_both_trainers_agree_on_any_task(shape):
    check_both_trainers(shape)
