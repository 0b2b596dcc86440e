"""A schedule for each parameter group: torch's own on each, one family for all."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FixedTrial
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, SequentialLR

from lrfinder.errors import InvalidArgument
from lrfinder.schedules import FAMILIES, Budget, Schedule, family
from lrfinder.schedules.groups import Asked, family_of_groups, names_of
from lrfinder.schedules.in_frameworks import Answer, codes
from lrfinder.schedules.recipe import Recipe
from lrfinder.schedules.spec import read_parts, schedule_of_training

BUDGET = Budget(steps=12, steps_per_epoch=1, lowest_lr=1e-3)
NAMES = ("body", "layer.0", "layer")
NOT_OF_GROUPS = {"plateau"}


def optimizer(*lrs: float, names=NAMES) -> torch.optim.Optimizer:
    groups = [
        {"params": [torch.zeros(1, requires_grad=True)], "lr": lr, "name": name}
        for lr, name in zip(lrs, names, strict=False)
    ]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9)


def asked(group: str, text: str, ratio=None, own: float = 1.0) -> Asked:
    kind, given = read_parts(text)
    return Asked(group, kind, given if kind.kept is None else kind.kept(given), ratio, own)


def usual(*rules: Asked, warmup: int = 0, per="epoch") -> Schedule:
    """The rules with usual values in place of what is searched."""
    own = family_of_groups(rules)
    params = own.space(FixedTrial(own.defaults(BUDGET)[0]), BUDGET)
    return Schedule(own, params, per, warmup)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - NOT_OF_GROUPS))
def test_groups_with_one_rule_go_bit_by_bit_as_without_groups(name, warmup):
    if warmup and not FAMILIES[name].warmup:
        return
    text = name + {"cosine_restarts": ",T_0=5,T_mult=1,eta_min=0.0"}.get(name, "")
    alone = schedule_of_training(text, epochs=12, updates_per_epoch=1)
    given = ",".join([name, *(f"{k}={v}" for k, v in alone.params.items())])
    schedule = usual(*(asked(group, given) for group in NAMES), warmup=warmup)
    plain = Schedule(alone.family, alone.params, warmup=warmup)
    lrs = [0.3, 0.03, 0.1]
    assert schedule.rows(optimizer(*lrs), 12).tobytes() == plain.rows(optimizer(*lrs), 12).tobytes()


@pytest.mark.parametrize("warmup", [0, 2])
def test_each_group_goes_as_torch_s_own_scheduler_alone(warmup):
    rules = [
        asked("body", "cosine,T_max=12,eta_min=0.001", 0.1),
        asked("layer.0", "exponential,gamma=0.7", 0.02, own=0.5),
        asked("layer", "constant"),
    ]
    rows = usual(*rules, warmup=warmup).rows(optimizer(0.2, 0.1, 0.2), 12)

    def alone(lr, build):
        own = torch.optim.SGD([torch.zeros(1)], lr)
        scheduler = build(own)
        if warmup:
            ramp = LinearLR(own, 1 / (warmup + 1), total_iters=warmup)
            scheduler = SequentialLR(own, [ramp, scheduler], [warmup])
        found = []
        for _ in range(12):
            found.append(own.param_groups[0]["lr"])
            own.step()
            scheduler.step()
        return found

    lr = 0.1 * 0.04
    np.testing.assert_array_equal(
        rows[:, 0], alone(0.2 * 0.1, lambda o: CosineAnnealingLR(o, 12, 0.001))
    )
    np.testing.assert_allclose(rows[:, 1], alone(lr, lambda o: ExponentialLR(o, 0.7)), rtol=1e-14)
    if not warmup:
        assert set(rows[:, 2]) == {0.2}


def test_copies_in_motion_are_independent():
    schedule = usual(asked("body", "exponential,gamma=0.5"), asked("layer.0", "step"))
    live = schedule.start(optimizer(0.2, 0.1))
    live.epoch(1)
    twin = copy.deepcopy(live)
    first = [live.epoch(1).tolist() for _ in range(5)]
    assert [twin.epoch(1).tolist() for _ in range(5)] == first


KINDS = sorted(FAMILIES.keys() - NOT_OF_GROUPS - {"cosine_restarts"})


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("warmup", [0, 2])
def test_the_code_gives_the_same_lrs(name, warmup):
    warmup = warmup if FAMILIES[name].warmup else 0
    more = "cosine,T_max=9,eta_min=0.002"
    schedule = usual(asked("body", name, 0.05), asked("layer.0", more), warmup=warmup)
    made = optimizer(0.4, 0.2)
    scope = {"torch": torch, "optimizer": made}
    exec(schedule.code().rpartition("\n# after")[0], scope)
    found = []
    for _ in range(12):
        found.append([group["lr"] for group in made.param_groups])
        made.step()
        scope["scheduler"].step()
    np.testing.assert_allclose(found, schedule.rows(optimizer(0.4, 0.2), 12), rtol=1e-9, atol=1e-15)


def test_short_rules_are_written_as_one_list_of_functions():
    schedule = usual(asked("body", "constant"), asked("layer.0", "exponential,gamma=0.9"))
    assert schedule.code() == (
        "scheduler = torch.optim.lr_scheduler.LambdaLR(\n"
        "    optimizer,\n"
        "    [\n"
        "        lambda t: 1.0,  # body\n"
        "        lambda t: 0.9**t,  # layer.0\n"
        "    ],\n"
        ")\n"
        "# after every epoch: scheduler.step()"
    )


def test_only_torch_s_code_can_say_it():
    schedule = usual(asked("body", "constant"), asked("layer.0", "cosine"))
    answer = Answer(Recipe(0.1, schedule), epochs=12, updates_per_epoch=4, optimizer="SGD")
    assert set(codes(answer)) == {"torch"}


def test_it_is_printed_group_by_group():
    schedule = usual(
        asked("body", "constant", 0.1), asked("layer.0", "exponential,gamma=0.9"), warmup=2
    )
    body, layer = "body: ConstantLR() at 0.1 times the lr", "layer.0: ExponentialLR(gamma=0.9)"
    assert str(schedule) == f"warmup 2 + groups({body}, {layer})"


def test_what_says_search_is_searched_under_the_group_s_name():
    own = family_of_groups(
        [
            asked("body", "multistep,milestones=search,gamma=0.1", (0.01, 1.0), own=0.1),
            asked("layer.0", "step,gamma=search"),
        ]
    )
    first = own.defaults(BUDGET)[0]
    drops = {key for key in first if key.startswith("body.milestone")}
    assert drops
    assert first.keys() - drops - {"body.drops"} == {"body.lr_ratio", "layer.0.gamma"}
    assert first["body.lr_ratio"] == 0.1  # as the optimizer has it
    params = own.space(FixedTrial(first), BUDGET)
    assert params["layer.0.step_size"] == 8
    assert params["body.gamma"] == 0.1


def test_every_searched_parameter_changes_the_lrs():
    rules = [asked("body", "step,gamma=search", (0.01, 1.0)), asked("layer.0", "wsd")]
    own = family_of_groups(rules)
    changes = [{}, {"body.lr_ratio": 0.3}, {"body.gamma": 0.5}]
    tried = [{**own.defaults(BUDGET)[0], **changed} for changed in changes]
    schedules = [Schedule(own, own.space(FixedTrial(values), BUDGET)) for values in tried]
    rows = [schedule.rows(optimizer(1.0, 1.0), 12) for schedule in schedules]
    for a, b in itertools.combinations(rows, 2):
        assert (a != b).any()


def test_a_floor_is_searched_below_the_lowest_lr_that_a_group_can_have():
    own = family_of_groups(
        [asked("body", "constant", (0.01, 1.0)), asked("layer.0", "cosine,eta_min=search")]
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    trial = study.ask()
    own.space(trial, BUDGET)
    assert trial.distributions["layer.0.eta_min"].high == pytest.approx(0.1 * 0.01 * 1e-3)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (("body", "plateau"), "groups: body: plateau follows a measure"),
        (("body", "step,gama=0.1"), "groups: body: step has step_size, gamma, but got 'gama'"),
        (("body", "step,gamma=-1"), "groups: body: gamma of step must be a number > 0, but got -1"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule, said):
    with pytest.raises(InvalidArgument) as error:
        family_of_groups([asked(*rule)])
    assert str(error.value).startswith(said)


def test_a_parameter_without_a_range_or_a_usual_value_is_refused():
    none_usual = replace(FAMILIES["step"], defaults=lambda _: [])
    for rule, said in [
        (asked("body", "one_cycle,total_steps=search"), "no range to search for total_steps"),
        (Asked("body", none_usual, {}, None, 1.0), "has no usual step_size; give it"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            family_of_groups([rule]).space(FixedTrial({}), BUDGET)


def test_an_optimizer_with_other_groups_is_refused():
    schedule = usual(asked("body", "constant"), asked("layer.0", "cosine"))
    with pytest.raises(InvalidArgument, match="must have a rule for each parameter group"):
        schedule.rows([0.1], 3)


def test_what_is_wrong_with_one_group_is_said_with_its_name():
    schedule = usual(asked("body", "cosine,T_max=3"), asked("layer.0", "constant"))
    found = schedule.problems(epochs=12)
    assert [said[:24] for said in found] == ["group body: after 3 of t"]


def test_groups_are_called_by_their_name_or_place():
    assert names_of([{"name": "a"}, {}, {"name": 3}]) == ["a", "1", "2"]


def test_groups_of_groups_are_refused():
    inner = family_of_groups([asked("body", "constant")])
    with pytest.raises(InvalidArgument, match="has groups itself"):
        family_of_groups([Asked("body", inner, {}, None, 1.0)])
    assert family("constant").by_group is None
