"""The three acts of a run, and what happens between them.

    range test ─> suggestion ─> lr range of each family ─> studies ─> best of each
               ─> comparison ─> report

Each act goes from values to values, and leaves its files behind when it ends, so that a run that
was interrupted is resumed from its folder: the range test is read back, the studies go on in their
storage, and confirmed runs are not repeated.
"""
