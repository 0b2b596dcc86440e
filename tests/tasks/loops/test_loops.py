"""What a Loop shows of itself, and the one line for each thing that it must not do."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch
from small_loops import LR, VALID, batches, gan, mse, regression, small_loop
from small_tasks import linear_model, no_global_draw
from torch import nn

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.tasks.data.data_checks import OTHER_WEIGHTS
from lrfinder.tasks.fingerprint import check_same, fingerprint
from lrfinder.tasks.loading import load_named
from lrfinder.tasks.loops.looking import NO_MEASURE, OF_SEVERAL, OWN_SCHEDULER
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.loops.measuring import as_measures

PER_EPOCH = 4


def steps(
    training,
    *,
    drive=True,
    named=(),
    measure=lambda: 1.0,
    before_log=lambda training, k: None,
    after_log=lambda training, k: None,
    loss=lambda k: 1.0,
    step=True,
    log=True,
    updates=None,
    lr=LR,
) -> None:
    """A loop of which single parts can be left out or exchanged."""
    model = linear_model()
    optimizer = torch.optim.SGD(model.parameters(), lr)
    if drive:
        training.drive(optimizer, *named)
    if measure is not None:
        training.measure(measure)
    for k in range(updates or training.epochs * PER_EPOCH):
        if step:
            optimizer.step()
        before_log(training, k)
        if log:
            training.log(loss(k))
        after_log(training, k)


def again(training, k) -> None:
    training.log(1.0)


def drive_later(training, k) -> None:
    training.drive(torch.optim.SGD(linear_model().parameters(), 0.1))


def measure_later(training, k) -> None:
    training.measure(lambda: 1.0)


def keep_going(training) -> None:
    """Misuse that the loop's own code would hide."""
    try:
        training.log(1.0)
    except Exception:
        steps(training)


SHARED = linear_model()


def shared(training) -> None:
    optimizer = torch.optim.SGD(SHARED.parameters(), LR)
    training.drive(optimizer)
    optimizer.step()
    training.log(1.0)


def no_end(training) -> None:
    steps(training, updates=10**12)


def add_group(training) -> None:
    model, further = linear_model(), linear_model()
    optimizer = torch.optim.SGD(model.parameters(), LR)
    training.drive(optimizer)
    for _ in range(training.epochs * PER_EPOCH):
        optimizer.step()
        training.log(1.0)
        if len(optimizer.param_groups) == 1:
            optimizer.add_param_group({"params": further.parameters()})


