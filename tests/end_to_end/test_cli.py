"""The command as a person uses it: real runs of small tasks, wrong words, interrupts."""

import gc
import json
import os
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, closing, suppress
from dataclasses import asdict
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import get_note
from typer.testing import CliRunner

from lrfinder import open_run
from lrfinder.cli import app
from lrfinder.results.facts import jsonable
from lrfinder.tasks.state.random_states import kept

FEW = ["--families", "step,inverse_time", "--trials", "3", "--confirm-runs", "8"]
SMALL = [*FEW, "--steps", "40", "--probes", "3"]
FILES = {
    *("config.toml", "summary.json", "range_test.csv", "trials.csv", "curves.csv"),
    *("range_test.png", "comparison.png", "schedules.png", "parameters.png", "report.md"),
    *("comparison.csv", "best_schedule.py", "study.db", "artifacts"),
}
SERVER = os.environ.get("LRFINDER_STORAGE")
LRFINDER = [sys.executable, "-m", "lrfinder"]
TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import lrfinder

def make_task(**changes):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 4, generator=generator)
    y = x.sum(1, keepdim=True)
    fields = dict(
        model=lambda: nn.Linear(4, 1),
        train=TensorDataset(x[:64], y[:64]),
        valid=TensorDataset(x[64:], y[64:]),
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        batch_size=16,
        epochs=3,
    )
    return lrfinder.Task(**{**fields, **changes})

def fails():
    raise RuntimeError("no such data")

def something_else():
    return 3

def without_validation():
    return make_task(valid=None)

def starts_with_nan():
    x = torch.full((8, 4), float("nan"))
    return make_task(train=TensorDataset(x, x[:, :1]), valid=TensorDataset(x, x[:, :1]))

def raises_in_training():
    def criterion(output, target):
        raise ZeroDivisionError("my loss is broken")
    return make_task(criterion=criterion)

def has_a_loss_per_row():
    return make_task(criterion=nn.MSELoss(reduction="none"))

def builds_no_optimizer():
    return make_task(optimizer=lambda model, lr: None)

def builds_no_model():
    return make_task(model=lambda: None)

def learns_noise():
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(160, 4, generator=generator), torch.randn(160, 1, generator=generator)
    return make_task(
        train=TensorDataset(x[:80], y[:80]),
        valid=TensorDataset(x[80:], y[80:]),
        model=lambda: nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1)),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
    )

def without_a_batch():
    data = TensorDataset(torch.zeros(3, 4), torch.zeros(3, 1))
    return make_task(train=torch.utils.data.DataLoader(data, batch_size=8, drop_last=True))

def carries_no_signal():
    generator = torch.Generator().manual_seed(1)
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))
        def forward(self, x):
            return 0 * self.w * x[:, :1] + 1.0
    return make_task(model=Flat)

