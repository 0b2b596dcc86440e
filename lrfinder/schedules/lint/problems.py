"""What is probably wrong with a schedule, or with one of several that it joins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lrfinder.arrays import Floats
from lrfinder.schedules.families.recognised import Part
from lrfinder.schedules.lint.lengths import OF_NUMBERS, impatient, long_warmup
from lrfinder.schedules.lint.lrs import at_rest, nothing_left, still_rising
from lrfinder.schedules.lint.seen import Seen
from lrfinder.schedules.lint.units import wrong_unit
from lrfinder.types import Value


def problems(seen: Seen, parts: Sequence[Part] = ()) -> list[str]:
    """What is probably wrong, in a sentence each; none where nothing is found.

    `parts` are the schedulers of one that joins several.
    """
    if seen.warmup >= seen.total:
        return [long_warmup(seen)]
    of_parts = [said for part in parts for said in _of_part(seen, part)]
    if of_parts:
        return of_parts[:1]
    unit = wrong_unit(seen)
    if unit is not None:
        return [unit]
    rules = (*OF_NUMBERS, impatient, still_rising, nothing_left, at_rest)
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
    found = [wrong_unit(narrowed), *(rule(narrowed) for rule in OF_NUMBERS)]
    span = "" if end - begin == seen.total else f", from {seen.unit[:-1]} {first} on"
    return [f"{part.kind}{span}: {said}" for said in found if said is not None]
