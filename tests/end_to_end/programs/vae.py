"""A variational autoencoder as in the examples of PyTorch: losses are summed over the batch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Task


def pictures(count, seed):
    """Bars of a random place and slope, in 64 pixels."""
    generator = torch.Generator().manual_seed(seed)
    where, slope = torch.rand(2, count, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), indexing="ij")
    return TensorDataset(torch.exp(-20 * (y - where - (slope - 0.5) * x) ** 2).flatten(1))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8))
        self.decode = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x):
        mean, log_var = self.encode(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        return self.decode(z), mean, log_var


def loss(model, batch):
    (x,) = batch
    output, mean, log_var = model(x)
    seen = nn.functional.binary_cross_entropy_with_logits(output, x, reduction="sum")
    return seen - 0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()


def make_task():
    return Task(
        model=VAE,
        train=DataLoader(pictures(512, 0), batch_size=32, shuffle=True, drop_last=True),
        valid=DataLoader(pictures(128, 1), batch_size=32),
        loss=loss,
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        epochs=8,
    )
