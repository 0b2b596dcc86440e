"""The files that ``lrfinder init`` writes: commented, and running as they are.

A kind is one line of the table below, and a module of its name here that holds the text as
``TEMPLATE``, in which ``{name}`` is the name of the file.
"""

from importlib import import_module
from pathlib import Path

from lrfinder.errors import InvalidArgument

KINDS = {
    "task": "a model, data, a loss and an optimizer, which lrfinder trains with",
    "loop": "a training loop of your own, which lrfinder drives",
    "lightning": "a LightningModule and its data",
    "transformers": "a Trainer of Hugging Face Transformers",
    "skorch": "a skorch net and its data",
}
"""Name of each kind of file, and what it holds."""


def write_template(kind: str, file: Path | None = None) -> Path:
    """Write the file of a kind in `KINDS`, by default my_KIND.py; returns where it is.

    Raises InvalidArgument for another kind, and where the file exists or cannot be written.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}")
    file = file or Path(f"my_{kind}.py")
    if file.suffix != ".py":
        raise InvalidArgument(f"a task file must end in .py, but got {str(file)!r}")
    template = str(import_module(f"{__name__}.{kind}").TEMPLATE)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(template.format(name=file.name))
    except FileExistsError as error:
        raise InvalidArgument(f"{file} exists already; give another name") from error
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be written: {error.strerror}") from error
    return file
