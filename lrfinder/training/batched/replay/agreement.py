"""Whether two ways to compute the same give the same, but for rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor

_ROUNDING = 1e-4
"""What two steps may differ by, as a share of the largest number of a run."""


def agree(found: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> bool:
    """Whether tensors [runs, ...] are the same but for rounding, in every run."""
    pairs = [pair for own in zip(found, expected, strict=True) for pair in zip(*own, strict=True)]
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return False
    return all(map(_close, found, expected))


def _close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether they are, by the largest number of each run: what is zero in theory is rounding."""
    if not expected:
        return True
    a, b = _numbers(found), _numbers(expected)
    known = b.isfinite()
    scale = b.abs().where(known, 0.0).amax(dim=1, keepdim=True)
    same = (a - b).abs() <= _ROUNDING * scale
    return bool(torch.where(known, same, a.isfinite().logical_not()).all())


def _numbers(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of each run: float64[runs, numbers]."""
    real = (torch.view_as_real(t) if t.is_complex() else t for t in tensors)
    return torch.cat([t.detach().cpu().double().reshape(len(t), -1) for t in real], dim=1)
