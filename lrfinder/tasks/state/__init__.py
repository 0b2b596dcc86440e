"""What lasts from one run to the next and must not: random states, what objects keep, copies."""
