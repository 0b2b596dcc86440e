"""Rules of parameter groups, trained: every trainer makes the same of them, and asks the same."""

import runpy

import numpy as np
import pytest
import tomli_w
import torch
from small_loops import LR as BUILT
from small_loops import VALID, batches, mse, small_loop
from small_tasks import linear_task, noisy_model
from torch import nn

import lrfinder
from lrfinder import BatchedTrainer, Plan, SequentialTrainer, fit
from lrfinder.comparison.candidates import Candidate
from lrfinder.errors import InvalidArgument, StudyFileError
from lrfinder.experiment import prepared_task
from lrfinder.report.check import check
from lrfinder.report.scripts.loop_script import loop_script
from lrfinder.results.answers import best_facts
from lrfinder.schedules import Schedule
from lrfinder.schedules.spec import schedule_of_training
from lrfinder.settings import RunSettings, read_settings_file, settings_from
from lrfinder.tasks.loading import load_named
from lrfinder.training.trainers.driven import DrivenTrainer

EPOCHS, PER_EPOCH = 5, 4
RULES = {
    "weight": {"schedule": "exponential,gamma=0.5", "lr_ratio": 0.3},
    "bias": {"schedule": "cosine"},
}
ALIKE = {name: {"schedule": "step,step_size=2,gamma=0.3"} for name in ("weight", "bias")}