def slow():
    import time
    class Slow(nn.Linear):
        def forward(self, x):
            time.sleep(0.004)
            return super().forward(x)
    return make_task(model=lambda: Slow(4, 1))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with my_task.py in it, as working directory."""
    monkeypatch.chdir(tmp_path)
    Path("my_task.py").write_text(TASK, encoding="utf-8")
    return tmp_path


def made(folder: Path, *words: str):
    """What a run in the folder r of a folder with my_task.py in it printed."""
    (folder / "my_task.py").write_text(TASK, encoding="utf-8")
    with chdir(folder):
        result = call("run", *words, "--out", "r")
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a finished run, to copy and never to change, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, made(folder, "my_task.py", *SMALL)


@pytest.fixture(scope="module")
def repeated(finished, tmp_path_factory):
    """The same of the run that the config of the finished one makes, quietly and as JSON."""
    folder = tmp_path_factory.mktemp("repeated")
    return folder, made(folder, str(finished[0] / "r" / "config.toml"), "--json", "--quiet")


@pytest.fixture(scope="module")
def batched(tmp_path_factory):
    """The same of a run by the batched trainer."""
    folder = tmp_path_factory.mktemp("batched")
    return folder, made(folder, "my_task.py", *SMALL, "--engine", "batched")


def put_here(ended, here: Path) -> Path:
    """A copy of a run in the folder r, as if it had been made here."""
    shutil.copytree(ended[0] / "r", here / "r")
    config = here / "r" / "config.toml"
    config.write_text(config.read_text().replace(str(ended[0]), str(here)))
    return here / "r"


def call(*words: str):
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def complete_trials(folder: Path) -> dict[str, list[dict]]:
    """Parameters of the COMPLETE trials of every study in a run folder."""
    storage = f"sqlite:///{folder / 'study.db'}"
    return {
        name: [
            t.params
            for t in optuna.load_study(study_name=name, storage=storage).get_trials()
            if t.state == TrialState.COMPLETE
        ]
        for name in optuna.get_all_study_names(storage)
    }


def assert_complete(folder: Path, trials: int, families: set[str]):
    """As many COMPLETE trials as asked in all studies together, none of them twice."""
    found = complete_trials(folder)
    assert {name.rpartition("-")[2] for name in found} == families
    assert sum(map(len, found.values())) == trials * len(families)
    for params in found.values():
        assert len({json.dumps(p, sort_keys=True) for p in params}) == len(params) > 0


def test_run_answers_and_leaves_a_folder(finished):
    folder, result = finished
    assert "Best:" in result.stdout
    assert "scheduler = torch.optim.lr_scheduler." in result.stdout
    assert "range test: 100%" in result.stderr
    assert "comparison: 100%" in result.stderr
    assert "about" in result.stderr.splitlines()[0]  # the estimate comes first
    names = {path.name for path in (folder / "r").iterdir() if path.name != ".lock"}
    assert names == FILES
    assert_complete(folder / "r", 3, {"constant", "step", "inverse_time"})


def test_json_is_one_object_that_equals_the_summary(repeated):
    folder, result = repeated
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert facts == json.loads((folder / "r" / "summary.json").read_text())
    assert facts["schema"] == 3
    assert facts["task"] == "my_task"
    assert set(facts["families"]) == {"constant", "step", "inverse_time", "start"}
    for family in facts["families"].values():
        assert {"lr", "params", "valid_loss", "seeds", "trials", "diverged"} <= set(family)
        assert set(family["valid_loss"]) == {"mean", "low", "high"}
    assert {"family", "lr", "params", "code"} <= set(facts["best"])
    assert isinstance(facts["ties"], list)
    assert {"updates_asked", "updates_trained", "wall_seconds"} <= set(facts["cost"])
    assert facts["suggestion"]["verdict"] == "suggested"


def test_sweep_uses_the_lr_given(here):
    result = call("sweep", "my_task.py", *FEW, "--lr", "0.05", "--out", "r", "--json", "-q")
    facts = json.loads(result.stdout)
    assert facts["suggestion"] is None
    assert {family["lr"] for family in facts["families"].values()} == {0.05}
    assert facts["families"]["constant"]["trials"] == 1  # nothing left to search
    shared = [facts["families"][name]["trials"] for name in ("step", "inverse_time")]
    assert shared == [4, 4]  # what the constant lr gives back, too


def test_even_gives_every_family_as_many_trials(here):
    words = ["--lr-range", "0.01", "0.2", "--even", "--out", "r", "--json", "-q"]
    facts = json.loads(call("sweep", "my_task.py", *FEW, *words).stdout)
    assert {family["trials"] for family in facts["families"].values()} == {3}
    assert not any("cut the studies short" in note for note in facts["notes"])


def test_sweep_searches_the_range_given(here):
    words = ["--lr-range", "0.01", "0.02", "--out", "r", "--json", "-q"]
    facts = json.loads(call("sweep", "my_task.py", *FEW, *words).stdout)
    assert all(0.01 <= family["lr"] <= 0.02 for family in facts["families"].values())


def test_find_prints_lr_interval_and_other_rules(here):
    result = call("find", "my_task.py", "--seeds", "3", "--json", "-q", "--out", "f")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["low"] <= facts["lr"] <= facts["high"]
    assert set(facts["alternatives"]) == {"minimum/10", "steepest", "valley"}
    needed = {"verdict", "reason", "rule", "diverged_at", "updates", "wall_seconds"}
    assert needed <= set(facts)
    kept = {"config.toml", "summary.json", "range_test.csv", "range_test.png"}
    assert {p.name for p in Path("f").iterdir()} == kept


def test_the_folder_of_a_range_test_is_opened_and_repeated_but_not_resumed(here):
    said = call("find", "my_task.py", "--steps", "30", "--json", "-q", "--out", "f")
    facts = json.loads(said.stdout)
    run = open_run("f")
    assert jsonable(asdict(run.suggestion)) == {
        name: facts[name] for name in asdict(run.suggestion)
    }
    assert run.curve.suggest().lr == pytest.approx(facts["lr"], rel=1e-9)
    assert (len(run.curve.lr), len(run.trials), run.comparison) == (30, 0, None)
    assert "<table>" in run._repr_html_()
    again = json.loads(call("find", "f/config.toml", "--json", "-q").stdout)
    assert again["lr"] == facts["lr"]
    for words in (["run", "--resume", "f", "-q"], ["report", "f"], ["dashboard", "f"]):
        result = call(*words)
        assert result.exit_code == 2
        assert "f holds a range test without studies; lrfinder.open_run('f') reads" in result.stderr


def test_find_answers_for_a_schedule_and_keeps_that(here):
    words = ["--schedule", "cosine,eta_min=0.001", "--epochs", "40", "--warmup", "4"]
    result = call("find", "my_task.py", *words, "--out", "f")
    assert result.exit_code == 0, result.stderr
    asked = "warmup 4 + CosineAnnealingLR(T_max=36, eta_min=0.001) stepped every epoch"
    assert f"valid for SGD, batches of 16, {asked} over 160 updates\n" in result.stdout
    assert "\nother schedules: constant " in result.stdout
    kept = open_run("f")
    assert f"lr {kept.suggestion.lr:.3g} (90%" in result.stdout
    assert kept.suggestion.lr == pytest.approx(kept.curve.suggest(
        "cosine,eta_min=0.001", warmup=4).lr)  # fmt: skip
    again = json.loads(call("find", "f/config.toml", "--json", "-q").stdout)
    assert again["lr"] == pytest.approx(kept.suggestion.lr)
    assert set(again["by_schedule"]) >= {"constant", "step", "cosine"}
    said = call("run", "f/config.toml", "-q")
    assert (said.exit_code, said.stderr) == (
        2, "lrfinder: schedule is an option of `lrfinder find` alone; leave it out\n")  # fmt: skip


@pytest.mark.parametrize(
    ("option", "values", "over"),
    [("--batch-sizes", "8,32", "batch_size"), ("--epochs", "6,40", "epochs")],
)  # fmt: skip
def test_find_measures_each_batch_size_and_each_length(here, option, values, over):
    words = ["--steps", "30", option, values, "--schedule", "cosine", "-q"]
    result = call("find", "my_task.py", *words, "--out", "f")
    assert result.exit_code == 0, result.stderr
    assert "nothing is said: measure there" in result.stdout
    whole = json.loads(Path("f/series.json").read_text())
    for value, facts in zip(values.split(","), whole["suggestions"], strict=True):
        kept = open_run(f"f/{over}-{value}").suggestion
        assert (facts[over], facts["lr"]) == (int(value), pytest.approx(kept.lr))
        assert f"{kept.lr:.3g}" in result.stdout
        assert kept.schedule.startswith("CosineAnnealingLR(T_max=")
    one = call("find", f"f/{over}-{value}/config.toml", "--json", "-q")
    assert json.loads(one.stdout)["lr"] == pytest.approx(facts["lr"])


def test_find_per_epoch(here):
    result = call("find", "my_task.py", "--every", "epoch", "--steps", "12", "--json", "-q")
    assert json.loads(result.stdout)["every"] == "epoch"


def test_find_exits_4_when_it_cannot_tell(here):
    result = call("find", "my_task.py:carries_no_signal", "-q")
    assert result.exit_code == 4
    assert "inconclusive" in result.stdout


def test_run_goes_on_without_a_suggestion_and_says_so(here):
    result = call("run", "my_task.py:carries_no_signal", *SMALL, "--out", "r")
    assert result.exit_code == 0
    assert "inconclusive" in result.stdout
    assert "inconclusive" in Path("r/report.md").read_text()


def test_report_rebuilds_what_was_deleted(finished, here):
    put_here(finished, here)
    printed = finished[1].stdout
    text = Path("r/report.md").read_text()
    for name in ("report.md", *(file for file in FILES if file.endswith(".png"))):
        Path("r", name).unlink()
    again = call("report", "r")
    assert again.stdout == printed
    assert Path("r/report.md").read_text() == text
    assert Path("r/schedules.png").stat().st_size > 5000


def test_best_schedule_runs_and_gives_the_loss_of_the_report(finished, here):
    put_here(finished, here)
    done = subprocess.run(
        [sys.executable, "r/best_schedule.py"], capture_output=True, text=True, check=True
    )
    last = done.stdout.splitlines()[-1]
    loss = float(last.split("valid_loss")[1])
    best = json.loads(Path("r/summary.json").read_text())["best"]["family"]
    mean = json.loads(Path("r/summary.json").read_text())["families"][best]["valid_loss"]["mean"]
    assert loss < 10 * mean + 1e-3
    source = Path("r/best_schedule.py").read_text()
    assert [line for line in source.splitlines() if "lrfinder" in line] == []


def test_own_families_and_a_maximised_metric_are_searched(here):
    own = """
