"""From losses to a learning rate: what a sweep shows, what probes settle, and the suggestion."""
