"""What can be asked for: a range test, a run, an interrupted run to the end, a report again.

The command line and Python come in here. Everything is checked before a run folder is made; bad
input leaves none behind.
"""

from lrfinder.commands.finished import finished_run, write_again
from lrfinder.commands.from_python import RunOptions, run
from lrfinder.commands.new_run import start
from lrfinder.commands.range_tests import find, find_each, found_facts, series_facts
from lrfinder.commands.resume import go_on

__all__ = [
    "RunOptions",
    "find",
    "find_each",
    "finished_run",
    "found_facts",
    "go_on",
    "run",
    "series_facts",
    "start",
    "write_again",
]