def with_own_schedule():
    from torch.optim.lr_scheduler import LambdaLR
    def rule(p):
        return lambda t: 1 / (1 + p["rate"] * t)
    family = lrfinder.Family(
        name="mine",
        build=lambda optimizer, p: LambdaLR(optimizer, rule(p)),
        space=lambda trial, budget: {"rate": trial.suggest_float("rate", 0.01, 10, log=True)},
    )
    gain = lambda output, target: -(output - target).abs().mean()
    return make_task(schedules={"mine": family}, metrics={"gain": gain})
"""
    Path("my_task.py").write_text(TASK + own, encoding="utf-8")
    words = ["--families", "mine,plateau", "--objective", "gain", "--trials", "2"]
    words += ["--confirm-runs", "8", "--out", "r", "--json", "-q"]
    facts = json.loads(call("run", "my_task.py:with_own_schedule", *words).stdout)
    assert facts["objective"]["direction"] == "maximize"
    assert set(facts["families"]) == {"constant", "mine", "plateau", "start"}
    assert facts["families"]["plateau"]["params"]["mode"] == "max"
    best = [family["metrics"]["gain"]["mean"] for family in facts["families"].values()]
    assert best[0] == max(best)
    with kept():
        runpy.run_path("r/best_schedule.py", run_name="__main__")


@pytest.mark.parametrize("name", ["range_test.csv", "curves.csv", "comparison.csv"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "cut"])
def test_a_damaged_folder_is_told_in_one_line(finished, tmp_path, name, damage):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0] / "r", folder)
    lines = (folder / name).read_text().splitlines(keepends=True)
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_text("garbage\n1\n" if damage == "garbage" else "".join(lines[:2]))
    result = call("report", str(folder))
    assert result.exit_code == 2
    assert "is missing or damaged" in result.stderr


def test_a_file_that_exits_is_a_task_that_cannot_be_loaded(here):
    Path("leaves.py").write_text("raise SystemExit(4)\n")
    result = call("run", "leaves.py", "-q")
    assert (result.exit_code, "SystemExit" in result.stderr) == (3, True)


@pytest.mark.slow
def test_a_relative_storage_is_found_again_from_anywhere(here, monkeypatch):
    words = [*SMALL, "--storage", "sqlite:///mine.db", "--out", "r", "-q"]
    assert call("run", "my_task.py", *words).exit_code == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert call("run", "--resume", "../r", "-q").exit_code == 0
    assert not Path("mine.db").exists()


def test_a_config_repeats_its_run(finished, repeated):
    first = json.loads((finished[0] / "r" / "summary.json").read_text())
    assert json.loads(repeated[1].stdout)["best"] == first["best"]


def test_an_interrupted_find_leaves_no_folder(here):
    words = ["my_task.py:slow", "--steps", "400", "--out", "f"]
    process = spawn("find", *words)
    for line in process.stderr:
        if "10%" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not Path("f").exists()


def test_a_baseline_is_compared(here):
    words = ["--baseline", "0.01,step,step_size=2,gamma=0.5"]
    result = call("run", "my_task.py", *SMALL, *words, "--out", "r", "--json", "-q")
    baseline = json.loads(result.stdout)["families"]["baseline"]
    assert (baseline["lr"], baseline["params"]) == (0.01, {"step_size": 2, "gamma": 0.5})


def test_a_study_file_is_taken_and_the_command_line_comes_first(here):
    Path("s.toml").write_text('task = "my_task.py"\nfamilies = ["step"]\ntrials = 2\n')
    words = ["--trials", "1", "--confirm-runs", "4", "--out", "r", "--json", "-q"]
    facts = json.loads(call("run", "s.toml", *words).stdout)
    assert facts["families"]["step"]["trials"] == 1


def test_the_task_of_a_study_file_lies_beside_it_and_not_in_the_current_folder(here):
    Path("studies").mkdir()
    Path("studies/s.toml").write_text('task = "beside.py:without_validation"\n')
    Path("studies/beside.py").write_text(TASK, encoding="utf-8")
    assert call("find", "studies/s.toml", "--steps", "20", "-q").exit_code in (0, 4)
    Path("studies/beside.py").rename("beside.py")
    lost = call("find", "studies/s.toml", "-q")
    assert (lost.exit_code, f"{here}/studies/beside.py" in lost.stderr) == (3, True)


@pytest.mark.slow
def test_a_run_of_a_study_file_is_resumed_from_anywhere(here, monkeypatch):
    Path("s.toml").write_text('task = "my_task.py"\n')
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert call("run", "../s.toml", *SMALL, "--out", "../r", "-q").exit_code == 0
    assert f'task = "{here}/my_task.py"' in Path("../r/config.toml").read_text()
    monkeypatch.chdir("/")
    again = call("run", str(here / "s.toml"), "--resume", str(here / "r"), "-q")
    assert again.exit_code == 0


@pytest.mark.slow
def test_timeout_stops_the_studies_and_says_so(here):
    words = ["--trials", "500", "--timeout", "3", "--confirm-runs", "8", "--out", "r"]
    result = call("run", "my_task.py", "--families", "step", *words)
    assert result.exit_code == 0
    assert "timeout cut the studies short" in result.stdout


def test_init_writes_a_task_that_runs(here):
    assert call("init", "mine.py").exit_code == 0
    result = call("find", "mine.py", "--steps", "20", "--seeds", "2", "-q")
    assert result.exit_code in (0, 4)
    second = call("init", "mine.py")
    assert second.exit_code == 2
    assert "exists already" in second.stderr


def test_tasks_lists_the_built_in_tasks():
    listed = call("tasks").stdout
    for name in ("digits", "digits_cnn", "diabetes", "linear", "quadratic", "classifier"):
        assert f"{name} " in listed


WRONG = [
    (["run", "nothing_like_it"], 3, "no task is called 'nothing_like_it'; give a"),
    (["run", "digit"], 3, "did you mean 'digits'?"),
    (["run", "missing.py"], 3, "no such file"),
    (["run", "my_task.py:absent"], 3, "has no factory, Task or Loop called absent"),
    (["run", "my_task.py:fails"], 3, "RuntimeError: no such data (my_task.py, line"),
    (["run", "my_task.py:something_else"], 3, "must return an lrfinder.Task"),
    (["run", "my_task.py:without_a_batch"], 3, "at least one batch"),
    (["run", "no.such.module:make_task"], 3, "cannot be imported"),
    (["run", "my_task.py", "--families", "cosin"], 2, "did you mean 'cosine'?"),
    (["run", "my_task.py", "--epochs", "0"], 2, "epochs must "),
    (["run", "my_task.py", "--epochs", "1", "--families", "step"], 2, "step needs at least 2"),
    (["run", "my_task.py", "--trials", "0"], 2, "trials must "),
    (["run", "my_task.py", "--min-lr", "1", "--max-lr", "0.1"], 2, "min_lr < max_lr must hold"),
    (["find", "my_task.py", "--min-lr", "1", "--max-lr", "1"], 2, "min_lr < max_lr must hold"),
    (["find", "my_task.py", "--steps", "3"], 2, "steps must "),
    (["find", "my_task.py", "--schedule", "cosin"], 2, "did you mean 'cosine'?"),
    (["find", "my_task.py", "--schedule", "baseline"], 2, "but the task has none"),
    (["find", "my_task.py", "--warmup", "3"], 2, "less than the 3 epochs, but got 3"),
    (["find", "my_task.py", "--epochs", "5,x"], 2, "epochs must be whole numbers such as"),
    (["find", "my_task.py", "--epochs", "5,5"], 2, "epochs must be distinct"),
    (["find", "my_task.py", "--epochs", "0"], 2, "epochs must be at least 1"),
    (["find", "my_task.py", "--batch-sizes", "8,99"], 2, "no more than the 64 rows"),
    (["find", "my_task.py", "--batch-sizes", "8,9", "--epochs", "5,6"], 2, "exclude each other"),
    (["find", "my_task.py", "--every", "minute"], 2, "every must "),
    (["run", "my_task.py", "--objective", "acuracy"], 2, "objective must be one of valid_loss"),
    (["run", "my_task.py", "--direction", "up"], 2, "direction must "),
    (["run", "my_task.py", "--warmup", "7"], 2, "warmup must be at least 0 and less than"),
    (["run", "my_task.py", "--baseline", "fast"], 2, "baseline must look like"),
    (["run", "my_task.py", "--storage", "nosuch://x"], 2, "storage 'nosuch://x' cannot be opened"),
    (["run", "my_task.py", "--storage", "x.db"], 2, "must be a URL, such as postgresql://"),
    (["find", "my_task.py", "--cost", "20"], 2, "must be a share of one training: 20%, or 2000%"),
    (["find", "my_task.py", "--schedule", "warp"], 2, "called 'warp'; the names are constant"),
    (["run", "my_task.py", "--device", "tpu"], 2, "device must "),
    (["run", "my_task.py:without_validation"], 2, "validation set"),
    (["sweep", "my_task.py"], 2, "sweep needs --lr X or --lr-range LOW HIGH"),
    (["sweep", "my_task.py", "--lr", "-1"], 2, "lr must "),
    (["sweep", "my_task.py", "--lr-range", "1", "0.1"], 2, "0 < low < high < inf must hold"),
    (["run", "typo.toml"], 2, "there is no option 'trails'; did you mean 'trials'?"),
    (["run", "absent.toml"], 2, "cannot be read"),
    (["run", "--resume", "nowhere"], 2, "is not a run folder"),
    (["report", "nowhere"], 2, "is not a run folder"),
    (["run", "my_task.py", "--out", "taken"], 2, "exists already"),
    (["run", "my_task.py", "--no-such-option"], 2, "no-such-option"),
    (["run", "my_task.py:starts_with_nan"], 1, "is nan with the initial weights too"),
    (["run", "my_task.py", "--max-lr", "inf"], 2, "max_lr must be finite"),
    (["sweep", "my_task.py", "--lr", "inf"], 2, "lr must be finite"),
    (["sweep", "my_task.py", "--lr-range", "1", "inf"], 2, "0 < low < high < inf must hold"),
    (["run", "my_task.py:builds_no_optimizer"], 2, "must return a torch Optimizer, but got None"),
    (["run", "my_task.py:builds_no_model"], 2, "must return a torch Module, but got NoneType"),
    (["run", "my_task.py:raises_in_training"], 1, "ZeroDivisionError: my loss is broken"),
]


@pytest.mark.parametrize(("words", "status", "says"), WRONG, ids=[" ".join(w) for w, _, _ in WRONG])
def test_a_mistake_gets_one_line_and_its_status(here, words, status, says):
    Path("typo.toml").write_text("trails = 3\n")
    Path("taken").mkdir()
    result = call(*words, "-q") if words[0] != "report" else call(*words)
    assert result.exit_code == status
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    if status in (2, 3):
        assert not Path("runs").exists()
        assert list(Path("taken").iterdir()) == []


def test_a_wrong_task_leaves_no_folder(here):
    result = call("run", "my_task.py:has_a_loss_per_row", *SMALL, "--out", "r", "-q")
    assert (result.exit_code, "must be one number" in result.stderr) == (2, True)
    assert not Path("r").exists()


def test_a_run_that_gained_nothing_says_so(finished, here):
    said = "Even the best ended no better than before training"
    words = ["--lr", "0.3", *FEW, "-q"]
    lost = call("sweep", "my_task.py:learns_noise", *words, "--out", "r")
    assert said in lost.stdout
    assert said in Path("r/report.md").read_text()
    assert said not in finished[1].stdout


def test_a_folder_that_cannot_be_written_is_told(here):
    if os.geteuid() == 0:  # root may write anywhere; a file in the way stands for it
        Path("closed").write_text("")
    else:
        Path("closed").mkdir(mode=0o500)
    result = call("run", "my_task.py", *SMALL, "--out", "closed/r", "-q")
    assert result.exit_code == 2
    assert "cannot be made" in result.stderr


def test_a_resumed_run_must_keep_its_options(finished, here):
    put_here(finished, here)
    before = Path("r/summary.json").read_text()
    result = call("run", "--resume", "r", "--trials", "9", "-q")
    assert result.exit_code == 2
    assert "trials must stay 3" in result.stderr
    assert Path("r/summary.json").read_text() == before


def test_a_wrong_option_or_a_lost_task_on_resume_gets_one_line(finished, here):
    put_here(finished, here)
    result = call("run", "--resume", "r", "--trials", "0", "-q")
    assert (result.exit_code, "trials must " in result.stderr) == (2, True)
    Path("my_task.py").rename("renamed.py")
    result = call("run", "--resume", "r", "-q")
    assert (result.exit_code, "no such file" in result.stderr) == (3, True)
    config = Path("r/config.toml").read_text()
    Path("r/config.toml").write_text(config.replace("trials =", "trails ="))
    assert call("run", "--resume", "r", "-q").exit_code == 2


@pytest.mark.slow
def test_a_changed_task_file_is_told_on_resume(finished, here):
    put_here(finished, here)
    Path("my_task.py").write_text(TASK + "\n# changed\n", encoding="utf-8")
    result = call("run", "--resume", "r")
    assert result.exit_code == 0
    assert "has changed since this run was started" in result.stderr


def test_a_task_that_cannot_be_batched_is_refused_before_anything_is_written(batched, here):
    words = ["my_task.py", *SMALL, "--engine", "batched", "--out", "r"]
    unbatchable = TASK.replace(
        "nn.MSELoss()", "lambda o, y: ((o - y) ** 2).mean() + 0 * o[0].item()"
    )
    assert unbatchable != TASK
    Path("my_task.py").write_text(unbatchable, encoding="utf-8")
    result = call("run", *words)
    assert (result.exit_code, "; use --engine auto" in result.stderr) == (2, True)
    assert not Path("r").exists()
    put_here(batched, here)
    before = Path("r/summary.json").read_bytes()
    Path("my_task.py").write_text(unbatchable, encoding="utf-8")
    result = call("run", "--resume", "r")
    assert (result.exit_code, "; start a new run instead" in result.stderr) == (2, True)
    assert "--engine" not in result.stderr
    assert Path("r/summary.json").read_bytes() == before


def test_a_run_is_resumed_from_any_folder_and_a_task_named_again_is_the_same(
    finished, here, monkeypatch
):
    put_here(finished, here)
    assert call("run", "my_task.py", "--resume", "r", "-q").exit_code == 0
    assert call("run", "my_task.py:slow", "--resume", "r", "-q").exit_code == 2
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert call("run", "--resume", "../r", "-q").exit_code == 0


@pytest.mark.slow
def test_two_runs_share_a_storage_but_never_a_study(here):
    words = ["my_task.py", *SMALL, "--storage", f"sqlite:///{here / 'all.db'}", "-q"]
    assert call("run", *words, "--out", "a/r").exit_code == 0
    assert call("run", *words, "--out", "a/r2").exit_code == 0
    result = call("run", *words, "--out", "b/r")
    assert result.exit_code == 2
    assert "has a study 'r-constant' already" in result.stderr
    assert not Path("b").exists()


@pytest.mark.skipif(SERVER is None, reason="LRFINDER_STORAGE names no Optuna storage to test with")
@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")
def test_a_storage_on_a_server_holds_the_studies(here):
    name = f"test-{time.time_ns()}"
    words = ["run", "my_task.py", *SMALL, "--storage", SERVER, "-q", "--out"]
    assert call(*words, name).exit_code == 0
    assert call("report", name).exit_code == 0
    assert call("run", "--resume", name, "-q").exit_code == 0
    studies = [s for s in optuna.get_all_study_names(SERVER) if s.startswith(name)]
    assert set(studies) == {f"{name}-{family}" for family in ("constant", "step", "inverse_time")}
    assert all(get_note(optuna.load_study(study_name=s, storage=SERVER)) for s in studies)
    assert f"has a study '{name}-constant' already" in call(*words, f"b/{name}").stderr
    assert not Path("b").exists()
    gc.collect()  # connections are closed here, where that is no error


def test_find_takes_its_keys_from_a_study_file(here):
    Path("s.toml").write_text('task = "my_task.py"\nfind_seeds = 2\ntrials = 3\n')
    facts = json.loads(call("find", "s.toml", "--json", "-q").stdout)
    assert len(facts["seeds"]) == 2


def test_resuming_a_finished_run_trains_nothing_and_says_the_same(finished, here):
    first = json.loads((put_here(finished, here) / "summary.json").read_text())
    again = json.loads(call("run", "--resume", "r", "--json", "-q").stdout)
    for facts in (first, again):
        facts["cost"].pop("wall_seconds")
    assert again == first


def spawn(*words: str) -> subprocess.Popen:
    """Start the command as a foreground program, which SIGINT ends, wherever the tests run."""
    return subprocess.Popen(
        [*LRFINDER, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def count_complete(folder: Path) -> int:
    """COMPLETE trials in all, read without touching the run's storage."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True)) as db:
            return db.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0


