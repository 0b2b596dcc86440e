"""A LightningModule trains in lrfinder as Lightning trains it, and stands as it stood."""

import copy
import warnings

import numpy as np
import pytest
import torch
from small_tasks import no_global_draw, plan
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

L = pytest.importorskip("lightning.pytorch")
torchmetrics = pytest.importorskip("torchmetrics")
ROWS, FEATURES, EPOCHS, LR = 48, 6, 3, 0.05


def rows(seed=0, count=ROWS):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=generator)
    return TensorDataset(x, (x[:, 0] + x[:, 1] > 0).long())


def loaders():
    """In the same order every epoch, so that both trainings see the same batches."""
    return DataLoader(rows(), 8), DataLoader(rows(1), 16)


class Net(L.LightningModule):
    """What most modules do: losses and metrics logged, an optimizer with groups."""

    def __init__(self, lr=LR):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh())
        self.head = nn.Linear(8, 2)
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=2)

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        output = self(x)
        self.accuracy(output, y)
        self.log("val_loss", nn.functional.cross_entropy(output, y))
        self.log_dict({"val/accuracy": self.accuracy, "wrong": (output.argmax(1) != y).sum()})

    def configure_optimizers(self):
        groups = [{"params": self.body.parameters()}]
        groups += [{"params": self.head.parameters(), "lr": self.hparams.lr / 10}]
        return torch.optim.SGD(groups, self.hparams.lr, momentum=0.9)


class Annealed(Net):
    """One that asks for where the training stands."""

    def training_step(self, batch, batch_idx):
        weight = 1 + self.global_step / self.trainer.estimated_stepping_batches
        return (
            weight
            * super().training_step(batch, batch_idx)
            * (1 + batch_idx / 10 + self.current_epoch)
        )


class Scheduled(Net):
    """One with a scheduler, stepped after every update."""

    def __init__(self, make, interval="step"):
        super().__init__()
        self.make, self.interval = make, interval

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), LR, momentum=0.9)
        scheduler = {"scheduler": self.make(optimizer), "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": {**scheduler, "monitor": "val_loss"}}


def trainer(**options):
    options = {"max_epochs": EPOCHS, **options}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        accelerator="cpu", enable_checkpointing=False, num_sanity_val_steps=0, **quiet, **options
    )


def lightnings_own(module, **options):
    """Weights, lrs of each update and validation losses of Lightning's training of a copy."""
    module, lrs, losses = copy.deepcopy(module), [], []

    class Watch(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            lrs.append([group["lr"] for group in optimizer.param_groups])

        def on_validation_epoch_end(self, trainer, module):
            losses.append(float(trainer.callback_metrics["val_loss"]))

    train, valid = loaders()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(callbacks=[Watch()], **options).fit(module, train, valid)
    return {k: v.clone() for k, v in module.state_dict().items()}, np.array(lrs), losses


def ours(module, schedule=None, lr=LR, seed=0, **options):
    """The same by lrfinder: the final weights and the history."""
    train, valid = loaders()
    task = Task.from_lightning(
        module, train_loader=train, valid_loader=valid, trainer=trainer(**options)
    )
    plans = [plan(lr, seed)] if schedule is None else [plan(lr, seed).__class__(lr, schedule, seed)]
    kept = {}

    class Keeping(SequentialTrainer):
        def advance(self, state, lrs):
            losses = super().advance(state, lrs)
            kept.update(state.runs[0].model.state_dict())
            return losses

    return kept, fit(task, plans, trainer=Keeping()), task


@pytest.mark.parametrize("kind", [Net, Annealed])
@pytest.mark.parametrize(
    "options", [{}, {"gradient_clip_val": 0.05}, {"accumulate_grad_batches": 2, "max_epochs": 2}]
)
def test_training_is_bitwise_lightnings_own(kind, options):
    torch.manual_seed(0)
    module = kind()
    theirs, lrs, losses = lightnings_own(module, **options)
    weights, history, task = ours(module, **options)
    assert weights.keys() == theirs.keys()
    assert all(torch.equal(weights[k], theirs[k]) for k in theirs)
    np.testing.assert_array_equal(history.lr[0], lrs)
    np.testing.assert_allclose(history.measures["loss"][0][1:], losses, rtol=1e-6)
    assert task.baseline.lr == LR


def test_lr_moves_all_groups_and_shows_in_the_training():
    torch.manual_seed(0)
    theirs, lrs, _ = lightnings_own(Net(0.2))
    torch.manual_seed(0)
    weights, history, _ = ours(Net(0.4), lr=0.2)
    np.testing.assert_allclose(history.lr[0], lrs)
    assert all(torch.allclose(weights[k], theirs[k]) for k in theirs)


SCHEDULERS = {
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, 0.3, total_steps=30, cycle_momentum=False
    ),
    "warm-up": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=4),
            torch.optim.lr_scheduler.CosineAnnealingLR(o, 20),
        ],
        [4],
    ),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_scheduler_of_configure_optimizers_is_the_baseline(kind):
    torch.manual_seed(0)
    module = Scheduled(SCHEDULERS[kind])
    theirs, lrs, _ = lightnings_own(module)
    _, _, task = ours(module)
    weights, history, _ = ours(module, task.baseline.schedule, task.baseline.lr)
    np.testing.assert_allclose(history.lr[0], lrs, rtol=1e-12)
    assert all(torch.allclose(weights[k], theirs[k], atol=1e-6) for k in theirs)


