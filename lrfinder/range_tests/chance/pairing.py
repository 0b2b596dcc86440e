"""Whether a loss can tell which row has which target: asked of its gradient, before training.

Losses alone do not say. A loss that is the same whichever row has which target, as a density of the
targets alone is, and a model whose output hardly depends on its inputs yet, as one of tiny weights,
look the same: exchanging targets changes next to nothing. The gradient tells them apart at any
scale of weights, targets and loss. For some tensor of weights it is a sum over the rows of input
times error, so that dealing out the targets otherwise changes it about as much as drawing other
targets does; of a loss that is unpaired it stays the same up to rounding, for all of them.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lrfinder.range_tests.chance.exchange import DRAWN, OWN, PERMUTED, Exchange
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.task import Task
from lrfinder.training.trainers.building import build_model, device_of
from lrfinder.training.trainers.evaluation import evaluation_stream

_LEAST = 1e-3  # of the change by other targets, that their order makes
_ROUNDINGS = 100  # of a number of the gradient's type, relative to the gradient
_EXCHANGES = 3


def pairs(task: Task, exchange: Exchange, seed: int, device: torch.device | None) -> bool:
    """Whether the compared loss of a task, with the weights of a seed, pairs rows with targets.

    False where its gradient does not tell: there is none, or the exchanged batches raise.
    """
    sets = exchange.sets
    try:
        own, drawn, *permuted = (
            _gradient(task, sets[name], seed, device)
            for name in (OWN, DRAWN, *PERMUTED[:_EXCHANGES])
        )
    except Exception:  # of the user's loss, which may be evaluated without a gradient
        return False
    least = [
        max(_LEAST * change, _rounding(gradient))
        for change, gradient in zip(_changes(own, drawn), own, strict=True)
    ]
    by_order = (zip(_changes(own, other), least, strict=True) for other in permuted)
    return any(change > limit for pair in by_order for change, limit in pair)


def _gradient(
    task: Task, batches: Iterable[Batch], seed: int, device: torch.device | None
) -> list[Tensor]:
    """Gradient of the compared loss of the batches, each times its rows, by tensor of weights."""
    model, _ = build_model(task, seed, device)
    measures = task.measures_on(device_of(model))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with evaluation_stream(measures.device).active(), torch.enable_grad():
        for batch in batches:
            loss = torch.as_tensor(measures.measure(model, batch, only=["loss"])["loss"])
            (loss * task.count(batch)).backward()
    return [_dense(w.grad) for w in weights if w.grad is not None and w.grad.numel()]


def _dense(gradient: Tensor) -> Tensor:
    return gradient.detach().to_dense() if gradient.is_sparse else gradient.detach()


def _changes(own: list[Tensor], other: list[Tensor]) -> list[float]:
    return [float((a - b).norm()) for a, b in zip(own, other, strict=True)]


def _rounding(gradient: Tensor) -> float:
    return _ROUNDINGS * torch.finfo(gradient.dtype).eps * float(gradient.norm())
