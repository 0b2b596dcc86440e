"""Load the task that a reference names.

Loading runs the user's code, by design; nothing else of lrfinder does so unasked.
"""

import importlib
import importlib.util
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lrfinder.errors import LRFinderError, TaskLoadError
from lrfinder.paths import is_file, resolved
from lrfinder.tasks.fields.task_checks import fitting_name
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.problem import Problem
from lrfinder.tasks.reference import DEFAULT_FACTORY, MODULE_LOOP, MODULE_TASK, TaskReference
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe


def load_task(text: str) -> Problem:
    """Load the task that `text` names; see the module's own text for the forms.

    Raises TaskLoadError, in one line, when there is no such task, its code raises while it is
    loaded, or its factory does not return a Task.
    """
    return load_named(text)[0]


def load_named(text: str) -> tuple[Problem, TaskReference]:
    """Load a task like `load_task`; returns it with the reference to what it was made of."""
    reference = TaskReference.parse(text)
    module = _import(reference, text)
    found = _named(module, reference)
    if not callable(found) and not isinstance(found, Task | Loop):
        raise TaskLoadError(_no_factory(reference, module, text))
    task = found if isinstance(found, Task | Loop) else _call(found, text)
    if not isinstance(task, Task | Loop):
        raise TaskLoadError(
            f"{reference.factory}() in {text} must return an lrfinder.Task or Loop, "
            f"but returned {type(task).__name__}"
        )
    if isinstance(found, Task | Loop):
        name = next(name for name, value in vars(module).items() if value is found)
        reference = replace(reference, factory=name, is_object=True)
    stem = reference.file.stem if reference.file else reference.module.rpartition(".")[2]
    return (replace(task, name=fitting_name(stem)) if task.name == "task" else task), reference


def _named(module: ModuleType, reference: TaskReference) -> Any:  # noqa: ANN401 (checked there)
    """The factory or Task that a reference names; where it names none, make_task, or else task or
    loop."""
    found = getattr(module, reference.factory, None)
    if found is None and reference.factory == DEFAULT_FACTORY:
        held = (getattr(module, name, None) for name in (MODULE_TASK, MODULE_LOOP))
        return next((one for one in held if isinstance(one, Task | Loop)), None)
    return found


def _import(reference: TaskReference, text: str) -> ModuleType:
    path = reference.file
    if path is not None and not is_file(path):
        raise TaskLoadError(f"{text}: {_why_no_file(path)}")
    try:
        with np.errstate():  # the file may set it for all code, ours too
            if path is None:
                return importlib.import_module(reference.module)
            return _import_file(path, reference)
    except KeyboardInterrupt:
        raise
    except LRFinderError as error:
        raise TaskLoadError(f"{text}: {error}") from error
    except BaseException as error:
        raise TaskLoadError(f"{text} cannot be imported: {describe(error)}") from error


def _why_no_file(path: Path) -> str:
    """What is wrong with a path that names no file, and what to do where that is simple."""
    try:
        path.lstat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            return "no such file"
        near = path.name if path.parent == resolved(Path()) else str(path)
        return f"no such file; `lrfinder init {shlex.quote(near)}` writes one"
    except OSError as error:
        return str(error.strerror)
    return "it is no file"


def _import_file(path: Path, reference: TaskReference) -> ModuleType:
    """Import a file under its own name, so that DataLoader workers can import it again.

    One that is called like a library gets another name, and its folder the last place: the library
    must still be found.
    """
    folder, name = str(path.parent), path.stem
    if not reference.is_importable:
        name = f"task file {path.stem}"
        sys.path.append(folder)
    elif folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskLoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _call(factory: Callable[[], Any], text: str) -> Any:  # noqa: ANN401 (checked by the caller)
    try:
        with np.errstate():
            return factory()
    except KeyboardInterrupt:
        raise
    except LRFinderError as error:
        raise TaskLoadError(f"{text}: {error}") from error
    except BaseException as error:
        raise TaskLoadError(f"{text}: the factory raised {describe(error)}") from error


def _no_factory(reference: TaskReference, module: ModuleType, text: str) -> str:
    held = vars(module).items()
    names = [
        n for n, v in held if isinstance(v, Task | Loop) or (callable(v) and n.startswith("make"))
    ]
    hint = f"; did you mean {text.split(':')[0]}:{names[0]}?" if names else ""
    if reference.factory == DEFAULT_FACTORY:
        held = f"no Task or Loop called {MODULE_TASK} or {MODULE_LOOP}"
        return f"{text} has no factory make_task() and {held}{hint}"
    return f"{text} has no factory, Task or Loop called {reference.factory}{hint}"
