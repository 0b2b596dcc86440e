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
    {"rng", "schedules", "data", "functions", "task", "copies", "live_objects", "examples", "load"},
    {"training"},
    {
        "reading",
        "permuted",
        "probes",
        "suggest",
        "curve",
        "finding",
        "space",
        "storage",
        "family_study",
        "searching",
        "comparing",
    },
    {"records", "plots", "report", "display", "script", "notes", "dashboard"},
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
SHOWN_IN_NOTEBOOKS = {"comparing", "curve", "records", "suggest"}
PUBLIC = """
Baseline BatchedTrainer Candidate Comparison Curve FAMILIES Family History InvalidArgument
LRFinderError Plan Run RunFolderError Schedule SequentialTrainer Space StudyFileError Suggestion
Task TaskFailed TaskLoadError compare fit load_task open_run plots range_test search
"""


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path.name != "template.py"]


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> list[str]:
    """The module of every import in a piece of code."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "lrfinder":
            found += [f"lrfinder.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} has a relative import"
            found.append(node.module or "")
    return found


def imported(tree: ast.AST) -> set[str]:
    """Every module that a piece of code imports, wherever in it."""
    return set(imports(tree))


def unit(path: Path) -> str:
    """Top-level module or package of lrfinder that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    if path == PACKAGE / "__init__.py":
        return
    allowed = {"lrfinder.display"} if notebook_methods(path) else set[str]()
    assert upward(imported(parsed(path)), path) <= allowed


def upward(names: set[str], path: Path) -> set[str]:
    """Those of the names that lie in a higher layer than the file."""
    own = {name for name in names if name.startswith("lrfinder.")}
    return {name for name in own if LAYER[name.split(".")[1]] > LAYER[unit(path)]}


def notebook_methods(path: Path) -> list[ast.FunctionDef]:
    """The methods by which a notebook shows the classes of a file."""
    nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)]
    return [node for node in nodes if node.name == "_repr_html_"]


def test_only_notebook_methods_import_upwards_and_only_the_display():
    """A value shows itself in a notebook by a module above it, imported when it is shown."""
    shown = {unit(path): path for path in modules() if notebook_methods(path)}
    assert set(shown) == SHOWN_IN_NOTEBOOKS
    for path in shown.values():
        methods = notebook_methods(path)
        assert [imported(method) for method in methods] == [{"lrfinder.display"}] * len(methods)
        lines = [name for name in imports(parsed(path)) if name == "lrfinder.display"]
        assert len(lines) == len(methods), f"{path} imports the display elsewhere too"


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_package_is_imported_in_one_module(package):
    users = {
        unit(path)
        for path in modules()
        if package in {n.split(".")[0] for n in imported(parsed(path))}
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
