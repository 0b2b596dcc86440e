"""A skorch net trains in lrfinder as it trains itself, and stands as it stood."""

import copy
import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from small_tasks import no_global_draw, plan
from torch import nn

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

skorch = pytest.importorskip("skorch")
LR = 0.1


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64)


class Net(nn.Module):
    def __init__(self, units=8):
        super().__init__()
        self.body, self.head = nn.Linear(5, units), nn.Linear(units, 2)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))


class Probabilities(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


def net_of(module=Net, **options):
    options = {"criterion": nn.CrossEntropyLoss, "lr": LR, "max_epochs": 3, **options}
    return skorch.NeuralNetClassifier(
        module, batch_size=8, verbose=0, optimizer__momentum=0.9, **options
    )


def skorchs_own(net):
    """Weights, lrs of each update and validation losses of the net's own training."""
    lrs = []

    class Watch(skorch.callbacks.Callback):
        def on_grad_computed(self, net, named_parameters, **given):
            lrs.append([group["lr"] for group in net.optimizer_.param_groups])

    given = [] if net.callbacks is None else net.callbacks
    net = net.set_params(callbacks=[*given, Watch()])
    torch.manual_seed(1)
    net.fit(*data())
    return net.module_.state_dict(), np.array(lrs), net.history[:, "valid_loss"]


def ours(task, lr=LR, schedule=None):
    """The final weights of lrfinder's training, and its history."""
    weights = {}

    class Keeping(SequentialTrainer):
        def advance(self, state, lrs):
            losses = super().advance(state, lrs)
            weights.update(state.runs[0].model.state_dict())
            return losses

    plans = [plan(lr, 0) if schedule is None else Plan(lr, schedule, 0)]
    return weights, fit(task, plans, trainer=Keeping())


def with_same_weights(**options):
    """A net whose module is an instance, so that every training begins with its weights."""
    torch.manual_seed(0)
    module = options.pop("module", Net)()
    return net_of(module, **options)


CASES = {
    "plain": {},
    "clipped": {"callbacks": [skorch.callbacks.GradientNormClipping(0.05)]},
    "probabilities": {"module": Probabilities, "criterion": nn.NLLLoss},
    "groups": {"optimizer__param_groups": [("head*", {"lr": 0.01})]},
    "adam": {"optimizer": torch.optim.Adam, "optimizer__momentum": None},
    "no split": {"train_split": None},
}


@pytest.mark.parametrize("case", CASES)
def test_training_is_bitwise_the_nets_own(case):
    def net():
        options = dict(CASES[case])
        adam = options.pop("optimizer__momentum", 0) is None
        made = with_same_weights(**options)
        if adam:
            del made.optimizer__momentum
        return made

    task = Task.from_skorch(net(), *data())
    if task.valid is None:
        task = Task.from_skorch(net(), *data(), valid=task.train)
    weights, history = ours(task)
    if case == "no split":
        torch.manual_seed(1)
        theirs = net().fit(*data()).module_.state_dict()
    else:
        theirs, lrs, losses = skorchs_own(net())
        np.testing.assert_allclose(history.lr[0], lrs, rtol=1e-12)
        np.testing.assert_allclose(history.measures["loss"][0][1:], losses, rtol=1e-5)
    assert all(torch.equal(weights[k], theirs[k]) for k in theirs)
    assert task.baseline.lr == LR


@pytest.mark.parametrize(
    "scheduler",
    [
        {"policy": "StepLR", "step_size": 1, "gamma": 0.5},
        {"policy": torch.optim.lr_scheduler.ExponentialLR, "gamma": 0.9, "step_every": "batch"},
        {"policy": torch.optim.lr_scheduler.ReduceLROnPlateau, "patience": 0, "threshold": 9.0},
    ],
)
def test_scheduler_of_the_net_is_the_baseline(scheduler):
    def net():
        return with_same_weights(callbacks=[("lr", skorch.callbacks.LRScheduler(**scheduler))])

    task = Task.from_skorch(net(), *data())
    theirs, lrs, _ = skorchs_own(net())
    weights, history = ours(task, task.baseline.lr, task.baseline.schedule)
    np.testing.assert_allclose(history.lr[0], lrs, rtol=1e-12)
    assert len(np.unique(lrs)) > 1
    assert all(torch.allclose(weights[k], theirs[k], atol=1e-6) for k in theirs)


def test_scores_of_the_net_are_measures():
    def net():
        scoring = skorch.callbacks.EpochScoring("f1", lower_is_better=False, name="f1")
        return with_same_weights(callbacks=[scoring])

    task = Task.from_skorch(net(), *data())
    assert task.measures == ("loss", "valid_acc", "f1")
    _, history = ours(task)
    own = net().fit(*data()).history
    for name in ("valid_acc", "f1"):
        np.testing.assert_allclose(history.measures[name][0][1:], own[:, name])


def test_a_seed_gives_the_weights_of_a_module_class():
    task = Task.from_skorch(net_of(module__units=4), *data())
    first, again, other = (next(task.built(k).parameters()) for k in (0, 0, 1))
    assert first.shape == (4, 5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fitted", [False, True])
def test_nothing_of_the_callers_is_changed(fitted):
    net, (x, y) = with_same_weights(), data()
    if fitted:
        net.fit(x, y)
    held = dict(vars(net))
    weights = copy.deepcopy((net.module_ if fitted else net.module).state_dict())
    with no_global_draw(), warnings.catch_warnings():
        warnings.simplefilter("error")
        task = Task.from_skorch(net, x, y)
        range_test(task, steps=9, seeds=1, max_lr=1.0, probes=0)
    assert vars(net).keys() == held.keys()
    assert all(vars(net)[k] is held[k] for k in held)
    after = (net.module_ if fitted else net.module).state_dict()
    assert all(torch.equal(after[k], weights[k]) for k in weights)
    np.testing.assert_array_equal((x, y)[0], data()[0])


class OwnStep(skorch.NeuralNetClassifier):
    def train_step_single(self, batch, **given):
        return super().train_step_single(batch, **given)


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("says", "make"),
    [
        ("but got Linear", lambda: nn.Linear(2, 2)),
        ("but got Net", lambda: Net),
        (
            "got GridSearchCV; give the net inside of it",
            lambda: GridSearchCV(net_of(), {"lr": [0.1]}),
        ),
        ("overwrite get_loss", lambda: OwnStep(Net)),
        ("no parameters to train", lambda: net_of(criterion=Weighted)),
        (
            "norm of type 2",
            lambda: net_of(callbacks=[skorch.callbacks.GradientNormClipping(1.0, 1)]),
        ),
    ],
)
def test_bad_nets_are_told_in_one_line(says, make):
    with pytest.raises(InvalidArgument, match=says) as raised:
        Task.from_skorch(make(), *data())
    assert "\n" not in str(raised.value)


def test_what_is_advised_names_what_a_net_has():
    net = net_of(Net, iterator_train__shuffle=False, train_split=None)
    task = Task.from_skorch(net, *data())
    [note] = task.data().notes()
    assert "iterator_train__shuffle=True" in note
    mended = net_of(Net, iterator_train__shuffle=True, train_split=None)
    assert Task.from_skorch(mended, *data()).data().notes() == []
    with pytest.raises(InvalidArgument, match="give the net a train_split") as refused:
        fit(task, [plan()])
    assert "ValidSplit(5)" in str(refused.value)
    split = net_of(Net, train_split=skorch.dataset.ValidSplit(5))
    assert fit(Task.from_skorch(split, *data()), [plan()], updates=1)
