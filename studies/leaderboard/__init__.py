"""A leaderboard of learning-rate finders: what does training at the lr they suggest cost?"""
