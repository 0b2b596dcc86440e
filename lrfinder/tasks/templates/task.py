"""The file of kind "task": a commented task that runs as it is."""

TEMPLATE = '''\
"""A task for lrfinder: which learning rate, and which decay, for this model and these data?

    lrfinder find {name}      # the initial learning rate alone
    lrfinder run {name}       # range test, decay studies, comparison, report

Replace the model, the data and the loss with your own. make_task() builds everything afresh;
lrfinder calls it, and the two factories in it, once per run and seed.
"""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder import Task


class Net(nn.Module):
    """Your model."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))

    def forward(self, x):
        return self.layers(x)


def spirals(rows, generator):
    """Your data: here two noisy spirals, x float[rows, 2] and y int[rows]."""
    y = torch.randint(2, (rows,), generator=generator)
    t = torch.rand(rows, generator=generator).sqrt() * 6
    angle = t + torch.pi * y
    x = torch.stack([t * torch.cos(angle), t * torch.sin(angle)], dim=1) / 4
    return TensorDataset(x + 0.08 * torch.randn(rows, 2, generator=generator), y)


def accuracy(output, target):
    return (output.argmax(dim=1) == target).float().mean()


def make_task():
    generator = torch.Generator().manual_seed(0)  # the data stay the same; seeds vary the training
    return Task(
        model=Net,  # a function that builds the model; called under the seed of each run
        train=spirals(800, generator),  # TensorDataset (fastest), any Dataset, or a DataLoader
        valid=spirals(400, generator),  # held-out data, by which decays are compared
        criterion=nn.CrossEntropyLoss(),  # criterion(model(x), y)
        # loss=lambda model, batch: model(**batch).loss,   # instead, for batches of another form
        # forward=lambda model, batch: model(**batch),   # then the others take (output, batch)
        # valid_loss=nn.CrossEntropyLoss(),   # where training has label smoothing or a penalty
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        metrics={{"accuracy": accuracy}},  # recorded beside the loss
        # evaluate=lambda model: {{"f1": f1_of(model)}},   # what is no mean of batches
        batch_size=64,
        epochs=15,  # the length of a training run, over which a decay decays
        # batches=lambda: get_batch("train"), updates=5000,   # instead of train and epochs
        # clip_norm=1.0, accumulate=4, autocast=torch.bfloat16 or torch.float16,
        # baseline=(1e-3, lambda optimizer: StepLR(optimizer, 5)),  # what you use today, or get_lr
    )
'''
"""Text of the file; {name} is its name."""
