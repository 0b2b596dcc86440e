"""Train diabetes with the best schedule that was found.

StepLR(step_size=2, gamma=0.3257), initial learning rate 0.003006.
"""

import torch
from lrfinder.examples.diabetes import make_task
from torch.utils.data import DataLoader

EPOCHS = 6
LR = 0.00300647203981
SEED = 0

torch.manual_seed(SEED)
task = make_task()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = task.model().to(device)
optimizer = task.optimizer(model, LR)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.325653059587)
criterion = task.criterion.to(device)
train_loader = DataLoader(task.train, batch_size=task.batch_size, shuffle=True, drop_last=True)
valid_loader = DataLoader(task.valid, batch_size=task.batch_size)


def evaluate():
    """Means over the validation set: loss."""
    sums, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for x, y in valid_loader:
            x, y = x.to(device), y.to(device)
            output = model(x)
            loss = criterion(output, y)
            rows = len(x)
            count += rows
            sums += rows * float(loss)
    return sums / count


for epoch in range(EPOCHS):
    lr = max(group["lr"] for group in optimizer.param_groups)
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        x, y = x.to(device), y.to(device)
        output = model(x)
        loss = criterion(output, y)
        loss.backward()
        optimizer.step()
    valid_loss = evaluate()
    scheduler.step()
    print(f"epoch {epoch + 1:3d}  lr {lr:.3g}  valid_loss {valid_loss:.4f}")
