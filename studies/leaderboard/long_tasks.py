"""The leaderboard's long tasks for tuning: 2,000 to 16,000 updates.

What a test of a few hundred updates cannot see is in them: what is learnt late, after the
frequencies of classes or words; over-fitting; targets far from 0; a best lr that falls with the
length of the training, or does not.
"""

import numpy as np
import torch
from sklearn import datasets
from torch import nn

from lrfinder import Task
from studies.leaderboard.data import (
    SYMBOLS,
    classes,
    digits,
    kinds_of_names,
    mislabelled,
    names,
    numbers,
    ratings,
    words,
)
from studies.leaderboard.entries import (
    adam,
    adamw,
    decayed,
    entries,
    made,
    momentum,
    next_symbol,
    rmsprop,
    sgd,
)
from studies.leaderboard.models import (
    CharTransformer,
    Factors,
    NameTransformer,
    Shifted,
    WordGRU,
    cnn,
    deep,
    denoiser,
    mlp,
    normalised,
)


def _long_mlp() -> Task:
    return made(digits(), lambda: mlp(64, 128, 10), sgd, 32, 60)


def _augmented_cnn() -> Task:
    return made(digits(), lambda: Shifted(cnn(8, batch_norm=True)), momentum, 64, 130)


def _char_lm() -> Task:
    split = names(length=24, rows=4000)
    return made(split, lambda: CharTransformer(len(SYMBOLS), 24), adamw, 16, 10, next_symbol)


def _word_lm() -> Task:
    split, vocabulary = words(length=8, rows=1600)
    return made(split, lambda: WordGRU(vocabulary), sgd, 16, 30, next_symbol)


def _teacher() -> Task:
    random = np.random.default_rng(0)
    x = random.normal(size=(5120, 20))
    teacher = [random.normal(size=shape) / shape[0] ** 0.5 for shape in ((20, 32), (32, 1))]
    y = np.tanh(1.5 * x @ teacher[0]) @ teacher[1] + random.normal(0.0, 0.1, (5120, 1))
    return made(numbers(x, y), lambda: mlp(20, 64, 64, 1), adam, 32, 40, nn.MSELoss())


def _large_targets() -> Task:
    x, y = datasets.make_friedman1(2500, 10, noise=1.0, random_state=0)
    split = numbers(x, 5000 + 100 * y)
    return made(split, lambda: mlp(10, 64, 64, 1), adamw, 32, 60, nn.MSELoss())


def _late_deep() -> Task:
    return made(digits(), lambda: deep(64, *[32] * 7, 10), momentum, 32, 100)


def _overfitted() -> Task:
    x, y = datasets.make_classification(
        1000, 30, n_informative=12, n_classes=4, flip_y=0.3, random_state=2
    )
    train, valid = classes(x, y)
    train = torch.utils.data.TensorDataset(*(part[:400] for part in train.tensors))
    return made((train, valid), lambda: mlp(30, 256, 4), adam, 16, 120)


def _long_factors() -> Task:
    return made(ratings(120, 80), lambda: Factors(120, 80, 4), sgd, 16, 36, nn.MSELoss())


def _tabular() -> Task:
    x, y = datasets.make_classification(
        6000, 40, n_informative=15, n_classes=5, n_clusters_per_class=4, random_state=3
    )
    return made(classes(x, y), lambda: normalised(40, 64, 64, 5), decayed, 16, 20)


def _name_transformer() -> Task:
    split = kinds_of_names(length=16, rows=4000)
    return made(split, lambda: NameTransformer(len(SYMBOLS), 16, 4), adam, 16, 16)


def _long_denoising() -> Task:
    x, _ = datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(0.0, 0.4, x.shape)
    return made(numbers(x / 16 + noise, x / 16), denoiser, rmsprop, 32, 70, nn.MSELoss())


def _mislabelled_long() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    split = classes(x / 8 - 1, mislabelled(y, 0.25))
    return made(split, lambda: mlp(64, 64, 10), momentum, 16, 30)


LONG = entries(
    "long",
    ("long_mlp", _long_mlp, "MLP on digits, SGD, 60 epochs"),
    ("augmented_cnn", _augmented_cnn, "CNN with BatchNorm, shifted images, momentum"),
    ("char_lm", _char_lm, "transformer on characters of text, AdamW"),
    ("word_lm", _word_lm, "GRU on words of text, SGD: word frequencies come first"),
    ("teacher", _teacher, "regression on a noisy teacher net, Adam"),
    ("large_targets", _large_targets, "Friedman's regression, targets about 6400, AdamW"),
    ("late_deep", _late_deep, "8 layers without normalisation, momentum: learns late"),
    ("overfitted", _overfitted, "400 rows, 30% of labels redrawn, wide MLP, Adam"),
    ("long_factors", _long_factors, "matrix factorisation, batches of 16, SGD"),
    ("tabular", _tabular, "LayerNorm MLP on 20 clusters in 5 classes, AdamW"),
    ("name_transformer", _name_transformer, "transformer that sorts names, Adam"),
    ("long_denoising", _long_denoising, "denoising convolutions, RMSprop"),
    ("mislabelled_long", _mislabelled_long, "MLP, a quarter of labels redrawn, momentum"),
)
