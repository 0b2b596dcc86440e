"""Options of the commands, made from the fields of the settings, and read back into them."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from lrfinder.errors import InvalidArgument
from lrfinder.settings import FindSettings, RangeTestSettings, RunSettings, read_settings_file

_OF_RANGE_TEST, _LR = list(RangeTestSettings.model_fields), ["lr", "lr_range"]
_ELSEWHERE = {*_OF_RANGE_TEST, *_LR, "groups"}  # groups are a table, which only a file has
_OF_STUDIES = [name for name in RunSettings.model_fields if name not in _ELSEWHERE]
_OF_STUDIES.append("timeout")  # the range test alone has one of its own
_OF_FIND = [name for name in FindSettings.model_fields if name not in _OF_RANGE_TEST]
OF_RUN = list(dict.fromkeys([*_OF_RANGE_TEST, *_OF_STUDIES]))
OF_SWEEP = ["task", *_LR, *_OF_STUDIES, "seed", "device", "engine"]
OF_FIND = ["task", *_OF_FIND, *_OF_RANGE_TEST[1:]]
"""Names of the settings that each command has options for, in the order of its help."""

_WRITTEN = {"cost", "warmup"}  # numbers that may be words, which the settings read
_METAVARS = {
    "task": "TASK",
    "schedule": "SPEC",
    "batch_sizes": "A,B,C",
    "cost": "SHARE",
    "families": "A,B,C",
    "lr_range": "LOW HIGH",
    "warmup": "EPOCHS",
    "timeout": "SECONDS",
}


def with_options(
    kind: type[RangeTestSettings], names: Iterable[str], **spellings: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, whose last parameter takes them all, options for these settings."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        *own, _ = Signature.from_callable(command).parameters.values()
        fields = kind.model_fields
        wanted = [_parameter(name, fields[name], spellings.get(name, name)) for name in names]
        vars(command)["__signature__"] = Signature([*wanted, *own])
        return command

    return give


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, over those of a settings file where the task is one."""
    given = {name: value for name, value in options.items() if value is not None}
    if "families" in given:
        given["families"] = [name.strip() for name in given["families"].split(",")]
    if "warmup" in given:
        with suppress(ValueError):  # what is no number is checked by the settings
            given["warmup"] = float(given["warmup"])
    for name in ("epochs", "batch_sizes"):
        if isinstance(given.get(name), str):
            given[name] = _whole_numbers(name, given[name])
    if isinstance(given.get("epochs"), list) and len(given["epochs"]) == 1:
        given["epochs"] = given["epochs"][0]
    if given.get("task", "").endswith(".toml"):
        return {**read_settings_file(Path(given.pop("task"))), **given}
    return given


def _parameter(name: str, field: FieldInfo, spelling: str) -> Parameter:
    """A field of the settings as a parameter of a command; None where it is not given."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind: Any = kinds[0] if type(None) in get_args(field.annotation) else field.annotation
    says, shown = str(field.description), field.default
    if shown is not None and shown is not False:
        says += f" Default: {shown:g}." if isinstance(shown, float) else f" Default: {shown}."
    more: dict[str, Any] = {"help": says, "show_default": False}
    if get_origin(kind) is Literal:
        kind, more["metavar"] = str, f"[{'|'.join(get_args(kind))}]"  # checked by the settings
    elif name in _METAVARS:  # a number may have a word in its place
        words = [word for one in kinds if get_origin(one) is Literal for word in get_args(one)]
        more["metavar"] = "|".join([_METAVARS[name], *words])
    several = any(list in (get_origin(one), *map(get_origin, get_args(one))) for one in kinds)
    if several or name in _WRITTEN:
        kind = str  # several are separated by commas
    if name == "task":
        how: Any = typer.Argument(**more)
    else:
        how = typer.Option(f"--{spelling.replace('_', '-')}", **more)
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, how]
    )


def _whole_numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidArgument(
            f"{name.replace('_', '-')} must be whole numbers such as 10 or 10,50,250, "
            f"but got {text!r}"
        ) from error
