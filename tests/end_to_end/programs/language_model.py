"""Next symbols of an endless text: an LSTM whose state is carried from batch to batch, clipped."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lrfinder import Task

SYMBOLS, STREAMS, LENGTH = 12, 16, 12


def text(count, seed):
    """A chain in which each symbol follows mostly from the two before it."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, generator=generator)
    wild = torch.randint(SYMBOLS, (count,), generator=generator).tolist()
    symbols = [0, 1]
    for i in range(2, count):
        symbols.append(
            (symbols[-1] + 2 * symbols[-2] + 1) % SYMBOLS if noise[i] > 0.15 else wild[i]
        )
    return torch.tensor(symbols)


class Windows(Dataset):
    """Window i goes on where window i - 1 ended, in every stream."""

    def __init__(self, count, seed):
        self.streams = text(STREAMS * (count * LENGTH + 1), seed).reshape(STREAMS, -1)
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        window = self.streams[:, index * LENGTH : (index + 1) * LENGTH + 1]
        return {"first": index == 0, "x": window[:, :-1], "y": window[:, 1:]}


class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, 24)
        self.lstm = nn.LSTM(24, 48, batch_first=True)
        self.head = nn.Linear(48, SYMBOLS)
        self.state = None

    def forward(self, x, first):
        if first or self.state is None:
            self.state = None
        out, (h, c) = self.lstm(self.embed(x), self.state)
        self.state = h.detach(), c.detach()
        return self.head(out)


def loss(model, batch):
    output = model(batch["x"], batch["first"])
    return nn.functional.cross_entropy(output.flatten(0, 1), batch["y"].flatten())


def make_task():
    return Task(
        model=Writer,
        train=DataLoader(Windows(50, 0), batch_size=None),
        valid=DataLoader(Windows(12, 1), batch_size=None),
        loss=loss,
        rows=lambda batch: batch["x"].numel(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        clip_norm=0.5,
        epochs=5,
    )
