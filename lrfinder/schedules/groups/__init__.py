"""A rule for each parameter group: a schedule and an lr of its own, as fine-tuning wants them.

A rule is a decay family, its parameters, and the group's lr as a share of the run's. What is not
given takes the family's default for the training, or is searched: ``gamma=search`` in the text of a
schedule, and a range in place of an lr ratio. The rules together make one family, whose parameters
bear the group's name: ``head.gamma``, ``body.lr_ratio``.

Every group is stepped by torch's own scheduler on that group alone, so that groups with the same
rule train, bit by bit, as under that schedule without groups. The code to paste is a LambdaLR with
one function for each group.
"""

from lrfinder.schedules.groups.asked import Asked
from lrfinder.schedules.groups.names import NAME, SEARCH, names_of
from lrfinder.schedules.groups.rules import family_of_groups

__all__ = ["NAME", "SEARCH", "Asked", "family_of_groups", "names_of"]
