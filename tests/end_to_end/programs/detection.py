"""Where are the squares? Images and lists of boxes, as the detectors of torchvision take them."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lrfinder import Task

SIZE, CELLS = 16, 4


class Squares(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.items = [self.draw(generator) for _ in range(count)]

    @staticmethod
    def draw(generator):
        image = 0.2 * torch.randn(1, SIZE, SIZE, generator=generator)
        boxes = []
        for _ in range(int(torch.randint(0, 3, (), generator=generator))):  # an image may be empty
            side = int(torch.randint(3, 6, (), generator=generator))
            x, y = torch.randint(0, SIZE - side, (2,), generator=generator).tolist()
            image[0, y : y + side, x : x + side] += 1
            boxes.append([x, y, x + side, y + side])
        return image, {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Detector(nn.Module):
    """In training a dict of losses, as in torchvision; a cell is responsible for a box's centre."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 5, 3, padding=1),
        )  # fmt: skip

    def forward(self, images, targets):
        found = self.layers(torch.stack(images))  # [rows, 5, CELLS, CELLS]
        wanted = torch.zeros(len(images), CELLS, CELLS, device=found.device)
        box_loss = found.sum() * 0
        for row, target in enumerate(targets):
            for box in target["boxes"]:
                centre, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / SIZE
                x, y = (centre / SIZE * CELLS).long().clamp(max=CELLS - 1)
                wanted[row, y, x] = 1
                aim = torch.cat([centre / SIZE, size])
                box_loss = box_loss + nn.functional.smooth_l1_loss(found[row, 1:, y, x], aim)
        seen = nn.functional.binary_cross_entropy_with_logits(found[:, 0], wanted)
        return {"objectness": seen, "boxes": box_loss / len(images)}


def collate(rows):
    return tuple(zip(*rows, strict=True))


def loss(model, batch):
    images, targets = batch
    return sum(model(list(images), targets).values())


def make_task():
    return Task(
        model=Detector,
        train=DataLoader(Squares(160, 0), batch_size=16, shuffle=True, collate_fn=collate),
        valid=DataLoader(Squares(60, 1), batch_size=30, collate_fn=collate),
        loss=loss,
        rows=lambda batch: len(batch[0]),
        optimizer=lambda model, lr: torch.optim.SGD(
            model.parameters(), lr, momentum=0.9, weight_decay=5e-4
        ),
        epochs=8,
    )
