"""The callback for Lightning says what to train at, and leaves everything else as it would be."""

import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from test_from_lightning import EPOCHS, LR, Net, Scheduled, lightnings_own, loaders, trainer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LinearLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from lrfinder.errors import InvalidArgument

L = pytest.importorskip("lightning.pytorch")
from lrfinder.lightning import LearningRateFinder  # noqa: E402 (where Lightning is installed)

SHORT = {"steps": 20, "seeds": 1, "probes": 3}


def fitted(module, *callbacks, **options):
    """The module after `fit`, and the lrs of its updates."""
    lrs = []

    class Watch(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            lrs.append([group["lr"] for group in optimizer.param_groups])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own, of a small training
        trainer(callbacks=[*callbacks, Watch()], **options).fit(module, *loaders())
    return module, lrs


class Stands(L.Callback):
    """How everything stands where training starts."""

    def on_train_start(self, trainer, module):
        states = [random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()]
        weights = {k: v.tolist() for k, v in module.state_dict().items()}
        flags = [part.training for part in module.modules()]
        held = [sorted(vars(module)), trainer.optimizers[0].state_dict(), flags]
        self.seen = [states, weights, held, trainer.callback_metrics, trainer.logged_metrics]


def test_it_prints_the_suggestion_and_fit_trains_as_without_it(capsys):
    net = Net()
    weights, lrs, _ = lightnings_own(net)
    before, finder, after = Stands(), LearningRateFinder(**SHORT), Stands()
    module, ours = fitted(net, before, finder, after)
    assert pickle.dumps(before.seen) == pickle.dumps(after.seen)
    said = capsys.readouterr().out
    assert f"lr {finder.suggestion.lr:.3g}" in said
    assert "valid for SGD, batches of 8, a constant lr over 18 updates" in said
    assert ours == lrs.tolist()
    assert all(torch.equal(v, weights[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 2, 0.5),
        lambda o: CosineAnnealingLR(o, 18),
        lambda o: OneCycleLR(o, LR, total_steps=19, cycle_momentum=False),
        lambda o: CyclicLR(o, LR / 4, LR, step_size_up=4, cycle_momentum=False),
        lambda o: SequentialLR(o, [LinearLR(o, 0.1, 1.0, 4), StepLR(o, 5)], [4]),
    ],
    ids=["step", "cosine", "one cycle", "cyclic", "warm-up"],
)
def test_the_lr_is_set_and_the_modules_own_schedule_with_it(make, interval):
    finder = LearningRateFinder(set_lr=True, **SHORT)
    _, lrs = fitted(Scheduled(make, interval), finder)
    _, before = fitted(Scheduled(make, interval))
    factor = lrs[0][0] / before[0][0]
    assert factor != pytest.approx(1)
    assert [row[0] for row in lrs] == pytest.approx([factor * row[0] for row in before])
    if "Cyclic" not in finder.suggestion.schedule:
        peak = max(row[0] for row in lrs)
        assert peak <= finder.suggestion.lr * (1 + 1e-9)


def test_groups_keep_their_ratio():
    finder = LearningRateFinder(set_lr=True, **SHORT)
    _, lrs = fitted(Net(), finder)
    lr = finder.suggestion.lr
    assert lrs == [pytest.approx([lr, lr / 10])] * (6 * EPOCHS)


def test_the_lr_stays_where_nothing_is_suggested(capsys):
    class Constant(Net):
        def training_step(self, batch, batch_idx):
            return 0 * super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.log("val_loss", torch.tensor(1.0))

    finder = LearningRateFinder(set_lr=True, **SHORT)
    _, lrs = fitted(Constant(), finder)
    assert finder.suggestion.lr is None
    assert "inconclusive" in capsys.readouterr().out
    assert lrs[0] == [LR, LR / 10]


def test_a_training_that_goes_on_from_a_checkpoint_is_not_tested(tmp_path, capsys):
    net, finder, path = Net(), LearningRateFinder(**SHORT), tmp_path / "last.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trainer(max_epochs=1)
        made.fit(net, *loaders())
        made.save_checkpoint(path)
        trainer(max_epochs=2, callbacks=[finder]).fit(net, *loaders(), ckpt_path=path)
    assert finder.suggestion is None
    assert "goes on from a checkpoint" in capsys.readouterr().out


def test_several_processes_are_refused():
    several = trainer(devices=2, strategy="ddp_spawn")
    with pytest.raises(InvalidArgument, match="in one process, but the Trainer has 2"):
        LearningRateFinder().on_train_start(several, Net())


def test_what_a_task_refuses_is_refused_before_the_first_update():
    class Manual(Net):
        automatic_optimization = False

    with pytest.raises(InvalidArgument, match="must be optimized automatically"):
        fitted(Manual(), LearningRateFinder(**SHORT))
