"""LBFGS, whose step evaluates a closure as often as it needs to.

    lrfinder find studies/examples/lbfgs_loop.py

One update sees all rows, so that an epoch is one update.
"""

import torch
from sklearn.datasets import load_diabetes
from torch import nn

import lrfinder

data = load_diabetes()
x = torch.tensor(data.data, dtype=torch.float32)
x, y = x / x.std(), torch.tensor(data.target, dtype=torch.float32)[:, None] / 100
TRAIN, VALID = slice(0, 300), slice(300, None)


def train(training):
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    mse = nn.functional.mse_loss

    @torch.no_grad()
    def evaluate():
        return {"valid_loss": mse(model(x[VALID]), y[VALID])}

    training.drive(optimizer)
    training.measure(evaluate)

    def closure():
        optimizer.zero_grad()
        penalty = sum(p.square().sum() for p in model.parameters())
        loss = mse(model(x[TRAIN]), y[TRAIN]) + 0.01 * penalty
        loss.backward()
        return loss

    for _ in range(training.epochs):
        training.log(optimizer.step(closure))


loop = lrfinder.Loop(train, epochs=60, steps_per_epoch=1)

if __name__ == "__main__":
    print(lrfinder.range_test(loop).suggest())
