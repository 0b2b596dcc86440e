"""The exceptions that lrfinder raises on purpose, and what each one means.

    LRFinderError                    every error below
    ├── InvalidArgument(ValueError)  a value given to the library or the command breaks a rule
    │   ├── StudyFileError           a TOML settings file cannot be read, or has a wrong key
    │   └── RunFolderError           a run folder exists, cannot be written or cannot be read
    ├── TaskLoadError                the task's file or factory cannot be loaded, or gave no Task
    ├── TaskFailed                   the task's own code raised, or gave nothing finite
    └── StorageFailed                the storage of the studies fails, after it was opened
    KeyboardInterrupt
    └── Interrupted                  a run was interrupted, and can be resumed from its folder

The message is one line: what, which value, what to do. A value in it may be anything: what is not
printable is escaped, and of a very long message the middle is left out. Divergence is not here: it
is a result (``History.diverged_at``). An unreadable range test is not here either: it is a verdict
(``Suggestion.verdict == "inconclusive"``).
"""

_LONGEST = 1000


class LRFinderError(Exception):
    """Base of every error that lrfinder raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_line(message))


class InvalidArgument(LRFinderError, ValueError):
    """A value given to the library or to the command breaks a rule."""


class StudyFileError(InvalidArgument):
    """A settings file cannot be read, or has a wrong key or value."""


class RunFolderError(InvalidArgument):
    """A run folder exists already, cannot be written, or cannot be read."""


class TaskLoadError(LRFinderError):
    """The task's file or factory cannot be loaded, or did not return a Task."""


class TaskFailed(LRFinderError):
    """The task's own code raised while it trained, or produced nothing finite."""


class StorageFailed(LRFinderError):
    """The storage of the studies fails, after it was opened; the run can be resumed."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted; the message says how to go on."""


def _one_line(message: str) -> str:
    """The message as a terminal can show it.

    >>> _one_line("no such file: 'a\\nb'")
    "no such file: 'a\\\\nb'"
    """
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 3 :]}"