def test_plateau_of_configure_optimizers_is_the_baseline():
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    module = Scheduled(lambda o: plateau(o, factor=0.5, patience=0, threshold=10), "epoch")
    _, lrs, _ = lightnings_own(module)
    _, _, task = ours(module)
    _, history, _ = ours(module, task.baseline.schedule, task.baseline.lr)
    np.testing.assert_allclose(history.lr[0], lrs, rtol=1e-12)
    assert len(np.unique(lrs)) > 1


def test_a_cycled_momentum_is_put_back():
    module = Scheduled(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=30))
    *_, task = ours(module)
    optimizer = task.optimizer(task.model(), 0.1)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert task.baseline.lr == 0.3


def test_baseline_at_another_lr_keeps_its_shape():
    module = Scheduled(SCHEDULERS["warm-up"])
    *_, task = ours(module)
    low, high = (task.baseline.schedule.rows([lr], 24).ravel() for lr in (0.1, 1.0))
    np.testing.assert_allclose(high, 10 * low)
    assert low.max() == pytest.approx(0.1)


def test_metrics_are_what_validation_logs():
    _, history, task = ours(Net())
    assert task.measures == ("loss", "val_accuracy", "wrong")
    model, (x, y) = task.model(), rows(1).tensors
    model.eval()
    right = (model(x).argmax(1) == y).float().mean()
    assert history.measures["val_accuracy"][0][0] == pytest.approx(right.item())


def test_nothing_of_the_callers_is_changed():
    torch.manual_seed(0)
    train, valid = loaders()
    module = Net()
    module.body[0].requires_grad_(False)
    before = copy.deepcopy(module)
    attributes = dict(vars(module))
    with no_global_draw(), warnings.catch_warnings():
        warnings.simplefilter("error")
        task = Task.from_lightning(module, train_loader=train, valid_loader=valid, epochs=EPOCHS)
        range_test(task, steps=9, seeds=1, max_lr=1.0, probes=0)
        fit(task, [plan(0.01, seed) for seed in (0, 1)])
    after, states = module.state_dict(), before.state_dict()
    assert all(torch.equal(after[k], states[k]) for k in states)
    assert vars(module).keys() == attributes.keys()
    assert all(vars(module)[k] is attributes[k] for k in attributes)
    assert all(p.grad is None for p in module.parameters())
    assert module._trainer is None


def test_a_module_without_counts_can_be_batched():
    class Plain(Net):
        def __init__(self):
            super().__init__()
            del self.accuracy

        def validation_step(self, batch):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

    _, history, task = ours(Plain())
    batched = fit(task, [plan(LR, 0)], trainer=BatchedTrainer())
    np.testing.assert_allclose(batched.train_loss, history.train_loss, rtol=1e-4)


class Data(L.LightningDataModule):
    """A data module that makes its data sets when it is set up."""

    def setup(self, stage):
        assert stage == "fit"
        self.train, self.valid = loaders()

    def train_dataloader(self):
        return self.train

    def val_dataloader(self):
        return [self.valid]


def test_a_data_module_is_set_up_on_a_copy():
    data = Data()
    task = Task.from_lightning(Net(), data, epochs=2)
    assert task.update_rows == 8
    assert task.valid is not None
    assert not hasattr(data, "train")


