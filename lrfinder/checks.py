"""What a value must be, in words and as a test: the checks that several rooms share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrfinder.errors import InvalidArgument
from lrfinder.types import Value


@dataclass(frozen=True)
class Rule:
    """What a parameter's value must be, in words and as a test.

    >>> COUNT.check("step_size", 0)
    Traceback (most recent call last):
    lrfinder.errors.InvalidArgument: step_size must be an integer >= 1, but got 0
    """

    text: str
    holds: Callable[[Value], bool]

    def check(self, name: str, value: Value) -> None:
        """Raise InvalidArgument where `value` breaks the rule."""
        if not self.holds(value):
            raise InvalidArgument(f"{name} must be {self.text}, but got {value!r}")


def check_count(name: str, value: object, low: int = 1) -> None:
    """Raise InvalidArgument unless the value is an integer from `low` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InvalidArgument(f"{name} must be a whole number of at least {low}, but got {value!r}")


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise InvalidArgument unless there are training seeds, all distinct."""
    if not seeds:
        raise InvalidArgument("there must be at least one training seed, but got none")
    if len(set(seeds)) < len(seeds):
        raise InvalidArgument(f"training seeds must be distinct, but got {list(seeds)}")


def check_lr(name: str, lr: float) -> None:
    """Raise InvalidArgument unless the lr is positive and finite."""
    try:
        usable = 0 < lr < math.inf
    except TypeError:
        usable = False
    if not usable:
        raise InvalidArgument(f"{name} must be positive and finite, but got {shown_value(lr)}")


def check_is(name: str, value: object, kind: type, example: str) -> None:
    """Raise InvalidArgument unless the value is of the class, of which `example` makes one."""
    if not isinstance(value, kind):
        got = shown_value(value)
        raise InvalidArgument(f"{name} must be a {kind.__name__}, as {example} is, but got {got}")


def shown_value(value: object) -> str:
    """A value in a message: itself where it is a number or a text, else what it is.

    >>> shown_value("cosine"), shown_value(print), shown_value({})
    ("'cosine'", 'a builtin_function_or_method', 'a dict')
    """
    plain = value is None or isinstance(value, str | bool | int | float)
    return repr(value) if plain else f"a {type(value).__name__}"


def whole(low: int) -> Rule:
    """An integer from `low` on; a bool is none."""
    return Rule(f"an integer >= {low}", lambda value: type(value) is int and value >= low)


def number(text: str, holds: Callable[[float], bool]) -> Rule:
    """A finite number with a further condition; a bool or a string is none."""

    def finite_and_holds(value: Value) -> bool:
        if isinstance(value, str | bool):
            return False
        return math.isfinite(value) and holds(value)

    return Rule(text, finite_and_holds)


def one_of(*choices: str) -> Rule:
    """One of a few words."""
    return Rule(" or ".join(map(repr, choices)), lambda value: value in choices)


COUNT = whole(1)
POSITIVE = number("a number > 0", lambda value: value > 0)
NOT_NEGATIVE = number("a number >= 0", lambda value: value >= 0)
SHARE = number("a number in (0, 1]", lambda value: 0 < value <= 1)
FROM_ZERO = number("a number in [0, 1)", lambda value: 0 <= value < 1)
FRACTION = number("a number in (0, 1)", lambda value: 0 < value < 1)
FLAG = Rule("True or False", lambda value: type(value) is bool)
