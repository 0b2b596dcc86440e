"""What is wrong with a schedule is seen before it is trained, and nothing else is."""

import math

import pytest
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from lrfinder import Baseline
from lrfinder.errors import InvalidArgument
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.schedules.spec import read_parts, schedule_of_training

UPDATES = 25
"""Of an epoch."""


def schedule(text: str, per="epoch", warmup=0) -> Schedule:
    return Schedule(*read_parts(text), per, warmup)


def own(build, per="epoch") -> Schedule:
    return Baseline(0.1, build, per=per).recipe.schedule


def joined(*make, at) -> Schedule:
    """Of schedulers that follow one another."""
    return own(lambda o: SequentialLR(o, [one(o) for one in make], milestones=at))


def chained(*make) -> Schedule:
    return own(lambda o: ChainedScheduler([one(o) for one in make], optimizer=o))


def ramp(epochs: int):
    return lambda o: LinearLR(o, 0.1, total_iters=epochs)


def cosine(T_max: int):
    return lambda o: CosineAnnealingLR(o, T_max)


def noam(warmup: int):
    """The transformer's schedule: up to its peak, then down with the inverse square root."""
    return lambda t: warmup**0.5 * min((t + 1) ** -0.5, (t + 1) * warmup**-1.5)


def warm_cosine(warmup: int, steps: int):
    def factor(t):
        if t < warmup:
            return t / warmup
        return max(0.0, (1 + math.cos(math.pi * (t - warmup) / (steps - warmup))) / 2)

    return factor


