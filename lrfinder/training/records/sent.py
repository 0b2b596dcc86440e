"""Plans and Histories as plain values, for another process: nothing that is read back is code.

Arrays are written as their bytes, so that they come back bit for bit.
"""

import base64
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lrfinder.schedules import Schedule, Value, family
from lrfinder.tasks.problem import Problem
from lrfinder.training.records.history import History, Plan
from lrfinder.types import Per

_KINDS = ("<f8", "<i8")
_TABLES, _ARRAYS = ("measures", "at_end"), ("lr", "train_loss", "evaluated_at", "diverged_at")


@dataclass(frozen=True)
class SentPlan:
    """A plan as it is sent to a process, its family by name."""

    lr: float
    seed: int
    family: str
    params: dict[str, Value]
    per: Per
    warmup: int

    @classmethod
    def of(cls, plan: Plan) -> "SentPlan":
        """The plan, to send."""
        schedule = plan.schedule
        params = dict(schedule.params)
        return cls(plan.lr, plan.seed, schedule.family.name, params, schedule.per, schedule.warmup)

    def plan(self, task: Problem) -> Plan:
        """The plan, with a family of the task's or of ours."""
        own = None if task.baseline is None else task.baseline.recipe.schedule.family
        families = task.schedules if own is None else {own.name: own, **task.schedules}
        member = family(self.family, families)
        return Plan(self.lr, Schedule(member, self.params, self.per, self.warmup), self.seed)


def packed_plans(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Plans as values of JSON."""
    return [asdict(SentPlan.of(plan)) for plan in plans]


def unpacked_plans(values: object, task: Problem) -> list[Plan]:
    """Plans from values of JSON; raises ValueError for any other."""
    if not isinstance(values, list):
        raise ValueError(f"plans must be a list, but got a {type(values).__name__}")
    with _ours():
        return [SentPlan(**one).plan(task) for one in cast("list[dict[str, Any]]", values)]


def packed(history: History) -> dict[str, Any]:
    """A History, but for its plans, as values of JSON."""
    return {
        **{name: _packed_array(getattr(history, name)) for name in (*_ARRAYS, "trained")},
        **{
            name: {k: _packed_array(v) for k, v in getattr(history, name).items()}
            for name in _TABLES
        },
        "updates_per_epoch": history.updates_per_epoch,
        "raised": list(history.raised),
        "stopped": list(history.stopped),
    }


def unpacked(values: Mapping[str, Any], plans: Sequence[Plan]) -> History:
    """The History of these plans from values of JSON; raises ValueError for any other."""
    with _ours():
        fields: Any = {name: _array(values[name]) for name in (*_ARRAYS, "trained")}
        fields |= {n: {str(k): _array(v) for k, v in values[n].items()} for n in _TABLES}
        history = History(
            plans=tuple(plans),
            updates_per_epoch=int(values["updates_per_epoch"]),
            raised=tuple(values["raised"]),
            stopped=tuple(values["stopped"]),
            **fields,
        )
    _check_shapes(history)
    return history


def _check_shapes(history: History) -> None:
    """Raise ValueError where arrays do not belong to so many runs."""
    runs, evaluations = len(history.plans), history.evaluated_at.shape
    updates = history.train_loss.shape[1:]
    wanted = {"train_loss": (runs, *updates), "lr": (runs, *updates, *history.lr.shape[2:])}
    wanted |= {"diverged_at": (runs,), "trained": (runs,)}
    found = {name: getattr(history, name).shape for name in wanted}
    wanted |= dict.fromkeys(history.measures, (runs, *evaluations))
    found |= {name: values.shape for name, values in history.measures.items()}
    wanted |= {f"{name} at the end": (runs,) for name in history.at_end}
    found |= {f"{name} at the end": values.shape for name, values in history.at_end.items()}
    wanted |= {"raised": (runs,), "stopped": (runs,)}
    found |= {"raised": (len(history.raised),), "stopped": (len(history.stopped),)}
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ValueError(f"{name} must have the shape {shape}, but has {found[name]}")
    if len(updates) != 1 or len(evaluations) != 1 or history.lr.ndim != 3:
        raise ValueError("a History must have rows of updates and of evaluations")


@contextmanager
def _ours() -> Generator[None]:
    """Turn what values of another kind cause into ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, zlib.error) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def without_plans(history: History) -> History:
    """The History as a process sends it back to one that has the plans."""
    return replace(history, plans=())


def _packed_array(array: NDArray[Any]) -> dict[str, Any]:
    kind = "<f8" if array.dtype.kind == "f" else "<i8"
    raw = zlib.compress(np.ascontiguousarray(array, dtype=kind).tobytes())
    return {"kind": kind, "shape": list(array.shape), "bytes": base64.b64encode(raw).decode()}


def _array(values: Mapping[str, Any]) -> Any:  # noqa: ANN401 (of floats or integers)
    if values["kind"] not in _KINDS:
        raise ValueError(f"an array must be one of {_KINDS}, but got {values['kind']!r}")
    raw = zlib.decompress(base64.b64decode(values["bytes"]))
    return np.frombuffer(raw, values["kind"]).reshape(values["shape"]).copy()
