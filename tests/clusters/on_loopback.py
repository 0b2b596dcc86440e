"""Clusters of this machine, on loopback; their packages are in no requirement of the tests."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def tests_can_be_imported_by_workers():
    """Workers are started with this environment."""
    before = os.environ.get("PYTHONPATH")
    places = [str(HERE), *([before] if before else [])]
    os.environ.update(PYTHONPATH=os.pathsep.join(places), OMP_NUM_THREADS="1")
    sys.path.insert(0, str(HERE))
    yield
    del os.environ["PYTHONPATH"]
    if before:
        os.environ["PYTHONPATH"] = before