WRONG = [  # epochs, schedule, what is said, what mends it
    (20, schedule("cosine,T_max=10,eta_min=0"), "climbs back, to 98% of its peak", "T_max=20"),
    (100, schedule("cosine,T_max=80,eta_min=0"), "climbs back", "T_max=100"),
    (30, schedule("cosine,T_max=25,eta_min=0", warmup=2), "climbs back", "T_max=28"),
    (20, own(lambda o: CosineAnnealingLR(o, 5)), "climbs back", "T_max=20"),
    (20, schedule("step,step_size=30,gamma=0.1"), "never fires in 20 epochs", "step_size=14"),
    (20, own(lambda o: StepLR(o, 30)), "step_size=30 never fires", "step_size=14"),
    (50, schedule("multistep,milestones=30+60,gamma=0.1"), "milestone 60 never comes", "35"),
    (10, own(lambda o: MultiStepLR(o, [30, 60])), "milestones 30, 60 never come", "7"),
    (20, schedule("one_cycle,total_steps=15,pct_start=0.3"), "shorter than", "total_steps=20"),
    (20, own(lambda o: OneCycleLR(o, 0.1, 400, cycle_momentum=False)), "whose end it never sees",
     "total_steps=20"),
    (20, schedule("cosine,T_max=500,eta_min=0"), "looks like updates", "T_max=20"),
    (20, schedule("step,step_size=250,gamma=0.1"), "looks like updates, 25", "step_size=10"),
    (20, schedule("cosine,T_max=20,eta_min=0", "batch"), "looks like epochs", "T_max=500"),
    (90, schedule("multistep,milestones=30+60,gamma=0.1", "batch"), "look like epochs",
     "milestones=750+1500"),
    (90, schedule("step,step_size=30,gamma=0.1", "batch"), "looks like epochs", "step_size=750"),
    (20, schedule("exponential,gamma=0.9", "batch"), "looks like one for every epoch",
     "gamma=0.995794"),
    (20, schedule("exponential,gamma=0.5"), "0.001 of the sum of lrs is left", "gamma=0.8"),
    (20, schedule("cosine,T_max=20,eta_min=0", warmup=20), "warm-up of 20 epochs", "1 would be"),
    (20, schedule("plateau,mode=min,factor=0.1,patience=25"), "cannot run out", "patience=9"),
    (20, own(lambda o: ReduceLROnPlateau(o, patience=18)), "cannot run out", "patience=9"),
    (20, schedule("polynomial,total_iters=8,power=1"), "the lr is 0 for the last 60%",
     "total_iters=20"),
    (20, schedule("triangular,step_size_up=30"), "never comes to its peak", "step_size_up=10"),
    (20, schedule("exponential,gamma=0.999"), "looks like one for every update", "gamma=0.975"),
    (20, own(lambda o: LambdaLR(o, lambda t: 0.3**t)), "of the sum of lrs is left", "more slowly"),
    (20, schedule("exponential_steps,decay_rate=0.5,decay_steps=30,staircase=true"),
     "decay_steps=30 never fires", "decay_steps=14"),
    (20, joined(ramp(5), cosine(5), at=[5]), "CosineAnnealingLR, from epoch 5 on: after 5 of",
     "T_max=15"),
    (20, joined(ramp(5), cosine(15), at=[30]), "CosineAnnealingLR never begins: its milestone 30",
     "1 would be"),
    (20, joined(ramp(500), cosine(9500), at=[500]), "(500 looks like updates, 20", "1 would"),
    (30, joined(ramp(5), lambda o: ExponentialLR(o, 0.9), ramp(5), at=[5, 40]), "LinearLR never",
     "1 would be"),
    (20, chained(ramp(5), lambda o: StepLR(o, 30)), "StepLR: step_size=30 never fires in 20",
     "step_size=14"),
    (40, chained(ramp(4), lambda o: MultiStepLR(o, [60, 80])), "60, 80 never come", "28"),
    (20, own(ramp(100)), "the lr still rises when the training of 20 epochs ends", "of 1 would be"),
    (20, own(lambda o: LambdaLR(o, noam(4000)), "batch"), "the lr still rises", "of 25 would be"),
    (20, own(lambda o: LambdaLR(o, warm_cosine(1000, 2000)), "batch"), "still rises", "of 25"),
    (20, own(lambda o: CosineAnnealingWarmRestarts(o, 500)), "looks like updates", "T_0=20"),
    (20, own(lambda o: CosineAnnealingWarmRestarts(o, 250)), "looks like updates, 25", "T_0=10"),
    (20, own(lambda o: CosineAnnealingWarmRestarts(o, 10), "batch"), "like epochs", "T_0=250"),
    (100, own(lambda o: MultiStepLR(o, [150, 225])), "milestones 150, 225 never come", "70"),
    (20, own(cosine(25), "batch"), "after 25 of the 500 updates", "T_max=500"),
]  # fmt: skip
RIGHT = [
    (20, schedule("constant")),
    (20, schedule("cosine,T_max=20,eta_min=0")),
    (20, schedule("cosine,T_max=19,eta_min=0")),
    (20, schedule("cosine,T_max=18,eta_min=0", warmup=2)),
    (20, schedule("cosine,T_max=40,eta_min=0")),
    (20, schedule("cosine,T_max=500,eta_min=0", "batch")),
    (20, schedule("cosine_restarts,T_0=5,T_mult=1,eta_min=0")),
    (20, schedule("cosine_restarts,T_0=10,T_mult=2,eta_min=0")),
    (90, schedule("step,step_size=30,gamma=0.1")),
    (20, schedule("step,step_size=14,gamma=0.1")),
    (20, schedule("step,step_size=25,gamma=0.98", "batch")),
    (90, schedule("multistep,milestones=30+60+80,gamma=0.1")),
    (90, schedule("multistep,milestones=750+1500,gamma=0.1", "batch")),
    (20, schedule("exponential,gamma=0.9")),
    (90, schedule("exponential,gamma=0.95")),
    (20, schedule("exponential,gamma=0.995", "batch")),
    (20, schedule("one_cycle,total_steps=20,pct_start=0.3")),
    (20, schedule("one_cycle,total_steps=500,pct_start=0.3", "batch")),
    (20, schedule("triangular,step_size_up=5")),
    (20, own(lambda o: CyclicLR(o, 0.01, 0.1, 4, cycle_momentum=False))),
    (20, schedule("polynomial,total_iters=20,power=2")),
    (20, schedule("plateau,mode=min,factor=0.1,patience=10")),
    (200, own(lambda o: ReduceLROnPlateau(o))),
    (20, schedule("wsd,cooldown=0.2,shape=1-sqrt,steps=20")),
    (20, schedule("inverse_time,decay_rate=0.5,decay_steps=1,staircase=false")),
    (20, schedule("constant", warmup=5)),
    (20, own(lambda o: LambdaLR(o, lambda t: 1 / (1 + t)))),
    (20, own(lambda o: LambdaLR(o, lambda t: 0.5 + 0.5 * math.cos(math.pi * t / 20)))),
    (20, joined(ramp(5), cosine(15), at=[5])),
    (60, joined(ramp(5), lambda o: MultiStepLR(o, [25, 40]), at=[5])),
    (
        20,
        joined(
            ramp(2), lambda o: ConstantLR(o, 1.0), lambda o: LinearLR(o, 1.0, 0.001, 4), at=[2, 16]
        ),
    ),
    (20, chained(ramp(5), lambda o: ExponentialLR(o, 0.9))),
    (20, own(lambda o: LinearLR(o))),
    (20, own(lambda o: LinearLR(o, 1.0, 0.01, 20))),
    (20, own(lambda o: ConstantLR(o, 1 / 3, 5))),
    (20, own(lambda o: LambdaLR(o, noam(50)), "batch")),
    (20, own(lambda o: LambdaLR(o, warm_cosine(50, 500)), "batch")),
    (60, own(lambda o: CosineAnnealingWarmRestarts(o, 25), "batch")),
    (20, own(lambda o: CosineAnnealingWarmRestarts(o, 125), "batch")),
    (20, own(lambda o: MultiplicativeLR(o, lambda _: 0.95))),
]


