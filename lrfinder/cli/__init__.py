"""The ``lrfinder`` command: arguments in, one call of the library, the result on stdout.

Options, defaults and descriptions come from the fields of the settings. Progress and notes go to
stderr. Nothing of PyTorch is imported before a command runs. Exit status:
0 answered; 1 the task raised or nothing finite came out; 2 wrong arguments, settings file or
folder; 3 the task cannot be loaded; 4 inconclusive (`find`), or something was found (`check`);
130 interrupted.
"""

from lrfinder.cli.command_line import app, main

__all__ = ["app", "main"]
