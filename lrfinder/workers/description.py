"""What a worker must know of a run, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from pydantic import TypeAdapter

from lrfinder.errors import InvalidArgument
from lrfinder.settings import RunSettings, settings_from
from lrfinder.tasks.fingerprint import Fingerprint
from lrfinder.tasks.problem import Problem
from lrfinder.training.engine import EngineRecord
from lrfinder.training.records.history import History


@dataclass(frozen=True)
class Extent:
    """What every History of a task has in common."""

    measures: tuple[str, ...]
    epochs: int
    updates_per_epoch: int

    @classmethod
    def of(cls, task: Problem, device: torch.device | None) -> "Extent":
        """That of a task on a device."""
        return cls(tuple(task.measures), task.epochs, task.data(device).updates_per_epoch)

    def other_than(self, run: "Extent") -> str | None:
        """In what a task is another than that of the run; None where in nothing."""
        for name in ("measures", "epochs", "updates_per_epoch"):
            own, asked = getattr(self, name), getattr(run, name)
            if own != asked:
                return f"{name.replace('_', ' ')} are {own} here, but {asked} in the run"
        return None

    def check(self, history: History) -> None:
        """Raise ValueError where a History is not one of whole trainings of the task."""
        updates = self.epochs * self.updates_per_epoch
        if set(history.measures) != set(self.measures):
            raise ValueError(f"measures must be {self.measures}, but are {(*history.measures,)}")
        if history.train_loss.shape[1] != updates or history.evaluated_at.tolist()[-1:] != [
            updates
        ]:
            raise ValueError(f"runs must have {updates} updates, but have others")


@dataclass(frozen=True)
class Description:
    """The options, the data and the trainer of a run."""

    settings: RunSettings
    fingerprint: Fingerprint
    engine: EngineRecord
    extent: Extent
    source: str = ""
    """Hash of the task's file; empty where it has none."""

    def values(self) -> dict[str, Any]:
        """As values of JSON; the storage, whose URL may hold a password, is left out."""
        options = self.settings.model_dump(mode="json", exclude_none=True, exclude={"storage"})
        return {
            "lrfinder": version("lrfinder"),
            "settings": options,
            "fingerprint": _SKETCHES.dump_python(self.fingerprint, mode="json"),
            "engine": _ENGINE.dump_python(self.engine, mode="json"),
            "extent": _EXTENT.dump_python(self.extent, mode="json"),
            "source": self.source,
        }

    @classmethod
    def read(cls, values: object, task: str) -> "Description":
        """From values of JSON, for a task that is named here.

        Raises InvalidArgument for those of another version, and for any others.
        """
        found: Mapping[str, Any] = values if isinstance(values, dict) else {}
        own, asked = version("lrfinder"), found.get("lrfinder", "another version")
        if own != asked:
            raise InvalidArgument(
                f"the run is one of lrfinder {asked}, but this worker has {own}; "
                "install the same version here"
            )
        try:
            return cls(
                settings_from(RunSettings, {**found["settings"], "task": task}),
                _SKETCHES.validate_python(found["fingerprint"]),
                _ENGINE.validate_python(found["engine"]),
                _EXTENT.validate_python(found["extent"]),
                str(found["source"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(
                "what the storage says of the run cannot be read "
                f"({type(error).__name__}: {error}); resume the run, which says it again"
            ) from error


_SKETCHES = TypeAdapter[Fingerprint](Fingerprint)
_ENGINE = TypeAdapter(EngineRecord)
_EXTENT = TypeAdapter(Extent)