@pytest.mark.parametrize(("epochs", "wrong", "said", "cure"), WRONG, ids=str)
def test_a_wrong_schedule_is_found_in_one_sentence_with_what_mends_it(epochs, wrong, said, cure):
    (found,) = wrong.problems(epochs, UPDATES, 0.1)
    assert said in found
    assert cure is None or cure in found
    assert "\n" not in found


@pytest.mark.parametrize(("epochs", "right"), RIGHT, ids=str)
def test_of_a_right_schedule_nothing_is_said(epochs, right):
    assert right.problems(epochs, UPDATES, 0.1) == []


@pytest.mark.parametrize(("epochs", "wrong", "said", "cure"), WRONG, ids=str)
def test_following_the_advice_helps(epochs, wrong, said, cure):
    (found,) = wrong.problems(epochs, UPDATES)
    name, equals, value = found.rpartition("; ")[2].partition(" ")[0].partition("=")
    if equals and name in wrong.params:
        mended = schedule(",".join([wrong.family.name, *(
            f"{k}={value if k == name else v}" for k, v in wrong.params.items())]),
            wrong.per, wrong.warmup)  # fmt: skip
        assert mended.problems(epochs, UPDATES) == []


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("epochs", [10, 20, 300])
def test_of_the_usual_schedules_nothing_is_said(name, epochs):
    for per in ("epoch", "batch"):
        asked = schedule_of_training(name, epochs=epochs, updates_per_epoch=UPDATES, per=per)
        assert asked.problems(epochs, UPDATES) == [], per


def test_that_a_decay_ends_high_is_a_remark_and_no_problem():
    high = schedule("step,step_size=14,gamma=0.1")
    (said,) = high.problems(20, UPDATES, remarks=True)
    assert said.startswith("it ends at 10% of its peak")
    for never in (
        "constant",
        "cosine_restarts,T_0=7,T_mult=1,eta_min=0",
        "cosine,T_max=20,eta_min=0",
    ):
        assert schedule(never).problems(20, UPDATES, remarks=True) == []


def test_without_the_updates_of_an_epoch_only_gross_mistakes_of_unit_are_seen():
    assert schedule("cosine,T_max=40,eta_min=0").problems(20) == []
    assert "looks like updates" in schedule("cosine,T_max=500,eta_min=0").problems(20)[0]
    with pytest.raises(InvalidArgument, match="updates_per_epoch"):
        schedule("constant", "batch").problems(20)


def test_a_schedule_whose_own_code_raises_is_left_to_the_training():
    def build(optimizer):
        raise ValueError("broken")

    assert own(build).problems(20, UPDATES) == []
