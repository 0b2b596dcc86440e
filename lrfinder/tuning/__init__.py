"""Act 2: an Optuna study per decay family."""
