"""Mean-field energies of random graphs: message passing on batches that are one large graph."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

from lrfinder import Task


@dataclass
class Graph:
    nodes: torch.Tensor  # [nodes, 4]
    edges: torch.Tensor  # [2, edges]
    energy: torch.Tensor  # [1]


class GraphBatch:
    """Graphs side by side, without edges between them."""

    def __init__(self, graphs):
        sizes = torch.tensor([len(g.nodes) for g in graphs])
        first = torch.cumsum(sizes, 0) - sizes
        self.nodes = torch.cat([g.nodes for g in graphs])
        self.edges = torch.cat([g.edges + start for g, start in zip(graphs, first, strict=True)], 1)
        self.graph_of = torch.repeat_interleave(torch.arange(len(graphs)), sizes)
        self.energy = torch.cat([g.energy for g in graphs])

    def to(self, device):
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.to(device))
        return self


def make_graphs(count, seed):
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for _ in range(count):
        n = int(torch.randint(4, 10, (), generator=generator))
        nodes = torch.randn(n, 4, generator=generator)
        edges = torch.randint(n, (2, 3 * n), generator=generator)
        pull = (nodes[edges[0]] * nodes[edges[1]]).sum(1).mean()
        graphs.append(Graph(nodes, edges, (pull + nodes[:, 0].mean()).reshape(1)))
    return graphs


class MessagePassing(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.message = nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, width))
        self.update = nn.Sequential(nn.Linear(width + 4, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, batch):
        source, target = batch.edges
        messages = self.message(torch.cat([batch.nodes[source], batch.nodes[target]], 1))
        received = batch.nodes.new_zeros(len(batch.nodes), messages.shape[1])
        received = received.index_add(0, target, messages)
        energies = self.update(torch.cat([received, batch.nodes], 1))[:, 0]
        total = energies.new_zeros(len(batch.energy))
        return total.index_add(0, batch.graph_of, energies)


def make_task():
    return Task(
        model=MessagePassing,
        train=DataLoader(make_graphs(400, 0), batch_size=32, shuffle=True, collate_fn=GraphBatch),
        valid=DataLoader(make_graphs(150, 1), batch_size=50, collate_fn=GraphBatch),
        loss=lambda model, batch: nn.functional.mse_loss(model(batch), batch.energy),
        rows=lambda batch: len(batch.energy),
        optimizer=lambda model, lr: torch.optim.Adam(model.parameters(), lr),
        epochs=8,
    )
