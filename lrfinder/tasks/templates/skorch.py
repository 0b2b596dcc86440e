"""The file of kind "skorch": a net and its data, which run as they are."""

TEMPLATE = '''\
"""A skorch net for lrfinder: which learning rate, and which decay?

    lrfinder find {name}      # the initial learning rate alone
    lrfinder run {name}       # range test, decay studies, comparison, report

Replace the module and the data with your own. Afterwards `lrfinder report DIR --code skorch` prints
the answer as an LRScheduler.
"""

import numpy as np
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from lrfinder import Task


class Classifier(nn.Module):
    """Your module."""

    def __init__(self, units=64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, units), nn.ReLU(), nn.Linear(units, 10))

    def forward(self, x):
        return self.layers(x)


def make_task():
    images, labels = load_digits(return_X_y=True)
    net = NeuralNetClassifier(
        Classifier,
        criterion=nn.CrossEntropyLoss,
        lr=0.01,
        optimizer__momentum=0.9,
        batch_size=64,
        max_epochs=10,
        iterator_train__shuffle=True,
    )
    return Task.from_skorch(net, (images / 16).astype(np.float32), labels.astype(np.int64))
'''
