"""A run in a shared storage, and processes on any machine that train for it."""
