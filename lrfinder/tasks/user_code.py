"""Running the user's code: what it raises becomes one line with the place in that code."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from sysconfig import get_path
from traceback import extract_tb

import numpy as np

from lrfinder.errors import LRFinderError, TaskFailed

_LONGEST = 300
_SENTENCE = re.compile(r".{20,}?[.!?](?= [A-Z\"'`(\[])")


@contextmanager
def user_code(doing: str) -> Generator[None]:
    """Turn what the user's code raises into TaskFailed: one line, with the place in the code.

    sys.exit in it is no end of the run either; only an interrupt is.
    """
    try:
        with np.errstate():  # what it sets for all code is put back
            yield
    except (LRFinderError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise TaskFailed(f"{doing}, the task raised {describe(error)}") from error


def describe(error: BaseException) -> str:
    """One line for an exception: type, message, and the innermost line of the user's own code."""
    own = [f for f in extract_tb(error.__traceback__) if _is_users(f.filename)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    message = shortened(str(error))
    return f"{type(error).__name__}: {message}{place}" if message else type(error).__name__ + place


def shortened(message: str) -> str:
    """The message on one line; of a long one its first sentence, of about 300 characters at most.

    >>> shortened("No such file.\\nTry another.")
    'No such file. Try another.'
    """
    line = " ".join(message.split())
    if len(line) <= _LONGEST:
        return line
    sentence = _SENTENCE.match(line)
    first = line if sentence is None else sentence.group()
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST].rstrip()} ..."


def _is_users(filename: str) -> bool:
    return Path(filename).is_file() and not of_library(filename)


def of_library(filename: str) -> bool:
    """Whether code of this file name is Python's, an installed package's or this package's own."""
    libraries = (Path(__file__).parents[1], Path(get_path("stdlib")), Path(get_path("purelib")))
    return any(library in Path(filename).parents for library in libraries)
