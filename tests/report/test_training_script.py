"""best_schedule.py is a plain loop that runs, is well written, and trains what the run trained."""

import io
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from kinds_of_batches import KINDS

from lrfinder.comparison.candidates import Candidate
from lrfinder.report.scripts.training_script import training_loop
from lrfinder.results.answers import best_facts
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.schedules.groups import Asked, family_of_groups
from lrfinder.tasks.data.devices import tensors_in, to_device
from lrfinder.tasks.loading import load_named, load_task
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lrfinder import Task

x = torch.randn(65, 4, generator=torch.Generator().manual_seed(0))
y = x.sum(1, keepdim=True)
rows = TensorDataset(x, y)
common = dict(
    model=lambda: nn.Linear(4, 1),
    optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.5),
    epochs=3, batch_size=16,
)
plain = dict(**common, train=rows, valid=rows, criterion=nn.MSELoss())

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 48
    def __getitem__(self, i):
        return {"x": x[i], "y": y[i]}

def dict_loss(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()

def slopes(model, batch):
    inputs = batch[0].clone().requires_grad_()
    out = model(inputs)
    (slope,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
    return ((out - batch[1]) ** 2).mean() + ((slope - 1) ** 2).mean()

def get_batch():
    chosen = torch.randint(65, (16,))
    return x[chosen], y[chosen]

def get_batch_or_none():
    return get_batch() if torch.rand(()) < 0.5 else None

def two_groups(model, lr):
    groups = [{"params": [p], "name": n} for n, p in model.named_parameters()]
    return torch.optim.SGD(groups, lr, momentum=0.5)

def mean_error(*arguments):
    return (arguments[0] - arguments[1]).abs().mean()
"""
TASKS = {
    "pairs": "Task(**plain)",
    "metrics": 'Task(**plain, metrics={"error": mean_error, "twice": mean_error})',
    "valid_loss": (
        'Task(**{**plain, "criterion": nn.HuberLoss(delta=9.0)}, '
        'valid_loss=nn.MSELoss(), metrics={"error": mean_error})'
    ),
    "valid_loss_of_dicts": (
        "Task(**common, train=Rows(), valid=Rows(), loss=lambda *a: 5 * dict_loss(*a), "
        "valid_loss=dict_loss)"
    ),
    "forward": (
        "Task(**common, train=Rows(), valid=Rows(), forward=lambda model, b: model(b['x']), "
        "loss=lambda output, b: ((output - b['y']) ** 2).mean(), "
        "metrics={'error': lambda output, b: (output - b['y']).abs().mean()})"
    ),
    "whole": "Task(**plain, evaluate=lambda model: {'norm': model.weight.norm(), 'f1': 0.5})",
    "whole_and_metrics": (
        "Task(**plain, metrics={'error': mean_error}, evaluate=lambda model: {'f1': 0.5})"
    ),
    "drawn": (
        "Task(**common, criterion=nn.MSELoss(), batches=get_batch, valid_batches=get_batch, "
        "updates=12)"
    ),
    "drawn_and_accumulated": (
        "Task(**common, criterion=nn.MSELoss(), batches=get_batch, valid=rows, updates=12, "
        "accumulate=2)"
    ),
    "drawn_or_not": (
        "Task(**common, criterion=nn.MSELoss(), batches=get_batch_or_none, valid=rows, updates=12)"
    ),
    "accumulating": "Task(**plain, accumulate=2, clip_norm=1.0)",
    "short_epochs": "Task(**plain, steps_per_epoch=2)",
    "long_epochs": "Task(**plain, steps_per_epoch=7)",
    "bfloat16": "Task(**plain, autocast=torch.bfloat16)",
    "float16": "Task(**plain, autocast=torch.float16, clip_norm=1.0)",
    "float16_accumulated": (
        "Task(**{**plain, 'criterion': lambda *a: nn.functional.mse_loss(*a) / 99}, "
        "autocast=torch.float16, accumulate=2)"
    ),
    "dicts": "Task(**common, train=Rows(), valid=Rows(), loss=dict_loss)",
    "loaders": (
        "Task(**common, train=DataLoader(rows, 16, shuffle=True), valid=DataLoader(rows, 16), "
        "criterion=nn.MSELoss())"
    ),
    "nested": (
        "Task(**{**common, 'model': lambda: Adder()}, criterion=nn.MSELoss(), "
        "train=Pairs(), valid=Pairs())"
    ),
    "gradients": ("Task(**common, train=rows, valid=rows, loss=slopes, metrics={'error': slopes})"),
    "by_group": "Task(**{**plain, 'optimizer': two_groups})",
    "modes": ("Task(**{**plain, 'optimizer': lambda model, lr: Modes(model.parameters(), lr)})"),
}
NESTED = """
class Adder(nn.Linear):
    def __init__(self):
        super().__init__(4, 1)
    def forward(self, parts):
        return super().forward(parts[0] + parts[1])

class Modes(torch.optim.SGD):
    def train(self):
        self.param_groups[0]["mode"] = "train"
    def eval(self):
        self.param_groups[0]["mode"] = "eval"
    def step(self, closure=None):
        assert self.param_groups[0]["mode"] == "train"
        super().step()

class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 48
    def __getitem__(self, i):
        return (x[i], x[i]), y[i]
"""
SCHEDULES = {
    "step": Schedule(FAMILIES["step"], {"step_size": 2, "gamma": 0.5}),
    "per_batch": Schedule(FAMILIES["exponential"], {"gamma": 0.95}, per="batch"),
    "plateau": Schedule(
        FAMILIES["plateau"], {"mode": "min", "factor": 0.5, "patience": 0}, warmup=1
    ),
}

GROUPS = [  # one in a line, one that needs the group's lr, and another ratio than the optimizer's
    Asked("weight", FAMILIES["exponential"], {"gamma": 0.9}, None, 1.0),
    Asked("bias", FAMILIES["cosine"], {"T_max": 3, "eta_min": 0.001}, 0.5, 1.0),
]
SCHEDULES["by_group"] = Schedule(
    family_of_groups(GROUPS),
    {"weight.gamma": 0.9, "bias.T_max": 3, "bias.eta_min": 0.001, "bias.lr_ratio": 0.5},
)


def run_script(
    folder: Path, task: str, schedule: Schedule, measure: str = "valid_loss"
) -> tuple[str, float]:
    """Write the script for a task, run it, and return its text and last validation loss."""
    text = f"{HEAD}{NESTED}\ndef make_task():\n    return {TASKS[task]}\n"
    (folder / f"{task}_task.py").write_text(text, encoding="utf-8")
    reference = str(folder / f"{task}_task.py")
    best = best_facts(Candidate("best", 0.05, schedule), measure)
    script = training_loop(*load_named(reference), best)
    (folder / "best_schedule.py").write_text(script, encoding="utf-8")
    printed = io.StringIO()
    with redirect_stdout(printed):
        runpy.run_path(str(folder / "best_schedule.py"), run_name="__main__")
    lines = printed.getvalue().splitlines()
    assert len(lines) == 3
    return script, float(lines[-1].split("valid_loss")[1].split()[0])


def assert_well_written(folder: Path):
    """The project's own linter and formatter find nothing to change."""
    for words in (["check", "--select", "E,W,F,I,B,SIM"], ["format", "--diff"]):
        command = ["ruff", words[0], "--isolated", "--line-length", "120", *words[1:]]
        done = subprocess.run(
            [sys.executable, "-m", *command, "best_schedule.py"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


CASES = [(task, "step") for task in TASKS] + [
    ("metrics", "per_batch"),
    ("pairs", "plateau"),
    ("by_group", "by_group"),
]


@pytest.mark.parametrize(("task", "schedule"), CASES)
def test_the_script_runs_and_learns_like_fit(tmp_path, task, schedule):
    _, loss = run_script(tmp_path, task, SCHEDULES[schedule])
    assert_well_written(tmp_path)
    problem = load_task(str(tmp_path / f"{task}_task.py"))
    plans = [Plan(0.05, SCHEDULES[schedule], seed) for seed in range(12)]
    finals = torch.tensor([o.final for o in fit(problem, plans).outcomes()])
    assert finals.min() / 3 < loss < finals.max() * 3


def test_an_optimizer_with_modes_is_switched_around_the_evaluation(tmp_path):
    script, _ = run_script(tmp_path, "modes", SCHEDULES["step"])
    assert "    model.eval()\n    optimizer.eval()\n" in script
    assert "    model.train()\n    optimizer.train()\n" in script


def test_plateau_follows_the_metric_that_was_optimised(tmp_path):
    plateau = Schedule(FAMILIES["plateau"], {"mode": "max", "factor": 0.5, "patience": 0})
    script, _ = run_script(tmp_path, "metrics", plateau, measure="twice")
    assert_well_written(tmp_path)
    assert "    twice = metrics[1]\n    scheduler.step(twice)\n" in script


def test_a_file_whose_name_is_no_identifier_is_imported(tmp_path):
    path = tmp_path / "01-my task.py"
    path.write_text(f"{HEAD}\ndef make_task():\n    return Task(**plain)\n", encoding="utf-8")
    schedule = SCHEDULES["step"]
    best = best_facts(Candidate("best", 0.05, schedule), "valid_loss")
    script = training_loop(*load_named(str(path)), best)
    (tmp_path / "best_schedule.py").write_text(script, encoding="utf-8")
    assert_well_written(tmp_path)
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(tmp_path / "best_schedule.py"), run_name="__main__")
    assert len(printed.getvalue().splitlines()) == 3


@pytest.mark.parametrize("name", ["task", "own"])
def test_the_script_of_a_module_level_task_imports_that_object(tmp_path, name):
    path = tmp_path / f"module_{name}.py"
    path.write_text(f"{HEAD}\n{name} = Task(**plain)\n", encoding="utf-8")
    text = str(path) if name == "task" else f"{path}:{name}"
    best = best_facts(Candidate("best", 0.05, SCHEDULES["step"]), "valid_loss")
    script = training_loop(*load_named(text), best)
    (tmp_path / "best_schedule.py").write_text(script, encoding="utf-8")
    assert_well_written(tmp_path)
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(tmp_path / "best_schedule.py"), run_name="__main__")
    assert len(printed.getvalue().splitlines()) == 3


def test_the_script_of_a_file_uses_lrfinder_only_through_the_file(tmp_path):
    script, _ = run_script(tmp_path, "pairs", SCHEDULES["step"])
    assert "lrfinder" not in script


def written_and_run(folder: Path, text: str) -> tuple[str, list[str]]:
    """The script for a task's file, and the lines that it prints."""
    path = folder / "own_task.py"
    path.write_text(text, encoding="utf-8")
    best = best_facts(Candidate("best", 0.05, SCHEDULES["step"]), "valid_loss")
    script = training_loop(*load_named(str(path)), best)
    (folder / "best_schedule.py").write_text(script, encoding="utf-8")
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(folder / "best_schedule.py"), run_name="__main__")
    return script, printed.getvalue().splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_takes_every_kind_of_batch_and_leaves_its_class(tmp_path, kind):
    """The loss of these tasks refuses a batch of another class."""
    text = f"from kinds_of_batches import task_of\n\ntask = task_of({kind!r})\n"
    script, lines = written_and_run(tmp_path, text)
    assert len(lines) == 3
    assert float(lines[-1].split("valid_loss")[1]) < 20
    assert_well_written(tmp_path)
    assert "lrfinder" not in script
    plain = ("list", "tuple with None", "dict of anything", "named tuple", "named tuple in a list")
    assert ("copy.copy" in script) == (kind not in plain)


@pytest.mark.parametrize("kind", ["list", "dict of anything", "named tuple", "graph", "output"])
def test_the_script_moves_a_batch_as_lrfinder_does(tmp_path, kind):
    written_and_run(tmp_path, f"from kinds_of_batches import task_of\n\ntask = task_of({kind!r})\n")
    names = runpy.run_path(str(tmp_path / "best_schedule.py"))
    batch, meta = next(iter(names["train_loader"])), torch.device("meta")
    theirs, ours = names["to_device"](batch, meta), to_device(batch, meta)
    assert type(theirs) is type(ours) is type(batch)
    assert [t.device for t in tensors_in(theirs)] == [t.device for t in tensors_in(ours)]


DROPPING = """
def collate(rows):
    batch = torch.utils.data.default_collate(rows)
    return None if float(batch[1][0]) > 0 else batch

dropping = dict(
    **common,
    train=DataLoader(rows, 5, shuffle=True, collate_fn=collate),
    valid=DataLoader(rows, 5, collate_fn=collate),
)
"""


@pytest.mark.parametrize(
    "task",
    [
        "criterion=nn.MSELoss()",
        "loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1])",
        "criterion=nn.MSELoss(), accumulate=2",
        "criterion=nn.MSELoss(), steps_per_epoch=20",
    ],
)
def test_the_script_skips_batches_that_are_none_and_makes_as_many_updates(tmp_path, task):
    text = f"{HEAD}{DROPPING}\ntask = Task(**dropping, {task})\n"
    script, lines = written_and_run(tmp_path, text)
    assert len(lines) == 3
    assert_well_written(tmp_path)
    problem = load_task(str(tmp_path / "own_task.py"))
    assert f", {problem.data().source.batches})" in script


def test_the_script_gives_the_rows_of_tensors_as_a_tuple_like_lrfinder(tmp_path):
    loss = """
def loss(model, batch):
    assert type(batch) is tuple
    return nn.functional.mse_loss(model(batch[0]), batch[1])

task = Task(**common, train=rows, valid=rows, loss=loss)
"""
    assert len(written_and_run(tmp_path, HEAD + loss)[1]) == 3
    assert_well_written(tmp_path)


TOLD = """
from torch.utils.data import BatchSampler, DistributedSampler

sampler = DistributedSampler(rows, num_replicas=1, rank=0)
train = {}
task = Task(
    **common, train=DataLoader(rows, **train), valid=DataLoader(rows, 16), criterion=nn.MSELoss()
)
"""


@pytest.mark.parametrize(
    ("train", "name"),
    [
        ("dict(batch_size=16, sampler=sampler)", "train_loader.sampler"),
        (
            "dict(batch_sampler=BatchSampler(sampler, 16, False))",
            "train_loader.batch_sampler.sampler",
        ),
    ],
)
def test_the_script_tells_the_epoch_to_what_wants_one(tmp_path, train, name):
    text = HEAD + TOLD.replace("train = {}", f"train = {train}")
    script, lines = written_and_run(tmp_path, text)
    assert f"    {name}.set_epoch(epoch)\n" in script
    assert script.count("set_epoch") == 1
    assert len(lines) == 3
    assert_well_written(tmp_path)


SEEDING = {
    "make_task": "def make_task():\n    torch.manual_seed(7)\n    return Task(**plain)\n",
    "module": "torch.manual_seed(7)\n\n\ndef make_task():\n    return Task(**plain)\n",
    "task": "torch.manual_seed(7)\ntask = Task(**plain)\n",
}


@pytest.mark.parametrize("place", SEEDING)
def test_the_seed_of_the_script_counts_wherever_the_task_seeds(tmp_path, place):
    path = tmp_path / f"seeding_{place}.py"
    path.write_text(f"{HEAD}\n{SEEDING[place]}", encoding="utf-8")
    best = best_facts(Candidate("best", 0.05, SCHEDULES["step"]), "valid_loss")
    script = training_loop(*load_named(str(path)), best)
    printed: list[str] = []
    for seed in (0, 1, 1):
        (tmp_path / "best_schedule.py").write_text(script.replace("SEED = 0", f"SEED = {seed}"))
        with redirect_stdout(io.StringIO()) as shown:
            runpy.run_path(str(tmp_path / "best_schedule.py"), run_name="__main__")
        printed.append(shown.getvalue())
    assert printed[0] != printed[1] == printed[2]


def test_the_script_trains_by_a_tensor_as_lr(tmp_path):
    text = HEAD.replace("model.parameters(), lr,", "model.parameters(), torch.tensor(lr),")
    assert text != HEAD
    path = tmp_path / "tensor_task.py"
    path.write_text(f"{text}\n\ndef make_task():\n    return Task(**plain)\n", encoding="utf-8")
    schedule = Schedule(FAMILIES["triangular"], {"step_size_up": 2})
    best = best_facts(Candidate("best", 0.05, schedule), "valid_loss")
    (tmp_path / "best_schedule.py").write_text(training_loop(*load_named(str(path)), best))
    with redirect_stdout(io.StringIO()) as shown:
        runpy.run_path(str(tmp_path / "best_schedule.py"), run_name="__main__")
    lrs = [line.split()[3] for line in shown.getvalue().splitlines()]
    assert lrs == ["0.0125", "0.0312", "0.05"]
