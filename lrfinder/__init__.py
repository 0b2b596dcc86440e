"""Which initial learning rate, and which decay? Range tests and decay studies for PyTorch."""
