"""Training loops of the user's own, which are driven from outside instead of taken apart."""
