"""Imports point downwards, heavy packages live in one module, and public names are decided."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lrfinder

PACKAGE = Path(lrfinder.__file__).parent
LAYERS = (
    {"errors", "interrupts"},
    {"rng", "schedules", "data", "task", "live_objects", "examples", "load"},
    {"training"},
    {"suggest", "curve", "finding", "space", "storage", "family_study", "searching", "comparing"},
    {"records", "plots", "report", "script", "dashboard"},
    {"study_file", "cost", "engine", "problem", "summary", "run"},
    {"cli", "__main__"},
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
ONLY_IN = {
    "matplotlib": {"plots"},
    "typer": {"cli"},
    "rich": {"cli"},
    "optuna_dashboard": {"dashboard"},
    "pydantic": {"study_file"},
}
PUBLIC = """
Baseline BatchedTrainer Candidate Comparison Curve FAMILIES Family History InvalidArgument
LRFinderError Plan Run RunFolderError Schedule SequentialTrainer Space StudyFileError Suggestion
Task TaskFailed TaskLoadError compare fit load_task open_run range_test search
"""


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path.name != "template.py"]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "lrfinder":
            found |= {f"lrfinder.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module or "")
    return found


def unit(path: Path) -> str:
    """Top-level module or package of lrfinder that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    if path == PACKAGE / "__init__.py":
        return
    for name in imported(path):
        if name.startswith("lrfinder."):
            assert LAYER[name.split(".")[1]] <= LAYER[unit(path)], f"{path} imports {name}"


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_package_is_imported_in_one_module(package):
    users = {
        unit(path) for path in modules() if package in {n.split(".")[0] for n in imported(path)}
    }
    assert users == ONLY_IN[package]


def test_every_module_has_its_layer():
    assert {unit(path) for path in modules()} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("words", [["-c", "import lrfinder"], ["-m", "lrfinder", "--help"]])
def test_neither_import_nor_help_loads_torch(words):
    code = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "lrfinder" in loaded
    assert not loaded & {"torch", "optuna", "pandas", "matplotlib", "scipy", "sklearn", "numpy"}


def test_public_names():
    assert sorted(lrfinder.__all__) == sorted(PUBLIC.split())


@pytest.mark.parametrize("name", PUBLIC.split())
def test_a_public_name_is_never_hidden_by_a_module(name):
    """A function called like its module would be replaced by it on import."""
    assert not (PACKAGE / f"{name}.py").exists()
    assert getattr(lrfinder, name) is not None
