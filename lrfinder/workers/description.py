"""What a worker must know of a run, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from lrfinder.settings import RunSettings, settings_from
from lrfinder.tasks.fingerprint import Fingerprint
from lrfinder.training.engine import EngineRecord


@dataclass(frozen=True)
class Description:
    """The options, the data and the trainer of a run."""

    settings: RunSettings
    fingerprint: Fingerprint
    engine: EngineRecord

    def values(self) -> dict[str, Any]:
        """As values of JSON; the storage, whose URL may hold a password, is left out."""
        options = self.settings.model_dump(mode="json", exclude_none=True, exclude={"storage"})
        return {
            "settings": options,
            "fingerprint": _SKETCHES.dump_python(self.fingerprint, mode="json"),
            "engine": _ENGINE.dump_python(self.engine, mode="json"),
        }

    @classmethod
    def read(cls, values: Mapping[str, Any], task: str) -> "Description":
        """From values of JSON, for a task that is named here; ValueError for any other."""
        return cls(
            settings_from(RunSettings, {**values["settings"], "task": task}),
            _SKETCHES.validate_python(values["fingerprint"]),
            _ENGINE.validate_python(values["engine"]),
        )


_SKETCHES = TypeAdapter[Fingerprint](Fingerprint)
_ENGINE = TypeAdapter(EngineRecord)
