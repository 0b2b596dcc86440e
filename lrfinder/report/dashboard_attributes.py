"""Notes and artifacts as optuna-dashboard keeps them: in system attributes of the study.

Its own functions do the same, but importing them loads scikit-learn: two seconds for every run.
"""

import json

from optuna.storages import BaseStorage

_LONGEST = 2045  # characters of an attribute in a relational database


def get_note(storage: BaseStorage, study: int, trial: int | None = None) -> str:
    """Note of a study or of one of its trials, by their ids; empty where there is none."""
    attrs, (_, part) = storage.get_study_system_attrs(study), _keys(trial)
    parts = sum(key.startswith(part) for key in attrs)
    return "".join(attrs[f"{part}{place}"] for place in range(parts))


def save_note(storage: BaseStorage, study: int, text: str, trial: int | None = None) -> None:
    """Write the note of a study or of one of its trials, by their ids."""
    attrs, (version, part) = storage.get_study_system_attrs(study), _keys(trial)
    earlier = sum(key.startswith(part) for key in attrs)
    parts = [text[at : at + _LONGEST] for at in range(0, len(text), _LONGEST)]
    storage.set_study_system_attr(study, version, attrs.get(version, 0) + 1)
    for place, words in enumerate(parts + [""] * (earlier - len(parts))):
        key = f"{part}{place}"
        if attrs.get(key) != words:
            storage.set_study_system_attr(study, key, words)


def artifacts(storage: BaseStorage, study: int) -> dict[str, str]:
    """Id of each artifact of a study by file name; one deleted on the dashboard has no facts."""
    attrs = storage.get_study_system_attrs(study)
    found = [json.loads(v) for k, v in attrs.items() if k.startswith("artifacts:")]
    return {facts["filename"]: facts["artifact_id"] for facts in found if facts is not None}


def _keys(trial: int | None) -> tuple[str, str]:
    """Attribute that counts the versions of a note, and the beginning of those of its text."""
    owner = "dashboard:" if trial is None else f"dashboard:{trial}:"
    return f"{owner}note_ver", f"{owner}note_str:"
