"""What is probably wrong with a schedule, seen without training: one plain sentence each.

Each rule looks at the numbers of a schedule beside the training that it is for, and says what
happens and which number would mend it. Restarts and cycles climb on purpose and are left alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrfinder.arrays import Floats
from lrfinder.schedules.decays import joined, milestones_of
from lrfinder.schedules.recognised import Part
from lrfinder.types import Per, Value

_CLIMBS = 0.01  # share of the peak to which a cosine may climb back
_LEFT, _ENOUGH = 0.01, 0.1  # share of the sum of lrs after half of the training: too little, mended
_REST = 0.05  # share of the training that may have no lr at all
_LATE = 0.25  # share of the training after which a last drop comes
_OFTEN = 20  # times that a restart after so few updates would come, were it meant
_ALIKE = 0.1  # two lengths are meant to be the same
_FEWEST_UPDATES = 4  # of an epoch, for which epochs and updates can be told apart
_STILL, _FALLS = 0.95, 0.7  # share of the lr that is left: of no decay, and of one
_NOTHING = 1e-4  # share of the lr that no decay is meant to end at
_ENDS = 0.01  # share of its start at which a decay has ended
_WHOLE = {  # parameter that is the length of the whole schedule, by family
    "cosine": "T_max",
    "polynomial": "total_iters",
    "one_cycle": "total_steps",
    "wsd": "steps",
}
_CYCLE = {"cosine_restarts": "T_0"}
_MILD = {"step": "gamma", "multistep": "gamma", "exponential": "gamma"} | {
    "exponential_steps": "decay_rate",
    "inverse_time": "decay_rate",
    "polynomial": "power",
}
_DOWN = ("inverse_time", "polynomial")  # milder with a lower number
_ON_PURPOSE = ("cosine_restarts", "triangular", "constant")
KNOWN = {*_WHOLE, *_MILD, *_ON_PURPOSE, "plateau"}
"""Families whose parameters these rules know."""


@dataclass(frozen=True)
class Seen:
    """The numbers of a schedule, and of the training that it is for."""

    name: str
    """Of its family, or of torch's scheduler that a family of the user's own builds."""
    params: Mapping[str, Value]
    per: Per
    warmup: int
    """Scheduler steps of warm-up."""
    epochs: int
    updates_per_epoch: int | None
    """None where it is not known; a schedule that is stepped per batch needs it."""
    lrs: Callable[[Mapping[str, Value]], Floats | None]
    """Lr at each scheduler step of the training, with these parameters; None where not known."""
    length: int | None = None
    """Scheduler steps, where the schedule is for a part of the training."""

    @property
    def total(self) -> int:
        """Scheduler steps of the training."""
        if self.length is not None:
            return self.length
        return self.epochs * (1 if self.per == "epoch" else self.updates_per_epoch or 1)

    @property
    def steps(self) -> int:
        """Scheduler steps that the warm-up leaves."""
        return self.total - self.warmup

    @property
    def unit(self) -> str:
        """What a scheduler step is."""
        return "epochs" if self.per == "epoch" else "updates"

    def count(self, name: str) -> int | None:
        """A parameter that counts scheduler steps."""
        value = self.params.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def problems(seen: Seen, parts: Sequence[Part] = ()) -> list[str]:
    """What is probably wrong, in a sentence each; none where nothing is found.

    `parts` are the schedulers of one that joins several.
    """
    if seen.warmup >= seen.total:
        return [_long_warmup(seen)]
    of_parts = [said for part in parts for said in _of_part(seen, part)]
    if of_parts:
        return of_parts[:1]
    unit = _wrong_unit(seen)
    if unit is not None:
        return [unit]
    rules = (*_OF_NUMBERS, _impatient, _still_rising, _nothing_left, _at_rest)
    found = [said for rule in rules if (said := rule(seen)) is not None]
    return found[:1]  # the others follow from the first


def _of_part(seen: Seen, part: Part) -> list[str]:
    """What is wrong with the numbers of one of several schedulers."""
    begin, end = (min(moment, seen.steps) for moment in (part.begin, part.end or seen.steps))
    if begin >= seen.steps:
        per_epoch = seen.updates_per_epoch or 0
        looks = ""
        whole = bool(per_epoch) and part.begin % per_epoch == 0
        if seen.per == "epoch" and whole and part.begin <= seen.steps * per_epoch:
            looks = f" ({part.begin} looks like updates, {part.begin / per_epoch:.2g} epochs)"
        return [
            f"{part.kind} never begins: its milestone {part.begin} lies beyond the {seen.steps} "
            f"{seen.unit}{looks}; {max(1, seen.steps // 20)} would be a twentieth of them"
        ]
    lrs = seen.lrs(seen.params)
    first = seen.warmup + begin
    own = None if lrs is None else lrs[first : first + end - begin]

    def own_lrs(_: Mapping[str, Value]) -> Floats | None:
        return own

    narrowed = replace(
        seen,
        name=part.name,
        params=part.params,
        warmup=0,
        lrs=own_lrs,
        length=end - begin,
    )
    found = [_wrong_unit(narrowed), *(rule(narrowed) for rule in _OF_NUMBERS)]
    span = "" if end - begin == seen.total else f", from {seen.unit[:-1]} {first} on"
    return [f"{part.kind}{span}: {said}" for said in found if said is not None]


def remarks(seen: Seen) -> list[str]:
    """What need not be wrong, but may surprise: a falling decay that ends far above nothing."""
    lrs = None if seen.name in _ON_PURPOSE else seen.lrs(seen.params)
    if lrs is None or not lrs[-1] < lrs.max() * (1 - 1e-9):
        return []
    share = float(lrs[-1] / lrs.max())
    if share <= _ENDS:
        return []
    ends = f"it ends at {100 * share:.3g}% of its peak"
    return [f"{ends}; whether a lower end is better depends on the task"]


def _long_warmup(seen: Seen) -> str:
    """A warm-up that leaves no time for what it warms up for."""
    usual = max(1, seen.total // 20)
    looks = ""
    per_epoch = seen.updates_per_epoch
    if seen.per == "epoch" and per_epoch and seen.warmup < seen.total * per_epoch:
        looks = f" ({seen.warmup} looks like updates, {seen.warmup / per_epoch:.2g} epochs)"
    return (
        f"the warm-up of {seen.warmup} {seen.unit} is not shorter than the training of "
        f"{seen.total}{looks}; {usual} would be a twentieth of it"
    )


def _wrong_unit(seen: Seen) -> str | None:
    """Updates given as epochs, or epochs as updates."""
    if seen.per == "epoch":
        return _updates_for_epochs(seen)
    if (seen.updates_per_epoch or 0) < _FEWEST_UPDATES:
        return None
    return _epochs_for_updates(seen)


def _updates_for_epochs(seen: Seen) -> str | None:
    whole = _WHOLE | _CYCLE
    name, per_epoch = whole.get(seen.name, ""), seen.updates_per_epoch
    length, fires = seen.count(name), _first_firing(seen)
    known = per_epoch is not None and per_epoch >= _FEWEST_UPDATES
    if length is not None:
        if per_epoch is None:
            wrong = length >= 10 * seen.steps
        else:
            wrong = known and math.isclose(length, seen.steps * per_epoch, rel_tol=_ALIKE)
        if wrong:
            return (
                f"{name}={length} counts epochs here, of which there are {seen.steps}, and looks "
                f"like updates; {name}={seen.steps} ends with the training"
            )
    cycle = seen.count(_CYCLE.get(seen.name, ""))
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
    name, per_epoch = _WHOLE.get(seen.name, ""), seen.updates_per_epoch or 1
    length = seen.count(name)
    if length is not None and math.isclose(length * per_epoch, seen.steps, rel_tol=_ALIKE):
        return (
            f"{name}={length} counts updates here, of which there are {seen.steps}, and looks like "
            f"epochs, {per_epoch} updates each; {name}={seen.steps} ends with the training"
        )
    cycle = seen.count(_CYCLE.get(seen.name, ""))
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
    if size is not None and size < seen.epochs and _share_left(seen) < _LEFT:
        return (
            f"step_size={size} counts updates here, of which there are {seen.steps}, and looks "
            f"like epochs, {per_epoch} updates each; step_size={size * per_epoch} is as many"
        )
    gamma = seen.params.get("gamma")
    if not (seen.name == "exponential" and isinstance(gamma, float)):
        return None
    left = _share_left(seen)
    if not (left < _LEFT and gamma ** (seen.steps / per_epoch) > _NOTHING):
        return None
    return (
        f"gamma={gamma:g} after every update leaves {left:.1g} of the sum of lrs for the second "
        f"half and looks like one for every epoch; gamma={gamma ** (1 / per_epoch):.6g} is the "
        "same per update"
    )


def _short_cycle(seen: Seen) -> str | None:
    """OneCycle that ends before the training, where torch raises, or long after it."""
    length = seen.count("total_steps") if seen.name == "one_cycle" else None
    if length is None or seen.steps <= length <= seen.steps * (1 + _ALIKE):
        return None
    how = "shorter" if length < seen.steps else "longer"
    ends = "after which torch raises" if length < seen.steps else "whose end it never sees"
    return (
        f"total_steps={length} is {how} than the training of {seen.steps} {seen.unit}, {ends}; "
        f"total_steps={seen.steps} ends with it"
    )


def _climbs(seen: Seen) -> str | None:
    """A cosine that climbs back within the training."""
    half = seen.count("T_max") if seen.name == "cosine" else None
    if half is None or half >= seen.steps - 1:
        return None
    after = np.arange(half, seen.steps)
    back = float((1 + np.cos(np.pi * after / half)).max() / 2)
    if back <= _CLIMBS:
        return None
    return (
        f"after {half} of the {seen.steps} {seen.unit} the cosine climbs back, to {back:.0%} of "
        f"its peak; T_max={seen.steps} falls all the way"
    )


def _never_fires(seen: Seen) -> str | None:
    """A step or a milestone that lies beyond the training."""
    late = milestones_of(seen.params) if seen.name == "multistep" else []
    if late and late[-1] >= seen.steps:
        beyond = [m for m in late if m >= seen.steps]
        return (
            f"milestone{'s'[: len(beyond) != 1]} {', '.join(map(str, beyond))} never "
            f"come{'s'[: len(beyond) == 1]} in {seen.steps} {seen.unit}; "
            f"{round(0.7 * seen.steps)} would be a late drop"
        )
    fires = _first_firing(seen)
    if fires is None or fires[1] < seen.steps:
        return None
    name, first = fires
    return (
        f"{name}={first} never fires in {seen.steps} {seen.unit}; "
        f"{name}={max(1, round(0.7 * seen.steps))} would be a late drop"
    )


def _impatient(seen: Seen) -> str | None:
    """A patience that is longer than the training."""
    patience = seen.count("patience") if seen.name == "plateau" else None
    if patience is None or patience <= seen.steps - 3:  # a best epoch, then more than patience
        return None
    enough = max(0, (seen.steps - 2) // 2)
    return (
        f"patience={patience} cannot run out within {seen.steps} epochs, so that the lr never "
        f"falls; patience={enough} can after half of them"
    )


def _no_rise(seen: Seen) -> str | None:
    """A triangle that never comes to its peak."""
    rise = seen.count("step_size_up") if seen.name == "triangular" else None
    if rise is None or rise < seen.steps:
        return None
    return (
        f"step_size_up={rise} never comes to its peak in {seen.steps} {seen.unit}; "
        f"step_size_up={max(1, seen.steps // 2)} rises for half of them"
    )


_OF_NUMBERS = (_short_cycle, _climbs, _never_fires, _no_rise)
"""Rules that need no more than the schedule's numbers."""