def in_a_thread(training) -> None:
    """Its own exception would stay in the thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(steps, training)


REFUSED = {
    "trains in a thread": (in_a_thread, "must be called where train(training) runs"),
    "never logs": (
        partial(steps, log=False),
        "an epoch had none; call training.log(loss) after optimizer.step()",
    ),
    "has no update": (lambda training: None, "drives none; call training.drive(optimizer)"),
    "logs before the step": (
        partial(steps, step=False),
        "no driven optimizer was stepped since the beginning",
    ),
    "logs twice": (partial(steps, after_log=again), "was stepped since the last"),
    "neither steps nor logs": (
        partial(steps, step=False, log=False),
        "ended without a call of training.log(loss)",
    ),
    "drives nothing": (partial(steps, drive=False), "it drives none; call training.drive"),
    "drives a model": (
        partial(steps, named=[linear_model()]),
        "must be given torch optimizers, but got a Linear",
    ),
    "drives late": (partial(steps, before_log=drive_later), "optimizer 2 was after the first"),
    "hides its fault": (keep_going, "drives none"),
    "measures late": (partial(steps, before_log=measure_later), "called after the first update"),
    "measures nothing callable": (partial(steps, measure=0.5), "given a function, but got a float"),
    "measures no number": (
        partial(steps, measure=lambda: "low"),
        'as in {"valid_loss": 0.5}, but returned a str',
    ),
    "measures many numbers": (
        partial(steps, measure=lambda: {"valid_loss": torch.ones(3)}),
        "one number for 'valid_loss', but returned a tensor of shape (3,)",
    ),
    "has no valid_loss": (
        partial(steps, measure=lambda: {"accuracy": 0.5}),
        'must return a "valid_loss", which falls as the training learns, but returned accuracy',
    ),
    "measures a column": (
        partial(steps, measure=lambda: {"valid_loss": 1.0, "lr": 0.5}),
        "the name 'lr' is taken",
    ),
    "logs words": (partial(steps, loss=lambda k: "low"), "one number, but got a str"),
    "logs rows": (
        partial(steps, loss=lambda k: torch.ones(2)),
        "one number, but got a tensor of shape (2,)",
    ),
    "is built at no lr": (partial(steps, lr=0.0), "must be built with an lr above 0"),
    "is not built anew": (shared, "build them inside train(training)"),
    "adds a group": (add_group, "one that had 1 has 2; add them before training.drive(...)"),
    "asks for updates": (
        lambda training: steps(training, updates=training.updates),
        "give Loop(train, steps_per_epoch=...)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_loop_must_not_do_is_told_in_one_line(kind):
    train, says = REFUSED[kind]
    with no_global_draw(), pytest.raises(InvalidArgument, match=re.escape(says)) as told:
        Loop(train).data()
    assert "\n" not in str(told.value)


def test_a_loop_that_ends_early_is_told_how_far_it_came(monkeypatch):
    from small_tasks import plan

    from lrfinder.training.fit import fit
    from lrfinder.training.trainers.driven import DrivenTrainer

    ends = Loop(partial(steps, updates=7), epochs=3)
    says = (
        r"== 3 epochs, 21 updates, but train\(training\) ended after 7; go on for training.epochs"
    )
    with pytest.raises(InvalidArgument, match=says):
        fit(ends, [plan(LR)], trainer=DrivenTrainer())
    wrong = Loop(steps, epochs=3, steps_per_epoch=5)
    with pytest.raises(InvalidArgument, match=r"15 updates, but .* after 12; .*_per_epoch=5"):
        fit(wrong, [plan(LR)])


def test_an_epoch_without_an_end_is_told(monkeypatch):
    monkeypatch.setattr("lrfinder.tasks.loops.looking._MOST_COUNTED", 1000)
    with pytest.raises(InvalidArgument, match="an epoch must have an end"):
        Loop(lambda training: steps(training, updates=10**12 * training.epochs)).data()


def test_a_loop_that_never_asks_for_its_length_is_told_soon_and_needs_none_that_is_given():
    with pytest.raises(InvalidArgument, match=r"without asking .*Loop\(steps_per_epoch=\.\.\.\)"):
        Loop(no_end).data()
    assert Loop(no_end, steps_per_epoch=4).data().updates_per_epoch == 4


FIELDS = {
    "train": ({"train": 3}, "train must be callable, but got 3"),
    "no argument": ({"train": lambda: None}, "train must be a function of one argument"),
    "two arguments": ({"train": lambda a, b: None}, "train must be a function of one argument"),
    "epochs": ({"epochs": 0}, "epochs must be a whole number of at least 1"),
    "steps_per_epoch": (
        {"steps_per_epoch": 0},
        "steps_per_epoch must be a whole number of at least 1",
    ),
    "baseline": ({"baseline": [0.1]}, "baseline must be a learning rate, a pair"),
    "schedules": ({"schedules": {"mine": 3}}, "schedules['mine'] must be a Family"),
    "name": ({"name": "a/b"}, "name must be one line"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_that_cannot_be_used_are_refused(kind):
    fields, says = FIELDS[kind]
    with pytest.raises(InvalidArgument, match=re.escape(says)):
        Loop(**{"train": regression, **fields})


def test_what_the_loop_raises_while_it_starts_is_told_with_its_place():
    def train(training) -> None:
        raise ValueError("no such file")

    with pytest.raises(TaskFailed, match=r"starting the loop, the task raised ValueError: no such"):
        Loop(train).data()


def test_an_epoch_is_counted_where_its_length_is_not_given():
    asked: list[int] = []

    def train(training) -> None:
        asked.append(training.epochs)
        regression(training)

    counted = small_loop(train)
    assert counted.data().updates_per_epoch == PER_EPOCH
    assert set(asked) == {1}
    asked.clear()
    given = small_loop(train, steps_per_epoch=2)
    assert given.data().updates_per_epoch == 2
    assert set(asked) == {3}


def test_it_is_looked_at_once_and_so_are_its_copies():
    calls: list[int] = []

    def train(training) -> None:
        calls.append(1)
        regression(training)

    loop = small_loop(train)
    loop.data()
    looked = len(calls)
    longer = replace(loop, epochs=7, name="other")
    assert longer.data() is loop.data()
    assert len(calls) == looked
    assert replace(loop, steps_per_epoch=2).data().updates_per_epoch == 2


def test_the_facts_of_a_loop_are_those_of_its_optimizers():
    prototype = small_loop(gan).prototype
    assert prototype.optimizer == "Adam and SGD"
    assert [group["lr"] for group in prototype.stand_in.param_groups] == [0.5, 1.0]
    assert prototype.groups.follow
    assert prototype.parameters == 3 * 8 + 8 + 8 * 4 + 4 + 4 * 8 + 8 + 8 + 1
    assert small_loop().measures == ("loss", "largest")
    assert small_loop(gan).measures == ("loss",)
    assert small_loop().group_lrs([LR, 3.0]).tolist() == [[LR / 3, LR], [1.0, 3.0]]


def test_a_scheduler_of_its_own_and_unseeded_weights_are_noted():
    state = torch.Generator()

    def train(training, generator=state) -> None:
        model = linear_model()
        nn.init.uniform_(model.weight, generator=generator)
        generator.manual_seed(int(torch.randint(10**9, ())) + id(model) % 1000)
        optimizer = torch.optim.SGD(model.parameters(), LR)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        training.drive(optimizer)
        training.measure(lambda: mse(model(VALID[0]), VALID[1]))
        for _ in range(training.epochs):
            for x, y in batches():
                mse(model(x), y).backward()
                optimizer.step()
                training.log(1.0)
            scheduler.step()

    assert OWN_SCHEDULER in small_loop(train).data().notes()

    numbers = iter(range(100))

    def unseeded(training) -> None:
        torch.manual_seed(next(numbers))
        regression(training)

    assert small_loop(unseeded).data().notes() == [OTHER_WEIGHTS]
    assert small_loop().data().notes() == []


def test_the_training_loss_of_several_optimizers_is_cautioned():
    def unmeasured(loop):
        def train(training):
            training.measure = lambda function: None
            loop(training)

        return small_loop(train).data().notes()

    assert unmeasured(gan) == [NO_MEASURE, OF_SEVERAL]
    assert unmeasured(regression) == [NO_MEASURE]
    assert small_loop(gan).data().notes() == []


def test_numbers_of_any_kind_are_measures():
    found = as_measures({"valid_loss": torch.ones((), requires_grad=True), "a": 2, "b": True})
    assert found == {"loss": 1.0, "a": 2.0, "b": 1.0}
    assert as_measures(torch.full((1,), 0.5)) == {"loss": 0.5}


def test_another_loop_is_not_the_same_problem():
    loop = small_loop()
    made = fingerprint(loop, None)
    assert set(made) == {"training data", "initial weights"}
    check_same(loop, None, made, "{what}")

    def other_rows(training) -> None:
        model = linear_model()
        optimizer = torch.optim.SGD(model.parameters(), LR)
        training.drive(optimizer)
        mse(model(OTHER["x"]), VALID[1]).backward()
        optimizer.step()
        training.log(1.0)

    OTHER["x"] = VALID[0]
    made = fingerprint(Loop(other_rows), None)
    OTHER["x"] = VALID[0] * torch.arange(4)
    with pytest.raises(InvalidArgument, match=r"^training data$"):
        check_same(Loop(other_rows), None, made, "{what}")


OTHER: dict[str, torch.Tensor] = {}


@pytest.mark.parametrize("text", ["mine.py", "mine.py:loop", "mine.py:build"])
def test_a_loop_is_loaded_by_its_name(tmp_path, monkeypatch, text):
    (tmp_path / "mine.py").write_text(
        "import lrfinder\n\ndef train(training): ...\n\nloop = lrfinder.Loop(train)\n\n"
        "def build():\n    return loop\n"
    )
    monkeypatch.chdir(tmp_path)
    found, reference = load_named(text)
    assert isinstance(found, Loop)
    assert found.name == "mine"
    assert reference.is_object == (text != "mine.py:build")
