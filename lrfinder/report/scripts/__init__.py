"""best_schedule.py: the answer as a program that runs as it is."""
