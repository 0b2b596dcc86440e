"""One thread, quiet Optuna, and one hypothesis profile for every test."""

import optuna
import pytest
import torch
from hypothesis import settings

settings.register_profile("lrfinder", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("lrfinder")


@pytest.fixture(autouse=True, scope="session")
def one_thread_and_quiet_optuna():
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)
