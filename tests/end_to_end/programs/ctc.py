"""Reading tones: frames without alignment, sequences of labels, CTC."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lrfinder import Task

TONES = 4  # and the blank, 0


class Recordings(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.items = []
        for _ in range(count):
            n = int(torch.randint(2, 5, (), generator=generator))
            labels = torch.randint(1, TONES + 1, (n,), generator=generator)
            repeats = torch.randint(2, 5, (n,), generator=generator)
            frames = torch.repeat_interleave(torch.eye(TONES + 1)[labels], repeats, 0)
            noise = 0.3 * torch.randn(frames.shape, generator=generator)
            self.items.append((frames + noise, labels))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(rows):
    frames = nn.utils.rnn.pad_sequence([f for f, _ in rows], batch_first=True)
    return {
        "frames": frames,
        "frame_lengths": torch.tensor([len(f) for f, _ in rows]),
        "labels": torch.cat([y for _, y in rows]),  # one after another: the first dim is no row
        "label_lengths": torch.tensor([len(y) for _, y in rows]),
    }


class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(TONES + 1, 24, 3, padding=1)
        self.gru = nn.GRU(24, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, TONES + 1)

    def forward(self, frames):
        seen = self.conv(frames.transpose(1, 2)).relu().transpose(1, 2)
        return self.head(self.gru(seen)[0]).log_softmax(2)


def loss(model, batch):
    log_probs = model(batch["frames"]).transpose(0, 1)
    lengths = batch["frame_lengths"], batch["label_lengths"]
    return nn.functional.ctc_loss(log_probs, batch["labels"], *lengths, zero_infinity=True)


def make_task():
    return Task(
        model=Listener,
        train=DataLoader(Recordings(240, 0), batch_size=24, shuffle=True, collate_fn=collate),
        valid=DataLoader(Recordings(80, 1), batch_size=40, collate_fn=collate),
        loss=loss,
        rows=lambda batch: len(batch["label_lengths"]),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        clip_norm=5.0,
        epochs=8,
    )
