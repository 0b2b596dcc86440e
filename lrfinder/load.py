"""Find a task by what a person types: a file, a module or a built-in name.

    digits                       a built-in task
    path/to/my_task.py           a file with a factory ``make_task()``
    path/to/my_task.py:factory   another factory in it
    package.module:factory       a factory in an installed module

Loading runs the user's code, by design; nothing else of lrfinder does so unasked.
"""

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lrfinder.errors import LRFinderError, TaskLoadError
from lrfinder.examples import BUILT_IN
from lrfinder.task import Task, describe

DEFAULT_FACTORY = "make_task"


@dataclass(frozen=True)
class TaskReference:
    """Where a task comes from."""

    module: str
    """Importable name; the file's stem for a file."""
    factory: str
    file: Path | None
    """The file given, absolute; None for a module or a built-in task."""

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> "TaskReference":
        """Read what a person typed; a relative file lies in `folder`, by default the current one.

        >>> TaskReference.parse("my_task.py:build", Path("/studies")).text
        '/studies/my_task.py:build'
        """
        place, colon, factory = text.rpartition(":")
        if not colon or (len(place) == 1 and text[1:3] in (":\\", ":/")):
            place, factory = text, DEFAULT_FACTORY
        if place.endswith(".py"):
            path = ((folder or Path()) / Path(place).expanduser()).resolve()
            return cls(path.stem, factory, path)
        if place in BUILT_IN:
            return cls(f"lrfinder.examples.{place}", factory, None)
        if not colon:
            raise TaskLoadError(_unknown(text))
        return cls(place, factory, None)

    @property
    def text(self) -> str:
        """What names the same task from any working directory."""
        place = self.module if self.file is None else str(self.file)
        return f"{place}:{self.factory}"

    def source_hash(self) -> str:
        """SHA-256 of the task's source file."""
        path = self.file
        if path is None:
            spec = importlib.util.find_spec(self.module)
            path = Path(spec.origin) if spec is not None and spec.origin else None
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""


def load_task(text: str) -> Task:
    """Load the task that `text` names; see the module's own text for the forms.

    Raises TaskLoadError, in one line, when there is no such task, its code raises while it is
    loaded, or its factory does not return a Task.
    """
    reference = TaskReference.parse(text)
    module = _import(reference, text)
    factory = getattr(module, reference.factory, None)
    if not callable(factory):
        raise TaskLoadError(_no_factory(reference, module, text))
    task = _call(factory, text)
    if not isinstance(task, Task):
        raise TaskLoadError(
            f"{reference.factory}() in {text} must return a lrfinder.Task, "
            f"but returned {type(task).__name__}"
        )
    if task.name == "task":
        stem = reference.module.rpartition(".")[2]
        return replace(task, name=stem)
    return task


def _import(reference: TaskReference, text: str) -> ModuleType:
    path = reference.file
    if path is not None and not path.is_file():
        raise TaskLoadError(f"{text}: no such file; `lrfinder init {path.name}` writes one")
    try:
        if path is None:
            return importlib.import_module(reference.module)
        return _import_file(path)
    except LRFinderError as error:
        raise TaskLoadError(f"{text}: {error}") from error
    except (Exception, SystemExit) as error:
        raise TaskLoadError(f"{text} cannot be imported: {describe(error)}") from error


def _import_file(path: Path) -> ModuleType:
    """Import a file under its own name, so that DataLoader workers can import it again."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TaskLoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _call(factory: Callable[[], Any], text: str) -> Any:  # noqa: ANN401 (checked by the caller)
    try:
        return factory()
    except LRFinderError as error:
        raise TaskLoadError(f"{text}: {error}") from error
    except (Exception, SystemExit) as error:
        raise TaskLoadError(f"{text}: the factory raised {describe(error)}") from error


def _no_factory(reference: TaskReference, module: ModuleType, text: str) -> str:
    names = [n for n, v in vars(module).items() if callable(v) and n.startswith("make")]
    hint = f"; did you mean {text.split(':')[0]}:{names[0]}?" if names else ""
    return f"{text} has no factory {reference.factory}(){hint}"


def _unknown(text: str) -> str:
    close = difflib.get_close_matches(text, BUILT_IN, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"no task is called {text!r}; {hint}Give a built-in name ({', '.join(BUILT_IN)}), "
        "a file (my_task.py) or package.module:factory"
    )
