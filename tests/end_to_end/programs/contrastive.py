"""Two views of a point find each other: InfoNCE, with batches that hold no class twice."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfinder import Task

CLASSES, EACH = 24, 12


class Points(Dataset):
    def __init__(self, seed):
        centres = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(9))
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(CLASSES, EACH, 10, generator=generator)
        noise[..., :6] = centres[:, None] + 0.3 * noise[..., :6]
        self.points = noise

    def __len__(self):
        return CLASSES * EACH

    def __getitem__(self, index):
        label, number = divmod(index, EACH)
        other = (number + 1) % EACH
        return {"label": label, "a": self.points[label, number], "b": self.points[label, other]}


class OneOfEach(Sampler):
    """Batches of one row of every class, drawn anew each epoch."""

    def __init__(self):
        self.epoch = 0

    def __len__(self):
        return EACH

    def __iter__(self):
        order = torch.stack([torch.randperm(EACH) for _ in range(CLASSES)])
        for column in order.T:
            yield [label * EACH + int(number) for label, number in enumerate(column)]


class Projector(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 8))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return nn.functional.normalize(self.layers(x), dim=1)


def loss(model, batch):
    similar = model(batch["a"]) @ model(batch["b"]).T * model.scale.exp()
    labels = torch.arange(len(similar), device=similar.device)
    one_way, back = (nn.functional.cross_entropy(s, labels) for s in (similar, similar.T))
    return (one_way + back) / 2


def make_task():
    return Task(
        model=Projector,
        train=DataLoader(Points(0), batch_sampler=OneOfEach()),
        valid=DataLoader(Points(1), batch_sampler=OneOfEach()),
        loss=loss,
        optimizer=lambda model, lr: torch.optim.AdamW(model.parameters(), lr),
        epochs=12,
    )
