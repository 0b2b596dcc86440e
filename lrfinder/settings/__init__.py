"""What a run is asked to do: each option, with its default and its description, once.

The options of the command line, the keyword arguments of `lrfinder.run`, the keys of a settings
file and the ``config.toml`` of a run folder are these fields. A settings file is TOML; every key is
optional:

    task = "digits"
    epochs = 20
    families = ["step", "cosine"]
    trials = 32

A task that is a file (``task = "my_task.py"``) lies beside the settings file, wherever the command
is called from.
"""

from lrfinder.settings.options import FindSettings, GroupSettings, RangeTestSettings, RunSettings
from lrfinder.settings.reading import read_settings_file, settings_from

__all__ = [
    "FindSettings",
    "GroupSettings",
    "RangeTestSettings",
    "RunSettings",
    "read_settings_file",
    "settings_from",
]
