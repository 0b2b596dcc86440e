"""The leaderboard's short tasks: small trainings whose best lrs lie from 1e-5 to 1.

They are chosen to differ in what moves the best lr or blurs the curve: architecture, optimizer,
batch size, noise, scale of loss, inputs and targets, given weights. A task marked `held_out` is
never used to choose a rule or a constant; results on those tasks are reported apart.
"""

import copy
from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lrfinder import Task
from studies.leaderboard.data import (
    SYMBOLS,
    Split,
    classes,
    digits,
    kinds_of_names,
    mislabelled,
    names,
    numbers,
    ratings,
    standardised,
)
from studies.leaderboard.entries import (
    Entry,
    adam,
    adamw,
    decayed,
    made,
    momentum,
    nesterov,
    next_symbol,
    rmsprop,
    sgd,
)
from studies.leaderboard.models import (
    CharGRU,
    CharTransformer,
    Factors,
    NameLSTM,
    Residual,
    RowGRU,
    cnn,
    deep,
    denoiser,
    mlp,
    normalised,
)


def _thousandfold(output: Tensor, target: Tensor) -> Tensor:
    return 1000 * nn.functional.cross_entropy(output, target)


def _mlp_sgd() -> Task:
    return made(digits(), lambda: mlp(64, 64, 10), sgd, 64, 12)


def _mlp_adam() -> Task:
    x, y = datasets.make_classification(
        2000, 20, n_informative=8, n_classes=3, flip_y=0.02, random_state=0
    )
    return made(classes(x, y), lambda: mlp(20, 64, 3), adam, 64, 12)


def _cnn_batch_norm() -> Task:
    return made(digits(), lambda: cnn(8, batch_norm=True), momentum, 64, 10)


def _cnn_plain() -> Task:
    return made(digits(), lambda: cnn(8, batch_norm=False), adam, 64, 10)


def _deep() -> Task:
    return made(digits(), lambda: deep(64, *[32] * 8, 10), momentum, 64, 12)


def _transformer() -> Task:
    split = names(length=16, rows=1600)
    return made(split, lambda: CharTransformer(len(SYMBOLS), 16), adamw, 16, 3, next_symbol)


def _char_gru() -> Task:
    split = names(length=16, rows=1600)
    return made(split, lambda: CharGRU(len(SYMBOLS)), adam, 16, 3, next_symbol)


def _autoencoder() -> Task:
    x, _ = datasets.load_digits(return_X_y=True)
    return made(numbers(x / 16, x / 16), lambda: mlp(64, 32, 8, 32, 64), adam, 64, 12, nn.MSELoss())


def _regression() -> Task:
    x, y = datasets.load_diabetes(return_X_y=True)
    split = numbers(standardised(x), standardised(y))
    return made(split, lambda: mlp(10, 32, 1), momentum, 32, 25, nn.MSELoss())


def _raw_targets() -> Task:
    x, y = datasets.load_diabetes(return_X_y=True)
    return made(numbers(standardised(x), y), lambda: mlp(10, 32, 1), adam, 32, 30, nn.MSELoss())


def _raw_inputs() -> Task:
    split = classes(*datasets.load_wine(return_X_y=True))
    return made(split, lambda: mlp(13, 32, 3), rmsprop, 16, 30)


def _label_noise() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    split = classes(x / 16, mislabelled(y, 0.3))
    return made(split, lambda: mlp(64, 64, 10), adamw, 64, 10)


def _tiny_batches() -> Task:
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return made(classes(standardised(x), y), lambda: mlp(30, 16, 2), sgd, 2, 2)


def _large_loss() -> Task:
    return made(digits(), lambda: mlp(64, 64, 10), sgd, 64, 12, _thousandfold)


def _summed_loss() -> Task:
    x, y = datasets.load_wine(return_X_y=True)
    total = nn.CrossEntropyLoss(reduction="sum")
    return made(classes(standardised(x), y), lambda: mlp(13, 32, 3), momentum, 16, 25, total)


def _fine_tuning() -> Task:
    body, split = _trained_body(), _late_digits()
    return made(split, lambda: _with_head(body), adam, 16, 20)


@cache
def _trained_body() -> nn.Sequential:
    """Features learnt from 1000 clean images; the same in every process."""
    x, y = datasets.load_digits(return_X_y=True)
    images, labels = torch.tensor(x[:1000] / 16).float(), torch.tensor(y[:1000])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = mlp(64, 64, 64, 10)
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net[:-1]


def _with_head(body: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*copy.deepcopy(body), nn.Linear(64, 10))


def _late_digits() -> Split:
    """240 noisy training images by writers that the body has not seen, and the rest."""
    x, y = datasets.load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.tensor(x[1000:] / 16).float()
    images += 0.3 * torch.randn(images.shape, generator=generator)
    labels = torch.tensor(y[1000:])
    return TensorDataset(images[:240], labels[:240]), TensorDataset(images[240:], labels[240:])


def _moons() -> Task:
    x, y = datasets.make_moons(600, noise=0.15, random_state=0)
    return made(classes(x, y), lambda: mlp(2, 32, 32, 2), momentum, 4, 4)


def _row_gru() -> Task:
    return made(digits(), lambda: RowGRU(32), rmsprop, 64, 12)


