"""What is probably wrong with a schedule, seen without training: one plain sentence each.

Each rule looks at the numbers of a schedule beside the training that it is for, and says what
happens and which number would mend it. Restarts and cycles climb on purpose and are left alone.
"""

from lrfinder.schedules.lint.lrs import remarks
from lrfinder.schedules.lint.problems import problems
from lrfinder.schedules.lint.seen import KNOWN, Seen

__all__ = ["KNOWN", "Seen", "problems", "remarks"]
