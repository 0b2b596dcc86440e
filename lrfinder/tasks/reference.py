"""What a person types to name a task: a file, a module or a built-in name.

    digits                       a built-in task
    path/to/my_task.py           a file with ``make_task()``, a Task ``task`` or a Loop ``loop``
    path/to/my_task.py:name      another factory, Task or Loop in it
    package.module:name          a factory, Task or Loop in an installed module

Nothing is imported here, so a reference can be read, written and compared without the user's code.
"""

import difflib
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from keyword import iskeyword
from pathlib import Path
from sysconfig import get_path

from lrfinder.errors import TaskLoadError
from lrfinder.paths import expanded, is_file, resolved
from lrfinder.tasks.builtin import BUILT_IN

DEFAULT_FACTORY = "make_task"
MODULE_TASK, MODULE_LOOP = "task", "loop"
"""What is taken, where a reference names nothing: this factory, or a Task or Loop of these names.
"""
_BUILT_IN_PLACES = ("lrfinder.tasks.builtin.", "lrfinder.examples.")  # the second until 0.1.0


@dataclass(frozen=True)
class TaskReference:
    """Where a task comes from."""

    module: str
    """Importable name; the file's stem for a file."""
    factory: str
    file: Path | None
    """The file given, absolute; None for a module or a built-in task."""
    is_object: bool = False
    """Whether it names a Task itself, which is known once the task was loaded."""

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> "TaskReference":
        """Read what a person typed; a relative file lies in `folder`, by default the current one.

        >>> TaskReference.parse("my_task.py:build", Path("/studies")).text
        '/studies/my_task.py:build'
        """
        if is_live(text):
            raise TaskLoadError(
                f"{text} was a Task object in Python, which no name brings back; "
                "give it again: lrfinder.run(task, resume=DIR)"
            )
        place, colon, factory = text.rpartition(":")
        if not colon or text.endswith(".py") or (len(place) == 1 and text[1:3] in (":\\", ":/")):
            place, factory = text, DEFAULT_FACTORY
        if place.endswith(".py"):
            path = resolved((folder or Path()) / expanded(place))
            return cls(path.stem, factory, path)
        name = _built_in_name(place)
        if name is not None:
            return cls(f"{_BUILT_IN_PLACES[0]}{name}", factory, None)
        file = f"{place}.py"
        beside = is_file((folder or Path()) / expanded(file))
        if not colon:
            raise TaskLoadError(_unknown(text, file if beside else None))
        if beside and _cannot_be_found(place):
            raise TaskLoadError(f"no module is called {place!r}; did you mean {file}:{factory}?")
        return cls(place, factory, None)

    @property
    def text(self) -> str:
        """What names the same task from any working directory."""
        if self.built_in is not None and self.factory == DEFAULT_FACTORY:
            return self.built_in
        place = self.module if self.file is None else str(self.file)
        named = self.file is None or self.factory != DEFAULT_FACTORY
        return f"{place}:{self.factory}" if named else place

    @property
    def built_in(self) -> str | None:
        """Name of a built-in task; None for any other."""
        return _built_in_name(self.module) if self.file is None else None

    @property
    def is_importable(self) -> bool:
        """Whether an import by its name alone finds the file, and hides no library by it."""
        if self.file is None:
            return True
        plain = self.module.isidentifier() and not iskeyword(self.module)
        return plain and not _is_library(self.module)

    def source_hash(self) -> str:
        """SHA-256 of the task's source file."""
        path = self.file
        if path is None:
            spec = importlib.util.find_spec(self.module)
            path = Path(spec.origin) if spec is not None and spec.origin else None
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""


def _is_library(name: str) -> bool:
    """Whether Python or what is installed has a module of this name."""
    if name in sys.stdlib_module_names or name == __name__.partition(".")[0]:
        return True
    places = [get_path("purelib"), get_path("platlib")]
    return PathFinder.find_spec(name, places) is not None


def live_reference(name: str) -> str:
    """What stands in a record for a Task that was given as an object, which no name brings back."""
    return f"<{name}>"


def is_live(text: str) -> bool:
    """Whether the text stands for a Task that was given as an object."""
    return text.startswith("<") and text.endswith(">")


def _built_in_name(place: str) -> str | None:
    """Name of the built-in task that is called so, or that lies in a module called so."""
    for prefix in _BUILT_IN_PLACES:
        place = place.removeprefix(prefix)
    return place if place in BUILT_IN else None


def _cannot_be_found(module: str) -> bool:
    """Whether no module of the name can be imported, as far as its first part tells."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is None
    except (ImportError, ValueError):
        return True


def _unknown(text: str, file: str | None) -> str:
    if file is not None:
        return f"no built-in task is called {text!r}; did you mean the file {file}?"
    close = difflib.get_close_matches(text, BUILT_IN, n=1)
    hint = f"did you mean {close[0]!r}? Give" if close else "give"
    return (
        f"no task is called {text!r}; {hint} a built-in name ({', '.join(BUILT_IN)}), "
        "a file (my_task.py) or package.module:factory"
    )
