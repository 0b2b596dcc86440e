"""Discs on noisy images, pixel by pixel; unlabelled borders are ignored, and some images whole."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Task

IGNORED = 255


def discs(count, seed):
    generator = torch.Generator().manual_seed(seed)
    place = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))
    centre = 4 + 8 * torch.rand(count, 2, 1, 1, generator=generator)
    radius = 2 + 3 * torch.rand(count, 1, 1, generator=generator)
    away = (place - centre).norm(dim=1) - radius
    labels = (away < 0).long() + (away < -1.5).long()  # outside, ring, core
    labels[(away.abs() < 0.4)] = IGNORED
    x = labels.clamp(max=2).float() + 0.5 * torch.randn(count, 16, 16, generator=generator)
    return TensorDataset(x[:, None], labels)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )  # fmt: skip
        self.out = nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, x):
        shallow = self.down(x)
        return self.out(torch.cat([shallow, self.deep(shallow)], 1))


def pixel_accuracy(output, target):
    known = target != IGNORED
    return (output.argmax(1) == target)[known].float().mean()


def make_task():
    return Task(
        model=Net,
        train=DataLoader(discs(128, 0), batch_size=16, shuffle=True),
        valid=DataLoader(discs(48, 1), batch_size=16),
        criterion=nn.CrossEntropyLoss(ignore_index=IGNORED),
        metrics={"pixel_accuracy": pixel_accuracy},
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9),
        epochs=6,
    )
