"""Several ranks under DDP train as one process does that accumulates as many batches."""

import multiprocessing
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Plan, Schedule, Task, fit
from lrfinder.schedules import FAMILIES
from lrfinder.training.trainers.sequential import SequentialTrainer

RANKS, BATCH, UPDATES, LR = 2, 8, 12, 0.1
X = torch.randn(
    RANKS * UPDATES * BATCH, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
)
Y = (X[:, :1] * X[:, 1:2]).sin()


def model():
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1)).double()


def loader():
    return DataLoader(TensorDataset(X, Y), BATCH)


def optimizer(built, lr):
    return torch.optim.SGD(built.parameters(), lr, momentum=0.9)


def rank(number, port, start, results):
    """One rank of a training under DDP, as everybody writes it."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=RANKS
    )
    built = model()
    built.load_state_dict(start)
    wrapped = DistributedDataParallel(built)
    steps = optimizer(wrapped, LR)
    losses = []
    for x, y in list(loader())[number::RANKS]:
        loss = nn.functional.mse_loss(wrapped(x), y)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    results.put((number, losses, {k: v.tolist() for k, v in built.state_dict().items()}))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_ranks_train_as_one_that_accumulates_two_batches():
    task = Task(
        model=model,
        train=loader(),
        valid=TensorDataset(X, Y),
        criterion=nn.MSELoss(),
        optimizer=optimizer,
        accumulate=RANKS,
        epochs=1,
    )
    trainer = SequentialTrainer()
    start = task.built(0).state_dict()
    history = fit(task, [Plan(LR, Schedule(FAMILIES["constant"]), 0)], trainer=trainer)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    ranks = [spawn.Process(target=rank, args=(n, port, start, results)) for n in range(RANKS)]
    for process in ranks:
        process.start()
    got = [results.get() for _ in ranks]
    found = {number: (losses, weights) for number, losses, weights in got}
    for process in ranks:
        process.join()
    assert found[0][1] == found[1][1]
    of_update = np.mean([losses for losses, _ in found.values()], axis=0)
    np.testing.assert_allclose(of_update, history.train_loss[0], rtol=1e-9)
    end = model()
    end.load_state_dict({k: torch.tensor(v, dtype=X.dtype) for k, v in found[0][1].items()})
    loss = nn.functional.mse_loss(end(X), Y).item()
    assert loss == pytest.approx(history.measures["loss"][0, -1], rel=1e-9)
    assert abs(loss - history.measures["loss"][0, 0]) > 0.05  # they have trained
