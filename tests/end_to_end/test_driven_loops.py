"""Loops from end to end: examples, the file that `init` writes, runs, resumed runs, the script."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_loops import LOOPS, LR, gan, regression, small_loop
from small_tasks import plan
from typer.testing import CliRunner

import lrfinder
from lrfinder import cli
from lrfinder.errors import Interrupted, InvalidArgument
from lrfinder.range_tests.curve import ON_TRAINING
from lrfinder.tasks.state.random_states import kept
from lrfinder.training.fit import fit

ROOT = Path(lrfinder.__file__).parents[1]
EXAMPLES = ROOT / "studies" / "examples"
SMALL = {"families": ["step"], "trials": 2, "trial_seeds": 1, "confirm_seeds": 2, "steps": 20}
QUICK = {**SMALL, "probes": 3, "progress": False}


def unmeasured(training) -> None:
    training.measure = lambda function: None
    LOOPS["own generator"](training)


def epochs_of(script: Path, capsys) -> list[str]:
    """The lines that a script prints for its epochs."""
    capsys.readouterr()
    with kept():
        runpy.run_path(str(script))
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]


@pytest.mark.parametrize("name", ["gan_loop", "lbfgs_loop", "character_model_loop"])
def test_an_example_is_loaded_and_learns(name):
    loop = lrfinder.load_task(str(EXAMPLES / f"{name}.py"))
    with_lr = {"gan_loop": 0.005, "lbfgs_loop": 0.05, "character_model_loop": 0.003}[name]
    history = fit(loop, [plan(with_lr)], updates=40, evaluate_every=40)
    start, end = history.measures["loss"][0]
    assert end < 0.9 * start


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gan_loop", "lbfgs_loop"])
def test_little_is_lost_at_the_lr_that_is_suggested_for_an_example(name):
    loop = lrfinder.load_task(str(EXAMPLES / f"{name}.py"))
    suggestion = lrfinder.range_test(loop).suggest()
    assert suggestion.lr is not None
    lrs = [suggestion.lr * factor for factor in (0.1, 0.3, 1.0, 3.0, 10.0)]
    seeds = (1000, 1001, 1002)
    ends = fit(loop, [plan(lr, seed) for lr in lrs for seed in seeds]).measures["loss"]
    starts, finals = (ends[:, when].reshape(len(lrs), len(seeds)).mean(1) for when in (0, -1))
    finals = np.where(np.isfinite(finals), finals, np.inf)
    assert finals[2] - finals.min() <= 0.1 * (starts[2] - finals.min())


def test_a_run_of_a_loop_ends_and_its_script_trains_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli.app, ["init", "--kind", "loop"]).exit_code == 0
    file = Path("my_loop.py")
    file.write_text(file.read_text().replace("epochs=15", "epochs=4"))
    run = lrfinder.run("my_loop.py", out="run", per="batch", **QUICK)
    answers = run.answers
    assert answers.status == "complete"
    assert answers.engine.trainer == "driven"
    assert answers.range_test.unchecked.startswith("a loop keeps its batches to itself")
    assert sum("one by one: a loop cannot be copied" in note for note in answers.notes) == 1
    shown = epochs_of(run.path / "best_schedule.py", capsys)
    winner = run.answers.winner
    schedule = lrfinder.Schedule(
        lrfinder.FAMILIES[winner.family if winner.family != "baseline" else "constant"],
        winner.params,
        "batch",
    )
    trained = fit(lrfinder.load_task("my_loop.py"), [lrfinder.Plan(winner.lr, schedule, 0)])
    values = [float(re.search(r"valid_loss (\S+)", line)[1]) for line in shown]
    assert values == pytest.approx(trained.measures["loss"][0, 1:].tolist(), abs=6e-5)


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_the_script_of_a_loop_that_was_an_object_has_a_place_for_it(per, tmp_path, capsys):
    families = ["plateau"] if per == "epoch" else ["cosine"]
    loop = small_loop(gan, epochs=6)
    run = lrfinder.run(loop, out=tmp_path / "run", **{**QUICK, "families": families}, per=per)
    assert "the groups of your Adam and SGD are at" in run.code("torch")
    with pytest.raises(InvalidArgument, match="lightning"):
        run.code("lightning")
    text = (run.path / "best_schedule.py").read_text()
    place = "train = ...  # train(training)"
    assert text.count(place) == 1
    filled = text.replace(place, "from small_loops import gan as train").replace(
        f"LR = {run.answers.winner.lr!r}", f"LR = {LR}"
    )
    script = tmp_path / "filled.py"
    script.write_text(filled)
    assert len(epochs_of(script, capsys)) == 6


def test_a_loop_that_measures_nothing_is_tested_by_its_training_loss():
    measured = lrfinder.range_test(small_loop(LOOPS["own generator"]), steps=60)
    curve = lrfinder.range_test(small_loop(unmeasured), steps=60)
    assert curve.of_training
    assert not measured.of_training
    assert curve.start[0] == pytest.approx(measured.start[0], rel=0.5)
    found = curve.suggest()
    assert found.lr is not None, found.reason
    assert ON_TRAINING in found.reason
    assert ON_TRAINING not in measured.suggest().reason
    narrow = replace(curve, of_training=False).suggest()
    assert (found.lr, found.low, found.high) == (narrow.lr, narrow.low / 2, narrow.high * 2)


def test_a_loop_that_measures_nothing_is_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import lrfinder\nfrom test_driven_loops import unmeasured\n"
        "loop = lrfinder.Loop(unmeasured, epochs=3)\n"
    )
    words = ["find", "mine.py", "--steps", "60", "--out", "kept"]
    found = CliRunner().invoke(cli.app, words)
    assert found.exit_code == 0, found.stderr
    assert "read off the training loss" in found.stdout
    assert "note: the loop registers nothing to be measured by" in found.stderr
    kept = lrfinder.open_run("kept")
    assert kept.curve.of_training
    assert kept.curve.suggest().low == pytest.approx(kept.suggestion.low)
    with pytest.raises(InvalidArgument, match=r"measures nothing; call training.measure"):
        lrfinder.run("mine.py", progress=False)
    assert not Path("runs").exists()


def test_a_run_of_a_loop_that_was_interrupted_goes_on(tmp_path):
    left = {"calls": 25}

    def train(training) -> None:
        left["calls"] -= 1
        if left["calls"] == 0:
            raise KeyboardInterrupt
        regression(training)

    loop = small_loop(train)
    with pytest.raises(Interrupted, match="go on with"):
        lrfinder.run(loop, out=tmp_path / "run", **{**QUICK, "confirm_seeds": 8})
    resumed = lrfinder.run(small_loop(train), resume=tmp_path / "run", progress=False)
    assert resumed.answers.status == "complete"
    other = small_loop(unmeasured)
    with pytest.raises(InvalidArgument):
        lrfinder.run(other, resume=tmp_path / "run", progress=False)


@pytest.mark.slow
def test_worker_processes_train_loops_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli.app, ["init", "--kind", "loop"]).exit_code == 0
    file = Path("my_loop.py")
    file.write_text(file.read_text().replace("epochs=15", "epochs=4"))
    torch.set_num_threads(1)
    alone = lrfinder.run("my_loop.py", out="alone", **QUICK)
    side_by_side = lrfinder.run("my_loop.py", out="workers", workers=2, **QUICK)
    sent = lrfinder.run(lrfinder.load_task("my_loop.py"), out="sent", workers=2, **QUICK)
    for other in (side_by_side, sent):
        assert other.comparison.frame().equals(alone.comparison.frame())


def test_batched_is_refused():
    with pytest.raises(InvalidArgument, match="batched cannot: a loop trains as it is written"):
        lrfinder.run(small_loop(), engine="batched", progress=False)
