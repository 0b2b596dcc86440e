"""The models of the leaderboard's tasks: small, and different in what makes an lr right."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these widths with the activation between them."""
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), activation()]
    return nn.Sequential(*layers[:-1])


def deep(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return an MLP without normalisation whose weights start at He's scale."""
    net = mlp(*sizes, activation=activation)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net


def cnn(channels: int, *, batch_norm: bool) -> nn.Sequential:
    """Return two convolutions and a linear layer: float[rows, 64] -> float[rows, 10]."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for into, out in ((1, channels), (channels, 2 * channels)):
        layers.append(nn.Conv2d(into, out, 3, stride=2, padding=1))
        layers += [nn.BatchNorm2d(out)] if batch_norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * channels, 10))


def normalised(*sizes: int) -> nn.Sequential:
    """Return an MLP with LayerNorm before every activation."""
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), nn.LayerNorm(out), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def denoiser() -> nn.Sequential:
    """Return a convolutional autoencoder: float[rows, 64] -> float[rows, 64]."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 2, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 2, stride=2),
        nn.Flatten(),
    )


class Residual(nn.Module):
    """Pre-normalised residual blocks over rows of features; one output."""

    def __init__(self, features: int, width: int, blocks: int) -> None:
        super().__init__()
        self.into = nn.Linear(features, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
            for _ in range(blocks)
        )
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the predictions: float[rows, 1]."""
        x = self.into(x)
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


class RowGRU(nn.Module):
    """A GRU that reads an 8x8 image row by row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(8, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, 10]."""
        states, _ = self.gru(x.unflatten(1, (8, 8)))
        return self.head(states[:, -1])


class CharTransformer(nn.Module):
    """One causal transformer block that predicts the next of `symbols` characters."""

    def __init__(self, symbols: int, length: int, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.symbol = nn.Embedding(symbols, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = mlp(width, 2 * width, width, activation=nn.GELU)
        self.out = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, length, symbols]."""
        x = self.symbol(x) + self.position
        x = x + self._attend(self.before_attention(x))
        x = x + self.mlp(self.before_mlp(x))
        return self.out(x)

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        length = scores.shape[-1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
        return self.mix(mixed.transpose(1, 2).flatten(2))


class CharGRU(nn.Module):
    """A GRU that predicts the next of `symbols` characters."""

    def __init__(self, symbols: int, width: int = 32) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, length, symbols]."""
        states, _ = self.gru(self.symbol(x))
        return self.out(states)


class NameLSTM(nn.Module):
    """An LSTM that sorts strings of `symbols` characters into `kinds`."""

    def __init__(self, symbols: int, kinds: int, width: int = 16) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(width, kinds)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, kinds]."""
        states, _ = self.lstm(self.symbol(x))
        return self.out(states.mean(dim=1))


class Factors(nn.Module):
    """A rating as the product of what is learnt of a user and of an item."""

    def __init__(self, users: int, items: int, width: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the ratings of pairs int64[rows, 2]: float[rows, 1]."""
        return (self.users(x[:, 0]) * self.items(x[:, 1])).sum(dim=1, keepdim=True)


class Shifted(nn.Module):
    """A net that sees images float[rows, 64] shifted by up to a pixel each way while it trains."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return what the net makes of the (shifted) images."""
        if self.training:
            down, right = torch.randint(-1, 2, (2,)).tolist()
            x = x.unflatten(1, (8, 8)).roll((down, right), (1, 2)).flatten(1)
        return self.net(x)


class WordGRU(CharGRU):
    """A GRU that predicts the next of so many words."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(vocabulary, width=48)


class CharLSTM(nn.Module):
    """An LSTM that predicts the next of `symbols` characters."""

    def __init__(self, symbols: int, width: int = 48) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, length, symbols]."""
        states, _ = self.lstm(self.symbol(x))
        return self.out(states)


class NameTransformer(CharTransformer):
    """The transformer as a classifier of strings, from the mean over their characters."""

    def __init__(self, symbols: int, length: int, kinds: int) -> None:
        super().__init__(symbols, length)
        self.out = nn.Linear(self.out.in_features, kinds)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: float[rows, kinds]."""
        return super().forward(x).mean(dim=1)


class LowRank(nn.Module):
    """A frozen linear layer and what is added to it: a product of two thin matrices (LoRA)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted layer's output."""
        return self.layer(x) + self.scale * (x @ self.down.T @ self.up.T)


def batch_normalised(*sizes: int) -> nn.Sequential:
    """Return an MLP with BatchNorm, of slow statistics, before every activation."""
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), nn.BatchNorm1d(out, momentum=0.05), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def bottleneck(width: int) -> nn.Sequential:
    """Return a convolutional autoencoder by way of so many numbers: float[rows, 64] both ways."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(128, width),
        nn.Linear(width, 128),
        nn.SiLU(),
        nn.Unflatten(1, (8, 4, 4)),
        nn.ConvTranspose2d(8, 1, 2, stride=2),
        nn.Flatten(),
    )