def wait_for(folder: Path, trials: int, process: subprocess.Popen):
    """Wait until a run has so many COMPLETE trials in all."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        if count_complete(folder) >= trials:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get there")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_run_that_was_ended_is_resumed_to_the_asked_number(here, sent, status):
    words = ["my_task.py:slow", "--families", "step", "--trials", "6", "--confirm-runs", "8"]
    command = ["run", *words, "--find-seeds", "1", "--steps", "30", "--out", "r", "-q"]
    for trials in (2, 5):
        before = count_complete(Path("r"))
        process = spawn(*(command if trials == 2 else ["run", "--resume", "r", "-q"]))
        wait_for(Path("r"), max(trials, before + 1), process)
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == status, stderr
        assert "Traceback" not in stderr
    range_test = Path("r/range_test.csv").read_bytes()
    assert call("run", "--resume", "r", "-q").exit_code == 0
    assert_complete(Path("r"), 6, {"constant", "step"})
    assert Path("r/range_test.csv").read_bytes() == range_test  # not made again
    assert (Path("r") / "report.md").exists()


@pytest.mark.slow
def test_a_run_is_held_by_one_process_and_not_reported_when_interrupted(here):
    words = ["my_task.py:slow", "--trials", "50", "--out", "r", "-q"]
    process = spawn("run", *words)
    wait_for(Path("r"), 1, process)
    second = call("run", "--resume", "r", "-q")
    assert second.exit_code == 2
    assert "in use by another process" in second.stderr
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert "lrfinder run --resume r" in stderr
    result = call("report", "r")
    assert result.exit_code == 2
    assert "it is interrupted" in result.stderr


def alive_in_session(session: int) -> list[int]:
    """Processes of a session that are not yet gone."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_workers_find_what_one_process_finds(here):
    shared = [*FEW, "--lr", "0.05", "--json", "-q"]
    one = call("sweep", "my_task.py", *shared, "--out", "a")
    two = call("sweep", "my_task.py", *shared, "--out", "b", "--workers", "2")
    assert one.exit_code == two.exit_code == 0
    first, second = (json.loads(result.stdout) for result in (one, two))
    for facts in second["families"].values():  # the start has no study
        if "study" in facts:
            facts["study"] = facts["study"].replace("b-", "a-")
    assert first["families"] == second["families"]
    assert (first["engine"]["workers"], second["engine"]["workers"]) == (1, 2)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.slow
def test_an_interrupt_ends_the_workers_too_and_loses_nothing_that_was_told(here):
    words = ["my_task.py:slow", "--families", "step", "--trials", "40", "--workers", "2"]
    process = spawn("run", *words, "--find-seeds", "1", "--steps", "30", "--out", "r", "-q")
    wait_for(Path("r"), 2, process)
    assert len(alive_in_session(process.pid)) > 2
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C on a terminal
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    end = time.monotonic() + 10  # what watches over the workers' resources ends after its parent
    while alive_in_session(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert alive_in_session(process.pid) == []
    assert count_complete(Path("r")) >= 2


def test_what_trains_is_said_recorded_and_can_be_asked_for(batched):
    folder, result = batched
    assert "batched trainer, 1 thread: as asked" in result.stderr
    summary = json.loads((folder / "r" / "summary.json").read_text())
    assert summary["engine"]["trainer"] == "batched"
    assert "batched trainer" in (folder / "r" / "report.md").read_text()
