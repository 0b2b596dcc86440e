"""A leaderboard of learning-rate finders: what does training at the lr they suggest cost?"""

VERSION = "2026.11"
"""Of the tasks and what is measured on them; numbers of another version cannot be compared."""
