"""Updates that were given as epochs, and epochs as updates."""

import math

from lrfinder.schedules.families.decays import joined, milestones_of
from lrfinder.schedules.lint.lrs import LEFT, share_left
from lrfinder.schedules.lint.seen import ALIKE, CYCLE, WHOLE, Seen, first_firing

_LATE = 0.25  # share of the training after which a last drop comes
_OFTEN = 20  # times that a restart after so few updates would come, were it meant
_FEWEST_UPDATES = 4  # of an epoch, for which epochs and updates can be told apart
_STILL, _FALLS = 0.95, 0.7  # share of the lr that is left: of no decay, and of one
_NOTHING = 1e-4  # share of the lr that no decay is meant to end at


def wrong_unit(seen: Seen) -> str | None:
    """Updates given as epochs, or epochs as updates."""
    if seen.per == "epoch":
        return _updates_for_epochs(seen)
    if (seen.updates_per_epoch or 0) < _FEWEST_UPDATES:
        return None
    return _epochs_for_updates(seen)


def _updates_for_epochs(seen: Seen) -> str | None:
    whole = WHOLE | CYCLE
    name, per_epoch = whole.get(seen.name, ""), seen.updates_per_epoch
    length, fires = seen.count(name), first_firing(seen)
    known = per_epoch is not None and per_epoch >= _FEWEST_UPDATES
    if length is not None:
        if per_epoch is None:
            wrong = length >= 10 * seen.steps
        else:
            wrong = known and math.isclose(length, seen.steps * per_epoch, rel_tol=ALIKE)
        if wrong:
            return (
                f"{name}={length} counts epochs here, of which there are {seen.steps}, and looks "
                f"like updates; {name}={seen.steps} ends with the training"
            )
    cycle = seen.count(CYCLE.get(seen.name, ""))
    fires = ("T_0", cycle) if cycle is not None else fires
    if fires is not None and known and per_epoch is not None:
        name, first = fires
        last = (milestones_of(seen.params) or [first])[-1] if name == "milestones" else first
        late = name == "T_0" or last / per_epoch >= _LATE * seen.steps
        if (
            first >= seen.steps
            and first % per_epoch == 0
            and late
            and first // per_epoch < seen.steps
        ):
            mended = _divided(seen, name, per_epoch)
            return (
                f"{name}={seen.params[name]} counts epochs here, of which there are {seen.steps}, "
                f"and looks like updates, {per_epoch} to an epoch; {name}={mended} is as many"
            )
    gamma = seen.params.get("gamma")
    if not (seen.name == "exponential" and isinstance(gamma, float) and known and per_epoch):
        return None
    end = gamma**seen.steps
    if not (end > _STILL and end**per_epoch < _FALLS):
        return None
    return (
        f"gamma={gamma:g} after every epoch leaves {end:.2g} of the lr at the end and looks like "
        f"one for every update; gamma={gamma**per_epoch:.3g} is the same per epoch"
    )


def _epochs_for_updates(seen: Seen) -> str | None:
    name, per_epoch = WHOLE.get(seen.name, ""), seen.updates_per_epoch or 1
    length = seen.count(name)
    if length is not None and math.isclose(length * per_epoch, seen.steps, rel_tol=ALIKE):
        return (
            f"{name}={length} counts updates here, of which there are {seen.steps}, and looks like "
            f"epochs, {per_epoch} updates each; {name}={seen.steps} ends with the training"
        )
    cycle = seen.count(CYCLE.get(seen.name, ""))
    often = cycle is not None and cycle * _OFTEN < seen.steps
    if cycle is not None and often and cycle <= seen.epochs and cycle % per_epoch:
        return (
            f"T_0={cycle} counts updates here, of which there are {seen.steps}, and looks like "
            f"epochs, {per_epoch} updates each; T_0={cycle * per_epoch} is as many"
        )
    late = milestones_of(seen.params) if seen.name == "multistep" else []
    if late and late[-1] <= seen.epochs and late[-1] < 0.1 * seen.steps:
        mended = joined(m * per_epoch for m in late)
        return (
            f"milestones={joined(late)} count updates here, of which there are {seen.steps}, "
            f"and look like epochs, {per_epoch} updates each; milestones={mended} are as many"
        )
    size = seen.count("step_size" if seen.name == "step" else "")
    if size is not None and size < seen.epochs and share_left(seen) < LEFT:
        return (
            f"step_size={size} counts updates here, of which there are {seen.steps}, and looks "
            f"like epochs, {per_epoch} updates each; step_size={size * per_epoch} is as many"
        )
    gamma = seen.params.get("gamma")
    if not (seen.name == "exponential" and isinstance(gamma, float)):
        return None
    left = share_left(seen)
    if not (left < LEFT and gamma ** (seen.steps / per_epoch) > _NOTHING):
        return None
    return (
        f"gamma={gamma:g} after every update leaves {left:.1g} of the sum of lrs for the second "
        f"half and looks like one for every epoch; gamma={gamma ** (1 / per_epoch):.6g} is the "
        "same per update"
    )


def _divided(seen: Seen, name: str, by: int) -> str:
    """A count of scheduler steps as one of so many times longer ones."""
    if name == "milestones":
        return joined(max(1, m // by) for m in milestones_of(seen.params))
    return str(max(1, (seen.count(name) or 1) // by))