def by_group(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    groups = [{"params": [p], "name": name} for name, p in model.named_parameters()]
    groups[0]["lr"] = lr / 2
    return torch.optim.SGD(groups, lr, momentum=0.9)


def train(training) -> None:
    """The loop of `by_group`'s task, on batches of its own."""
    model = nn.Linear(4, 1).double()
    optimizer = by_group(model, BUILT)
    training.drive(optimizer)
    training.measure(lambda: float(mse(model(VALID[0]), VALID[1]).detach()))
    for _ in range(training.epochs):
        for x, y in batches():
            optimizer.zero_grad()
            loss = mse(model(x), y)
            loss.backward()
            optimizer.step()
            training.log(loss)


PROBLEMS = {
    "sequential": (lambda: linear_task(optimizer=by_group, epochs=EPOCHS), SequentialTrainer),
    "batched": (lambda: linear_task(optimizer=by_group, epochs=EPOCHS), BatchedTrainer),
    "loop": (lambda: small_loop(train, epochs=EPOCHS), DrivenTrainer),
}


def given(task, rules: dict, **options):
    """A task with the rules, and their schedule with usual values."""
    made = prepared_task(task, settings_from(RunSettings, {"groups": rules, **options}))
    length = {"epochs": EPOCHS, "updates_per_epoch": PER_EPOCH}
    return made, schedule_of_training("groups", **length, custom=made.schedules)


@pytest.mark.parametrize("name", PROBLEMS)
def test_groups_with_one_rule_train_bit_by_bit_as_without_groups(name):
    make, trainer = PROBLEMS[name]
    task, schedule = given(make(), ALIKE)
    plain = Schedule(lrfinder.FAMILIES["step"], {"step_size": 2, "gamma": 0.3})
    found = [
        fit(task, [Plan(0.02, one, seed) for seed in (1, 2)], trainer=trainer())
        for one in (plain, schedule)
    ]
    assert found[0].lr.tobytes() == found[1].lr.tobytes()
    assert found[0].train_loss.tobytes() == found[1].train_loss.tobytes()
    assert found[0].measures["loss"].tobytes() == found[1].measures["loss"].tobytes()


def test_groups_with_one_rule_share_the_run_of_the_plain_schedule():
    task, schedule = given(PROBLEMS["batched"][0](), ALIKE)
    plain = Schedule(lrfinder.FAMILIES["step"], {"step_size": 2, "gamma": 0.3})
    history = fit(task, [Plan(0.02, one, 1) for one in (plain, schedule)])
    assert history.updates_trained == EPOCHS * PER_EPOCH


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_group_is_trained_at_its_own_lrs(name):
    make, trainer = PROBLEMS[name]
    task, schedule = given(make(), RULES)
    history = fit(task, [Plan(0.02, schedule, 1)], trainer=trainer())
    lrs = history.lr[0, ::PER_EPOCH]
    np.testing.assert_allclose(lrs[:, 0], 0.02 * 0.3 * 0.5 ** np.arange(EPOCHS), rtol=1e-12)
    np.testing.assert_allclose(
        lrs[:, 1], 0.02 * (1 + np.cos(np.pi * np.arange(EPOCHS) / EPOCHS)) / 2, rtol=1e-12
    )


def test_both_trainers_agree_on_different_rules():
    task, schedule = given(PROBLEMS["batched"][0](), RULES)
    plans = [Plan(lr, schedule, seed) for lr in (0.02, 0.05) for seed in (1, 2)]
    one, all_at_once = (fit(task, plans, trainer=t()) for t in (SequentialTrainer, BatchedTrainer))
    np.testing.assert_allclose(one.train_loss, all_at_once.train_loss, rtol=1e-9)
    assert (one.lr == all_at_once.lr).all()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"weigth": {}, "bias": {}},
            "groups: the optimizer has no group 'weigth'; did you mean 'weight'? its groups are "
            "weight (4 numbers), bias (1 numbers)",
        ),
        (
            {"weight": {}},
            "groups: every parameter group must have a rule, but 'bias' has none; its groups are "
            "weight (4 numbers), bias (1 numbers)",
        ),
        (
            {"weight": {"lr_ratio": 0.0}, "bias": {}},
            "groups: weight: lr_ratio must be above 0, but got 0.0",
        ),
        (
            {"weight": {"lr_ratio": (0.5, 0.1)}, "bias": {}},
            "groups: weight: low < high must hold for a range of lr_ratio, but got [0.5, 0.1]",
        ),
        (
            {"weight": {"schedule": "cosin"}, "bias": {}},
            "groups: weight: no schedule is called 'cosin'; did you mean 'cosine'?",
        ),
    ],
)
def test_rules_that_do_not_fit_the_groups_are_refused_in_one_line(rules, said):
    with pytest.raises(InvalidArgument) as error:
        given(PROBLEMS["sequential"][0](), rules)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_groups_without_a_name_go_by_their_place_and_are_listed_by_size():
    def unnamed(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr)

    task = linear_task(optimizer=unnamed)
    with pytest.raises(InvalidArgument) as error:
        given(task, {"head": {}})
    assert str(error.value).endswith(
        'its groups (give them a "name", or go by their place) are 0 (4 numbers), 1 (1 numbers)'
    )
    made, schedule = given(task, {"0": {}, "1": {"schedule": "exponential"}})
    assert list(schedule.by_group) == ["0", "1"]
    assert "groups" in made.schedules


