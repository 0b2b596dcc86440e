"""What a Python object holds, one step far: the walk that looks for generators and for originals.

Attributes and slots, elements of containers, weak references; of functions the closure, the
defaults, the attributes and, where the user wrote them, the global variables that they use; what
bound methods and partials are made of.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import CodeType, FunctionType, MethodType
from typing import Any, cast
from weakref import ReferenceType

from lrfinder.tasks.user_code import of_library


def held_by(one: Any, most: int | None = None) -> Iterator[Any]:  # noqa: ANN401 (any object)
    """Return what an object holds; of a container no more than `most` elements, None for all."""
    if isinstance(one, FunctionType):
        yield from _held_by_function(one)
    elif isinstance(one, MethodType):
        yield from (one.__func__, one.__self__)
    elif isinstance(one, partial):
        made = cast("partial[Any]", one)
        yield from (made.func, *made.args, *made.keywords.values())
    elif isinstance(one, ReferenceType):
        yield cast("ReferenceType[Any]", one)()
    elif not isinstance(one, type):
        yield from islice(_elements(one), most)
        yield from list(getattr(one, "__dict__", {}).values())
        for kind in type(one).__mro__:
            yield from (attribute(one, name) for name in _slots(kind))


def attribute(one: Any, name: str) -> Any:  # noqa: ANN401
    """Return an attribute, or None where it is missing or cannot be read."""
    try:
        return getattr(one, name, None)
    except Exception:  # a property of the user's
        return None


def _elements(one: object) -> Iterable[Any]:
    if isinstance(one, Mapping):
        return (part for pair in cast(Mapping[Any, Any], one).items() for part in pair)
    if isinstance(one, list | tuple | set | frozenset | deque):
        return cast("Iterable[Any]", one)
    return ()


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _held_by_function(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()
    if not of_library(function.__code__.co_filename):
        names = set(_names(function.__code__))
        yield from [value for name, value in function.__globals__.items() if name in names]


def _names(code: CodeType) -> Iterator[str]:
    """Global names that a piece of code uses, inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
