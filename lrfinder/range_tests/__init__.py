"""Act 1: learning rates that grow, a few that stay, and the one that they suggest."""
