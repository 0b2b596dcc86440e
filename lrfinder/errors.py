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

The message is one line: what, which value, what to do. Divergence is not here: it is a result
(``History.diverged_at``). An unreadable range test is not here either: it is a verdict
(``Suggestion.verdict == "inconclusive"``).
"""


class LRFinderError(Exception):
    """Base of every error that lrfinder raises on purpose."""


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
