"""Tasks kept for testing alone: no rule and no constant is chosen on them (see LOOKS.md)."""
