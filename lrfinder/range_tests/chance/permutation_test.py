"""A permutation test of learning: is the loss lower than with the targets dealt out anew?

A loss can fall although nothing is learnt of the inputs: a network unlearns the random outputs that
it starts with, or finds the mean of the targets. So the loss of a trained model is compared with
its losses on the same batches, with their targets exchanged in a few fixed ways (`exchange.py`).
Where nothing was learnt of the inputs these differ by chance only, whatever the loss is; no second
training is needed. It is the permutation test (Fisher 1935) in units of the deviation over the
exchanges.

It tells nothing where the loss does not look at the targets, and where it is the same whichever row
has which target, as for a density of the targets alone. These two are told apart by a set of
targets that are drawn with replacement. A model that does not use its inputs yet looks the same,
and has learnt nothing of them: it is known by its gradient (`pairing.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.range_tests.chance.exchange import DRAWN, OWN, PERMUTED

NO_PROBES = "it takes runs at a constant lr (--probes)"
UNREAD = "the loss does not use the targets that were found; Task(target=...) names others"
UNPAIRED = "the loss is the same whichever row has which target"
NOT_COMPUTED = "the loss of a row with the target of another one cannot be computed"
_ROUNDING = 2e-7  # of a loss, relative
_UNPAIRED = 1e-3  # of the change by other targets, below which their order makes no difference


@dataclass(frozen=True)
class Compared:
    """The losses of runs against those with exchanged targets."""

    gap: Floats
    """By how much these are higher, in the mean over the exchanges; nan where not known: [runs]."""
    deviation: Floats
    """Their standard deviation over the exchanges: float64[runs]."""
    why_not: str | None
    """Why it is not known of any run."""


def compared(losses: Mapping[str, Floats], pairs: Callable[[], bool]) -> Compared:
    """Compare the runs' losses on the `Exchange.sets`, float64[runs] by name of the set.

    `pairs` tells whether the loss pairs rows with targets, whatever these losses show. It is asked
    where they show next to nothing; if it does, such runs have learnt nothing of the inputs.
    """
    finite = {name: np.where(np.isfinite(loss), loss, np.nan) for name, loss in losses.items()}
    own = finite[OWN]
    changes = np.array([finite[name] for name in PERMUTED]) - own
    most, drawn = np.abs(changes).max(axis=0), np.abs(finite[DRAWN] - own)
    computed = np.isfinite(most) & np.isfinite(drawn)
    rounding = _ROUNDING * np.abs(own)
    read = ~(np.maximum(most, drawn) <= rounding)
    known = computed & read & (most > _UNPAIRED * drawn)
    nothing = computed & ~known
    if nothing.any() and not pairs():
        nothing[:] = False
    why = UNPAIRED if (computed & read).any() else UNREAD if computed.any() else NOT_COMPUTED
    gap = np.where(known, changes.mean(axis=0), np.nan)
    deviation = np.where(known, changes.std(axis=0, ddof=1), np.nan)
    return Compared(
        gap=np.where(nothing, 0.0, gap),
        deviation=np.where(nothing, np.maximum(drawn, rounding), deviation),
        why_not=None if (known | nothing).any() else why,
    )