def _residual() -> Task:
    x, y = datasets.make_friedman1(1200, 10, noise=1.0, random_state=0)
    split = numbers(x, y)
    return made(split, lambda: Residual(10, 32, 3), adamw, 32, 12, nn.HuberLoss())


def _noisy_cnn() -> Task:
    x, y = datasets.load_digits(return_X_y=True)
    split = classes(x / 16, mislabelled(y, 0.2))
    return made(split, lambda: cnn(8, batch_norm=True), adam, 32, 6)


def _deep_tanh() -> Task:
    split = classes(*datasets.make_classification(1500, 20, n_informative=10, random_state=1))
    return made(split, lambda: deep(20, *[32] * 6, 2, activation=nn.Tanh), sgd, 32, 10)


def _quantiles() -> Task:
    split = classes(*datasets.make_gaussian_quantiles(n_samples=1500, n_classes=4, random_state=0))
    return made(split, lambda: mlp(2, 48, 48, 4), nesterov, 32, 30)


def _odd_targets() -> Task:
    x, y = datasets.make_friedman2(1200, noise=50.0, random_state=0)
    split = numbers(standardised(x), y / 50)
    return made(split, lambda: mlp(4, 32, 32, 1), sgd, 32, 12, nn.MSELoss())


def _name_lstm() -> Task:
    split = kinds_of_names(length=10, rows=1200)
    return made(split, lambda: NameLSTM(len(SYMBOLS), 4), adam, 32, 9)


def _smoothed_labels() -> Task:
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    return made(digits(), lambda: mlp(64, 256, 10), decayed, 16, 4, smooth)


def _batches_of_8() -> Task:
    x, y = datasets.make_hastie_10_2(2000, random_state=0)
    split = classes(x, (y > 0).astype(int))
    return made(split, lambda: normalised(10, 32, 32, 2), momentum, 8, 4)


def _whole_fine_tuning() -> Task:
    body, split = _trained_body(), _late_digits()
    return made(split, lambda: _with_head(body), momentum, 8, 12)


def _denoising() -> Task:
    x, _ = datasets.load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(0.0, 0.4, x.shape)
    return made(numbers(x / 16 + noise, x / 16), denoiser, rmsprop, 32, 9, nn.L1Loss())


def _factors() -> Task:
    return made(ratings(60, 40), lambda: Factors(60, 40, 4), sgd, 16, 10, nn.MSELoss())


SHORT: Mapping[str, Entry] = {
    "mlp_sgd": Entry(_mlp_sgd, "MLP on digits, SGD"),
    "mlp_adam": Entry(_mlp_adam, "MLP on 3 synthetic classes, Adam"),
    "cnn_batchnorm": Entry(_cnn_batch_norm, "CNN with BatchNorm on digits, SGD with momentum"),
    "cnn_plain": Entry(_cnn_plain, "CNN without normalisation on digits, Adam"),
    "deep": Entry(_deep, "9 layers without normalisation on digits, SGD with momentum"),
    "transformer": Entry(_transformer, "transformer on characters of text, AdamW"),
    "char_gru": Entry(_char_gru, "GRU on characters of text, Adam"),
    "autoencoder": Entry(_autoencoder, "autoencoder of digits, Adam"),
    "regression": Entry(_regression, "MLP on diabetes, standardised, SGD with momentum"),
    "raw_targets": Entry(_raw_targets, "MLP on diabetes, targets up to 346, Adam"),
    "raw_inputs": Entry(_raw_inputs, "MLP on wine, inputs up to 1680, RMSprop"),
    "label_noise": Entry(_label_noise, "MLP on digits, 30% of labels redrawn, AdamW"),
    "tiny_batches": Entry(_tiny_batches, "MLP on breast cancer, batches of 2, SGD"),
    "loss_x1000": Entry(_large_loss, "MLP on digits, loss times 1000, SGD"),
    "summed_loss": Entry(_summed_loss, "MLP on wine, loss summed over rows, SGD with momentum"),
    "fine_tuning": Entry(_fine_tuning, "trained features, new head, noisy digits, Adam"),
    "batches_of_4": Entry(_moons, "MLP on two moons, batches of 4, SGD with momentum"),
    "row_gru": Entry(_row_gru, "GRU over the rows of digits, RMSprop"),
    "residual": Entry(_residual, "residual net on Friedman's regression, Huber, AdamW"),
    "noisy_cnn": Entry(_noisy_cnn, "CNN with BatchNorm, 20% of labels redrawn, Adam"),
    "deep_tanh": Entry(_deep_tanh, "7 tanh layers without normalisation, SGD"),
    "quantiles": Entry(_quantiles, "MLP on rings of a Gaussian, SGD with Nesterov", True),
    "odd_targets": Entry(_odd_targets, "MLP on Friedman's second, targets up to 38, SGD", True),
    "name_lstm": Entry(_name_lstm, "LSTM that sorts names of characters, Adam", True),
    "smoothed_labels": Entry(_smoothed_labels, "wide MLP, smoothed labels, AdamW", True),
    "batches_of_8": Entry(_batches_of_8, "LayerNorm MLP, batches of 8, SGD with momentum", True),
    "whole_fine_tuning": Entry(_whole_fine_tuning, "fine-tuning, batches of 8, momentum", True),
    "denoising": Entry(_denoising, "denoising convolutions, L1 loss, RMSprop", True),
    "factors": Entry(_factors, "matrix factorisation, batches of 16, SGD", True),
}
