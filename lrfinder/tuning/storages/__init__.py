"""Optuna's storages: how they are named and opened, what is written there and read back."""