def test_length_is_that_of_the_trainer():
    train, valid = loaders()

    def made(**options):
        task = Task.from_lightning(
            Net(), train_loader=train, valid_loader=valid, trainer=trainer(**options)
        )
        return task.epochs * task.data().updates_per_epoch

    assert made(max_epochs=4) == 24
    assert made(max_epochs=4, accumulate_grad_batches=4) == 8
    assert made(max_epochs=-1, max_steps=15) == 16  # whole epochs
    assert made(max_epochs=2, limit_train_batches=4) == 8
    assert made(max_epochs=2, limit_train_batches=0.5) == 6


def changed(kind=Net, **methods):
    return type("Changed", (kind,), methods)()


BAD = {
    "must have a validation_step": lambda: _without("validation_step"),
    "must have a training_step": lambda: _without("training_step"),
    "automatic_optimization": lambda: changed(automatic_optimization=False),
    "leave backward to Lightning": lambda: changed(backward=lambda self, loss: None),
    "must be a LightningModule, but got a Linear": lambda: nn.Linear(2, 2),
    "one torch optimizer, but got 2": lambda: changed(
        configure_optimizers=lambda self: [torch.optim.SGD(self.parameters(), 1.0)] * 2
    ),
    "one torch optimizer, but got none": lambda: changed(configure_optimizers=lambda self: None),
    "logs wrong; name it with valid_loss": lambda: changed(
        validation_step=lambda self, batch, batch_idx: self.log("wrong", 1.0)
    ),
    "logs nothing; return it there": lambda: changed(
        validation_step=lambda self, batch, batch_idx: None
    ),
    "not known here; give Task.from_lightning": lambda: changed(
        configure_optimizers=lambda self: self.trainer.strategy
    ),
}


def _without(name):
    module = Net()
    kind = type("Without", (L.LightningModule,), {})
    own = {k: v for k, v in vars(Net).items() if callable(v) and k not in ("__init__", name)}
    for key, value in own.items():
        setattr(kind, key, value)
    module.__class__ = kind
    return module


@pytest.mark.parametrize("says", BAD)
def test_bad_modules_are_told_in_one_line(says):
    train, valid = loaders()
    with pytest.raises(Exception, match=says) as raised:
        Task.from_lightning(BAD[says](), train_loader=train, valid_loader=valid, epochs=2)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("says", "given"),
    [
        ("neither epochs nor a Trainer", {}),
        ("clip by norm", {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}),
        ("precision must be", {"precision": "64-true"}),
    ],
)
def test_bad_settings_are_told_in_one_line(says, given):
    train, valid = loaders()
    with pytest.raises(InvalidArgument, match=says) as raised:
        Task.from_lightning(
            Net(),
            train_loader=train,
            valid_loader=valid,
            trainer=trainer(**given) if given else None,
        )
    assert "\n" not in str(raised.value)


class Stream(IterableDataset):
    """Rows without a length."""

    def __iter__(self):
        return iter(rows())


def test_the_length_of_a_stream_is_told_or_asked_for():
    given = {"train_loader": DataLoader(Stream(), 8), "valid_loader": loaders()[1]}
    with pytest.raises(InvalidArgument, match=r"of unknown length; give steps_per_epoch="):
        Task.from_lightning(Net(), epochs=2, **given)
    told = [
        Task.from_lightning(Net(), epochs=3, steps_per_epoch=4, **given),
        Task.from_lightning(Net(), trainer=trainer(max_epochs=3, limit_train_batches=4), **given),
    ]
    for task in told:
        assert (task.epochs, task.data().updates_per_epoch) == (3, 4)
        assert len(fit(task, [plan(LR)]).lr[0]) == 12


def test_a_compiled_module_trains_as_the_module_itself():
    torch.manual_seed(0)
    net = Net()
    compiled = ours(torch.compile(net, backend="eager"))[1]
    np.testing.assert_array_equal(compiled.train_loss, ours(net)[1].train_loss)


def test_a_module_without_data_is_told():
    with pytest.raises(InvalidArgument, match="datamodule or train_loader"):
        Task.from_lightning(Net(), epochs=2)
    with pytest.raises(InvalidArgument, match="got both"):
        Task.from_lightning(Net(), Data(), train_loader=loaders()[0], epochs=2)