def test_a_ratio_of_a_group_whose_lr_does_not_follow_is_refused():
    def fixed(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        first, second = model.parameters()
        return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": [second]}], lr)

    with pytest.raises(InvalidArgument, match="no multiple of it; leave lr_ratio out"):
        given(linear_task(optimizer=fixed), {"0": {"lr_ratio": 0.5}, "1": {}})
    _, schedule = given(linear_task(optimizer=fixed), {"0": {}, "1": {"lr_ratio": 0.5}})
    assert schedule.by_group


def test_optimizers_of_a_loop_that_are_driven_by_name_are_groups():
    def two(training) -> None:
        models = [noisy_model(), noisy_model()]
        a, b = (torch.optim.SGD(model.parameters(), BUILT) for model in models)
        training.drive(generator=a, critic=b)
        training.measure(lambda: sum(mse(m(VALID[0]), VALID[1]).detach() for m in models))
        for _ in range(training.epochs):
            for x, y in batches():
                for model, optimizer in zip(models, (a, b), strict=True):
                    optimizer.zero_grad()
                    loss = mse(model(x), y)
                    loss.backward()
                    optimizer.step()
                training.log(loss)

    loop = small_loop(two, epochs=EPOCHS)
    rules = {"generator": {"schedule": "cosine"}, "critic": {"lr_ratio": 0.2}}
    task, schedule = given(loop, rules)
    history = fit(task, [Plan(0.01, schedule, 1)])
    assert set(np.round(history.lr[0, :, 1], 9)) == {0.002}
    assert history.lr[0, -1, 0] < 0.001


TWO = """
import torch
from small_loops import LR, VALID, batches, mse
from small_tasks import linear_model
from lrfinder import Loop

def train(training):
    models = [linear_model(), linear_model()]
    optimizers = [torch.optim.SGD(model.parameters(), LR) for model in models]
    training.drive(first=optimizers[0], second=optimizers[1])
    training.measure(lambda: sum(mse(m(VALID[0]), VALID[1]).detach() for m in models))
    for _ in range(training.epochs):
        for x, y in batches():
            for model, optimizer in zip(models, optimizers):
                optimizer.zero_grad()
                loss = mse(model(x), y)
                loss.backward()
                optimizer.step()
            training.log(loss)

loop = Loop(train, epochs=5)
"""


def test_the_script_of_a_loop_steps_the_groups_of_all_its_optimizers(tmp_path, capsys):
    (tmp_path / "two.py").write_text(TWO)
    loop, source = load_named(f"{tmp_path / 'two.py'}:loop")
    rules = {"first": {"schedule": "cosine,eta_min=0.001"}, "second": {"lr_ratio": 0.2}}
    task, schedule = given(loop, rules)
    best = best_facts(Candidate("groups", 0.03, schedule), "valid_loss")
    script = tmp_path / "best_schedule.py"
    script.write_text(loop_script(task, source, best))
    runpy.run_path(str(script), run_name="__main__")
    shown = [float(line.rpartition(" ")[2]) for line in capsys.readouterr().out.splitlines()]
    trained = fit(task, [Plan(0.03, schedule, 0)]).measures["loss"][0, 1:]
    assert shown == pytest.approx(trained.tolist(), abs=6e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[groups.body]\nlr = 0.1", "there is no 'groups.body.lr'; a group has schedule, lr_ratio"),
        ('[groups.body]\nlr_ratio = "a"', "groups.body.lr_ratio must "),
        ("[groups.body]\nlr_ratio = true", "groups.body.lr_ratio must "),
        ("groups = 3", "groups must be a table"),
        ("[groups]", "groups must have at least one entry"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "study.toml"
    file.write_text(text)
    with pytest.raises(StudyFileError) as error:
        read_settings_file(file)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


TASK = """
import torch
from small_tasks import linear_task
def optimizer(model, lr):
    groups = [{"params": [p], "name": n} for n, p in model.named_parameters()]
    return torch.optim.SGD(groups, lr)
def make_task():
    return linear_task(optimizer=optimizer, epochs=5)
"""


@pytest.mark.slow
def test_a_study_file_is_checked_run_and_written_as_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(TASK)
    rules = {
        "weight": {"schedule": "cosine,T_max=2", "lr_ratio": [0.1, 2.0]},
        "bias": {"schedule": "exponential,gamma=search"},
    }
    options = {"task": "own.py", "families": ["constant"], "trials": 3, "lr": 0.02}
    less = {"trial_seeds": 1, "confirm_runs": 4, "groups": rules}
    (tmp_path / "study.toml").write_text(tomli_w.dumps({**options, **less}))
    looked = check("study.toml")
    assert any(said.startswith("groups: group weight: after 2 of the 5") for said in looked.found)
    settings = settings_from(RunSettings, read_settings_file(tmp_path / "study.toml"))
    run = lrfinder.run(progress=False, **settings.model_dump(exclude_unset=True))
    facts = run.answers.families["groups"]
    assert set(facts.searched) == {"weight.lr_ratio", "bias.gamma"}
    assert any(
        note.startswith("groups: group weight: after 2 of the 5") for note in run.answers.notes
    )
    assert "# weight" in facts.code
    assert lrfinder.open_run(run.path).answers.families["groups"] == facts
