"""Which way does a noisy walk end? A GRU on packed sequences of different lengths, time first."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

from lrfinder import Task


class Walks(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(5, 16, (count,), generator=generator).tolist()
        self.walks = [torch.randn(n, 3, generator=generator) for n in lengths]
        self.ends = torch.tensor([int(w[:, 0].sum() > w[:, 1].sum()) for w in self.walks])

    def __len__(self):
        return len(self.walks)

    def __getitem__(self, index):
        return self.walks[index], self.ends[index]


def collate(rows):
    walks, ends = zip(*rows, strict=True)
    lengths = torch.tensor([len(walk) for walk in walks])
    return pad_sequence(list(walks)), lengths, torch.stack(list(ends))  # [time, rows, features]


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, walks, lengths):
        packed = pack_padded_sequence(walks, lengths.cpu(), enforce_sorted=False)
        return self.head(self.gru(packed)[1][-1])


def loss(model, batch):
    walks, lengths, ends = batch
    return nn.functional.cross_entropy(model(walks, lengths), ends)


def make_task():
    return Task(
        model=Reader,
        train=DataLoader(Walks(400, 0), batch_size=32, shuffle=True, collate_fn=collate),
        valid=DataLoader(Walks(200, 1), batch_size=100, collate_fn=collate),
        loss=loss,
        rows=lambda batch: len(batch[2]),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        epochs=6,
    )
