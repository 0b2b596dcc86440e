"""The files that ``lrfinder init`` writes: commented, and running as they are.

A kind is one line of the table below, and a module of its name here that holds the text as
``TEMPLATE``, in which ``{name}`` is the name of the file.
"""

from importlib import import_module

KINDS = {
    "task": "a model, data, a loss and an optimizer, which lrfinder trains with",
    "loop": "a training loop of your own, which lrfinder drives",
    "lightning": "a LightningModule and its data",
    "transformers": "a Trainer of Hugging Face Transformers",
    "skorch": "a skorch net and its data",
}
"""Name of each kind of file, and what it holds."""


def filled_in(kind: str, name: str) -> str:
    """Text of the file of a kind in `KINDS`, under a name."""
    return str(import_module(f"{__name__}.{kind}").TEMPLATE).format(name=name)
