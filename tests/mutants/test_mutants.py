"""Every fault of the list is seen by the tests that it names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS

ROOT = Path(__file__).parents[2]


def test_every_fault_can_be_put_in_exactly_once():
    for mutant in MUTANTS:
        found = (ROOT / "lrfinder" / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        assert found == 1, f"{mutant.file} holds {mutant.old!r} {found} times; edit the mutant"
        assert mutant.old != mutant.new


def test_the_tests_of_a_fault_are_there():
    named = {file.partition("::")[0] for mutant in MUTANTS for file in mutant.tests}
    assert [file for file in sorted(named) if not (ROOT / file).is_file()] == []


def run_tests(
    package: Path, tests: tuple[str, ...], marked: str
) -> subprocess.CompletedProcess[str]:
    """Run the tests so marked on a copy of the package; the first that fails ends it."""
    words = [str(package / t if t.startswith("lrfinder") else ROOT / t) for t in tests]
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "-m", marked, f"--rootdir={ROOT}"]
    options += ["-c", str(ROOT / "pyproject.toml"), "-o", f"pythonpath={package} {ROOT / 'tests'}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *words],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.means)
def test_a_fault_is_seen(tmp_path, mutant):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lrfinder", tmp_path / "lrfinder", ignore=ignored)
    file = tmp_path / "lrfinder" / mutant.file
    file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new))
    done = run_tests(tmp_path, mutant.tests, "not slow")
    if done.returncode != 1:
        done = run_tests(tmp_path, mutant.tests, "slow")
    assert done.returncode == 1, f"{mutant.means} goes unseen: {done.stdout[-2000:]}"
