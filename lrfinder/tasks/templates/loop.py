"""The file of kind "loop": a commented training loop that runs as it is."""

TEMPLATE = '''\
"""A training loop for lrfinder: which learning rate, and which decay, for this program?

    lrfinder find {name}      # the initial learning rate alone
    lrfinder run {name}       # range test, decay studies, comparison, report

Replace the body of train() with your own program: what it does is up to it. lrfinder calls it once
per training, under a seed, sets the learning rates in front of every step of the optimizers that it
drives, and leaves the loop where a training ends.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Loop


def spirals(rows, generator):
    """Your data: here two noisy spirals, x float[rows, 2] and y int[rows]."""
    y = torch.randint(2, (rows,), generator=generator)
    t = torch.rand(rows, generator=generator).sqrt() * 6
    angle = t + torch.pi * y
    x = torch.stack([t * torch.cos(angle), t * torch.sin(angle)], dim=1) / 4
    return TensorDataset(x + 0.08 * torch.randn(rows, 2, generator=generator), y)


fixed = torch.Generator().manual_seed(0)  # the data stay the same; seeds vary the training
TRAIN, VALID = spirals(800, fixed), spirals(400, fixed)


def evaluate(model):
    x, y = VALID.tensors
    model.eval()
    with torch.no_grad():
        output = model(x)
    accuracy = (output.argmax(dim=1) == y).float().mean()
    return {{"valid_loss": nn.functional.cross_entropy(output, y), "accuracy": accuracy}}


def train(training):
    # Build everything in here: every training begins anew.
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TRAIN, batch_size=64, shuffle=True)

    training.drive(optimizer)  # several optimizers: training.drive(first, second); ratios are kept
    training.measure(lambda: evaluate(model))  # called by lrfinder; random states are put back

    for epoch in range(training.epochs):  # by steps: range(training.updates), see below
        model.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            training.log(loss)  # once per update, after the step


loop = Loop(
    train,
    epochs=15,  # the length of a training, over which a decay decays
    # steps_per_epoch=13,  # where an epoch has no end, or takes long to count
    # baseline=1e-3,  # what you use today, always compared
)
'''
"""Text of the file; {name} is its name."""
