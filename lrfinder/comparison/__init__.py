"""Act 3: the best of each family, trained again on fresh common seeds."""