def _still_rising(seen: Seen) -> str | None:
    """A warm-up of the schedule's own that the training does not see the end of."""
    lrs = None if seen.name == "triangular" else seen.lrs(seen.params)
    if lrs is None or len(lrs) < 3 or not lrs[-1] > lrs[-2] * (1 + 1e-9):
        return None
    if not (np.diff(lrs) >= 0).all():
        return None
    return (
        f"the lr still rises when the training of {seen.total} {seen.unit} ends, so that its "
        f"warm-up is longer; a warm-up of {max(1, seen.total // 20)} would be a twentieth of it"
    )


def _nothing_left(seen: Seen) -> str | None:
    """A decay after which the second half of the training has next to no lr."""
    left = _share_left(seen)
    if not left < _LEFT or _rest(seen) > 0.5:
        return None
    name = _MILD.get(seen.name)
    said = f"after half of the training {left:.1g} of the sum of lrs is left"
    if name is None:
        return f"{said}; let it decay more slowly"
    mended = _milder(seen, name)
    cure = f"{name}={mended:.3g} leaves {_ENOUGH:g}" if mended else "let it decay later"
    return f"{said} with {name}={seen.params[name]:g}; {cure}"


def _at_rest(seen: Seen) -> str | None:
    """A decay that is at 0 long before the training ends."""
    rest = _rest(seen)
    if rest <= _REST or round(rest * seen.total) < 2:
        return None
    name = _WHOLE.get(seen.name)
    cure = f"; {name}={seen.steps} ends with the training" if name else ""
    return f"the lr is 0 for the last {rest:.0%} of the training, which change nothing{cure}"


