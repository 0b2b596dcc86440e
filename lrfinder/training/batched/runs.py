"""The stacked runs of a population."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SeedLayout:
    """Which run has which seed."""

    seeds: tuple[int, ...]
    """Seed of each run."""
    distinct: tuple[int, ...]
    """Every seed once, in order of appearance."""
    place: Tensor | None
    """Place in `distinct` of each run's seed; None where that is the run's own number."""
    members: tuple[Tensor, ...]
    """Runs of each distinct seed."""
    order: Tensor | None
    """Puts the members, one seed after another, back in the order of runs; None where they are."""

    @classmethod
    def of(cls, seeds: Sequence[int], device: torch.device) -> "SeedLayout":
        """SeedLayout of runs with these seeds."""
        distinct = tuple(dict.fromkeys(seeds))
        place = [distinct.index(seed) for seed in seeds]
        members = [[row for row, p in enumerate(place) if p == k] for k in range(len(distinct))]
        flat = torch.tensor([row for rows in members for row in rows], dtype=torch.long)
        in_order = flat.tolist() == list(range(len(seeds)))
        return cls(
            seeds=tuple(seeds),
            distinct=distinct,
            place=None if len(distinct) == len(seeds) else torch.tensor(place, device=device),
            members=tuple(torch.tensor(rows, device=device) for rows in members),
            order=None if in_order else flat.argsort().to(device),
        )


@dataclass(frozen=True)
class StackedRuns:
    """Stacked tensors of runs, each [runs, ...]."""

    layout: SeedLayout
    leaves: list[Tensor]
    fixed: list[Tensor]
    buffers: list[Tensor]

    def only(self, rows: Tensor) -> "StackedRuns":
        """Copies of some runs, all of one seed, ready for a backward of their own."""
        return StackedRuns(
            layout=self.layout,
            leaves=[t.detach()[rows].requires_grad_() for t in self.leaves],
            fixed=[t[rows] for t in self.fixed],
            buffers=[t[rows] for t in self.buffers],
        )

    def run(self, row: int) -> "StackedRuns":
        """Views of one run's tensors, without a dimension for runs; leaves may have gradients."""
        leaves = [t.detach()[row].requires_grad_() for t in self.leaves]
        fixed, buffers = ([t.detach()[row] for t in ts] for ts in (self.fixed, self.buffers))
        return StackedRuns(self.layout, leaves, fixed, buffers)
