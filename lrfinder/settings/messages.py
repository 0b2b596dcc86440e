"""What is wrong with options, in one line: what, which value, and the rule that it breaks."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from lrfinder.settings.options import FindSettings, GroupSettings

_Context = Mapping[str, Any]

_RULES: Mapping[str, Callable[[_Context], str]] = {
    "greater_than": lambda c: f"be greater than {_number(c['gt'])}",
    "greater_than_equal": lambda c: f"be at least {_number(c['ge'])}",
    "less_than_equal": lambda c: f"be at most {_number(c['le'])}",
    "finite_number": lambda _: "be finite",
    "int_type": lambda _: "be a whole number",
    "int_parsing": lambda _: "be a whole number",
    "int_from_float": lambda _: "be a whole number",
    "float_type": lambda _: "be a number",
    "float_parsing": lambda _: "be a number",
    "bool_type": lambda _: "be true or false",
    "string_type": lambda _: "be a text",
    "string_unicode": lambda _: "be a text",
    "string_pattern_mismatch": lambda c: (
        "be a word without spaces" if r"\s" in c["pattern"] else "hold no null character"
    ),
    "literal_error": lambda c: f"be {c['expected']}",
    "list_type": lambda _: "be a list",
    "tuple_type": lambda _: "be a pair of numbers",
    "missing": lambda _: "be a pair of numbers",
    "too_long": lambda _: "be a pair of numbers",
    "too_short": lambda _: "have at least one entry",
    "dict_type": lambda _: "be a table",
    "model_type": lambda _: "be a table",
}
"""What an option must do, by pydantic's type of error and what belongs to it."""


def first_problem(error: ValidationError, kind: type[BaseModel], given: Mapping[str, Any]) -> str:
    """One line for the first of the options given that is wrong."""
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["msg"]).removeprefix("Value error, ")
    key = _key(first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(key, kind, inside=len(first["loc"]) > 1)
    if first["type"] == "value_error":
        rule = str(first["msg"]).removeprefix("Value error, ")
    elif first["type"] in _RULES:
        rule = f"must {_RULES[first['type']](first.get('ctx', {}))}"
    else:
        message = str(first["msg"])
        rule = f"cannot be used: {message[:1].lower()}{message[1:]}"
    joint = " " if rule.startswith(("must", "cannot")) else ": "
    whole = first["type"] in ("missing", "too_long")  # what is given is the pair, not its part
    value = given[str(first["loc"][0])] if whole else first["input"]
    if whole:
        key = str(first["loc"][0])
    return f"{key}{joint}{rule}, but got {value!r}"


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _key(place: tuple[int | str, ...]) -> str:
    """The option, and the place in its list or table."""
    name, *inside = place  # beside places, what a value might have been
    if name == "groups" and inside:
        return ".".join(map(str, [name, *inside[:2]]))
    return ".".join(map(str, [name, *(part for part in inside if isinstance(part, int))]))


def _unknown(key: str, kind: type[BaseModel], *, inside: bool) -> str:
    if inside:
        return f"there is no {key!r}; a group has {', '.join(GroupSettings.model_fields)}"
    if key in FindSettings.model_fields:
        return f"{key} is an option of `lrfinder find` alone; leave it out"
    close = difflib.get_close_matches(key, kind.model_fields, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(kind.model_fields)}"
    return f"there is no option {key!r}; {hint}"
