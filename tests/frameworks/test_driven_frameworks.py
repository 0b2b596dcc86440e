"""A framework's own training stands in a loop as it is, and is driven."""

import random
import warnings

import numpy as np
import pytest
import torch
from small_tasks import plan
from test_from_lightning import L, loaders, trainer
from torch import nn

from lrfinder import Loop
from lrfinder.training.fit import fit

LR, EPOCHS = 0.05, 2


class Game(L.LightningModule):
    """Two optimizers, stepped by hand."""

    def __init__(self, training):
        super().__init__()
        self.automatic_optimization = False
        self.training_handed = training
        self.maker, self.judge = nn.Linear(3, 6), nn.Linear(6, 1)

    def configure_optimizers(self):
        of_maker = torch.optim.SGD(self.maker.parameters(), LR)
        of_judge = torch.optim.SGD(self.judge.parameters(), LR / 5, momentum=0.5)
        self.training_handed.drive(maker=of_maker, judge=of_judge)
        return of_maker, of_judge

    def training_step(self, batch, batch_idx):
        of_maker, of_judge = self.optimizers()
        made = self.maker(torch.randn(len(batch[0]), 3))
        loss = (self.judge(made.detach()) ** 2).mean() - self.judge(batch[0]).mean()
        of_judge.zero_grad()
        self.manual_backward(loss)
        of_judge.step()
        of_maker.zero_grad()
        self.manual_backward(-self.judge(made).mean())
        of_maker.step()
        self.training_handed.log(loss)


def lightnings_loop(training):
    game = Game(training)
    training.measure(lambda: game.judge(torch.ones(4, 6)).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(max_epochs=training.epochs).fit(game, loaders()[0])


def accelerates_loop(training):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loaders()[0])
    training.drive(optimizer)
    training.measure(lambda: model(torch.ones(4, 6)).mean())
    for _ in range(training.epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = ((model(x)[:, 0] - y) ** 2).mean()
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                training.log(loss)


class Plain:
    """What a loop is handed where nothing drives it."""

    epochs = EPOCHS

    def __init__(self):
        self.losses = []

    def drive(self, *optimizers, **named):
        pass

    def measure(self, function):
        pass

    def log(self, loss):
        self.losses.append(loss.item())


@pytest.mark.parametrize("train", [lightnings_loop, accelerates_loop])
def test_it_trains_as_the_framework_does_at_the_lr_it_was_built_with(train):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    alone = Plain()
    train(alone)
    history = fit(Loop(train, epochs=EPOCHS), [plan(LR)])
    assert history.train_loss[0].tolist() == alone.losses
    assert history.lr[0].max() == LR
    other = fit(Loop(train, epochs=EPOCHS), [plan(LR / 3)])
    assert other.train_loss[0, 0] == alone.losses[0]
    assert other.train_loss[0, -1] != alone.losses[-1]