def _rest(seen: Seen) -> float:
    """Share of the training at whose end the lr is 0."""
    lrs = seen.lrs(seen.params)
    if lrs is None:
        return 0.0
    return 1 - (int(np.flatnonzero(lrs > 0).max(initial=-1)) + 1) / len(lrs)


def _share_left(seen: Seen, params: Mapping[str, Value] | None = None) -> float:
    """Share of the sum of lrs that the second half of the training has; 1 where not known."""
    lrs = seen.lrs(seen.params if params is None else params)
    if lrs is None or not lrs.sum() > 0:
        return 1.0
    return float(lrs[len(lrs) // 2 :].sum() / lrs.sum())


def _milder(seen: Seen, name: str) -> float | None:
    """The value of a parameter that leaves a tenth for the second half; None where none does."""
    harsh = math.log(float(seen.params[name]))
    mild = math.log(1e-4) if seen.name in _DOWN else 0.0
    if _share_left(seen, {**seen.params, name: math.exp(mild)}) < _ENOUGH:
        return None
    for _ in range(20):
        middle = (harsh + mild) / 2
        enough = _share_left(seen, {**seen.params, name: math.exp(middle)}) >= _ENOUGH
        harsh, mild = (harsh, middle) if enough else (middle, mild)
    return math.exp(mild)


def _first_firing(seen: Seen) -> tuple[str, int] | None:
    """The parameter that says when a staircase first falls, and when."""
    if seen.name == "multistep":
        late = milestones_of(seen.params)
        return ("milestones", late[0]) if late else None
    if seen.name == "step":
        name = "step_size"
    elif seen.params.get("staircase") is True:
        name = "decay_steps"
    else:
        return None
    value = seen.count(name)
    return None if value is None else (name, value)


def _divided(seen: Seen, name: str, by: int) -> str:
    """A count of scheduler steps as one of so many times longer ones."""
    if name == "milestones":
        return joined(max(1, m // by) for m in milestones_of(seen.params))
    return str(max(1, (seen.count(name) or 1) // by))
