"""The file of kind "lightning": a LightningModule and its data, which run as they are."""

TEMPLATE = '''\
"""A LightningModule for lrfinder: which learning rate, and which decay?

    lrfinder find {name}      # the initial learning rate alone
    lrfinder run {name}       # range test, decay studies, comparison, report

Replace the module and the data with your own. Afterwards `lrfinder report DIR --code lightning`
prints the answer as configure_optimizers.
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Task


class Digits(L.LightningDataModule):
    """Your data: here 8x8 images of digits."""

    def setup(self, stage):
        images, labels = load_digits(return_X_y=True)
        x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        self.train, self.valid = (
            TensorDataset(x[rows], y[rows]) for rows in (order[:1400], order[1400:])
        )

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid, batch_size=256)


class Classifier(L.LightningModule):
    """Your module."""

    def __init__(self, lr=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        output = self.layers(x)
        self.log("val_loss", nn.functional.cross_entropy(output, y))  # by which decays are compared
        self.log("accuracy", (output.argmax(dim=1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


def make_task():
    L.seed_everything(0, verbose=False)  # the weights that every training begins with
    # trainer=Trainer(...) gives its clipping, accumulation and precision
    return Task.from_lightning(Classifier(), Digits(), epochs=10)
'''
