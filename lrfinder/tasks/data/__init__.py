"""Batches: what one is, where they come from and in which order, and what is wrong with them."""
