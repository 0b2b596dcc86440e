"""Optuna's storages: how they are named and opened, and what is read back from one."""
