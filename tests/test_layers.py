"""The floor plan: which room may import which, heavy packages in one place, no circle, no secrets.

`lrfinder/` is nine rooms and a few single files. An arrow that is not in `MAY_IMPORT` fails here; a
new one is an edit of that table, with its reason.
"""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lrfinder

PACKAGE = Path(lrfinder.__file__).parent
GROUND = {"errors", "paths", "arrays", "checks", "types", "statistics", "imports"}
ENGINE = {"training", "tasks", "schedules", *GROUND}
ACTS = {"range_tests", "tuning", "comparison"}
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "paths": set(),
    "imports": set(),
    "arrays": set(),
    "checks": {"errors", "types"},
    "statistics": {"arrays"},
    "schedules": GROUND,
    "tasks": {"schedules", *GROUND},
    "training": {"tasks", "schedules", *GROUND},
    "range_tests": ENGINE,
    "tuning": {"range_tests", *ENGINE},  # the suggestion centres the lr search
    "comparison": ENGINE,
    "settings": ACTS | ENGINE,
    "experiment": {"settings"} | ACTS | ENGINE,
    "results": {"experiment", "settings"} | ACTS | ENGINE,
    "plots": {"results"} | ACTS | ENGINE,
    "report": {"plots", "results", "experiment", "settings"} | ACTS | ENGINE,
    "workers": {"report", "experiment", "settings"} | ACTS | ENGINE,
    "commands": {"pipeline", "report", "plots", "results", "experiment", "settings"}
    | ACTS
    | ENGINE,
    "pipeline": {"workers", "report", "plots", "results", "experiment", "settings"} | ACTS | ENGINE,
    "cli": {"commands", "workers", "report", "results", "settings", "tasks", *GROUND},
    "__main__": {"cli"},
    "examples": {"tasks"},
    "lightning": {"report"} | ACTS | ENGINE,  # a callback that tells what a range test suggests
}
ONLY_IN = {
    "matplotlib": {"plots"},
    "typer": {"cli"},
    "rich": {"cli", "report"},
    "optuna_dashboard": {"report"},
    "pydantic": {"settings", "results", "cli", "workers"},
    "sqlalchemy": {"tuning"},
    "greenlet": {"tasks"},
    "optuna": {"tuning", "workers", "report", "pipeline"},
    "loky": {"training"},
    "filelock": {"results"},
    "scipy": {"statistics", "range_tests"},
}
MOST_FILES, MOST_LINES = 12, 300


def modules() -> list[Path]:
    return list(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@cache
def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> list[str]:
    """The module of every import in a piece of code, late ones included."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} has a relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += [name if file_of(name) else module for name in names]
    return found


def file_of(module: str) -> Path | None:
    """File of one of our modules or packages; None for any other name."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((f for f in files if f.is_file() and f.is_relative_to(PACKAGE)), None)


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    return tuple(imports(parsed(path)))


def own_imports(path: Path) -> set[str]:
    return {name for name in imports_of(path) if name.startswith("lrfinder.")}


def room(path: Path) -> str:
    """Top-level module or package of lrfinder that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_within(folder: Path) -> dict[str, set[str]]:
    """The rooms in a room, each with those beside it that it imports."""
    within = [one for one in folder.iterdir() if (one / "__init__.py").is_file()]
    arrows: dict[str, set[str]] = {one.name: set() for one in within}
    for one in within:
        names = {name for path in one.rglob("*.py") for name in own_imports(path)}
        files = {file for name in names if (file := file_of(name)) and folder in file.parents}
        arrows[one.name] = {f.relative_to(folder).parts[0] for f in files} & arrows.keys()
    return {name: found - {name} for name, found in arrows.items()}


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_a_room_imports_only_what_its_row_of_the_plan_names(path):
    if path == PACKAGE / "__init__.py":
        return
    rooms = {name.split(".")[1] for name in own_imports(path)}
    assert rooms - {room(path)} <= MAY_IMPORT[room(path)]


def test_every_room_has_its_row():
    assert {room(path) for path in modules()} - {"__init__"} == set(MAY_IMPORT)


def test_no_circle_among_files():
    """Late imports count. A package stands for its `__init__.py`."""
    graph = {
        path: {file for name in own_imports(path) if (file := file_of(name)) not in (None, path)}
        for path in modules()
    }
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_no_circle_among_the_rooms_of_a_room():
    """The files that lie in a room itself may use its rooms, and be used by them."""
    folders = {path.parent for path in modules()} - {PACKAGE}
    arrows = {folder: rooms_within(folder) for folder in folders}
    assert arrows[PACKAGE / "tasks"]["data"] == {"state"}
    for of_folder in arrows.values():
        list(TopologicalSorter(of_folder).static_order())


def test_only_notebook_methods_import_the_face_and_take_nothing_but_html():
    """A value shows itself in a notebook by asking the package's own lazy names."""
    users: set[str] = set()
    for path in modules():
        methods = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef)]
        shown = [method for method in methods if method.name == "_repr_html_"]
        late = imports_of(path).count("lrfinder")
        assert late == len(shown), relative(path)
        for method in shown:
            assert ast.unparse(method.body) == "import lrfinder\nreturn lrfinder.html(self)"
            users.add(path.stem)
    assert users == {"curve", "suggestion", "ranking", "saved_run"}


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_package_is_imported_in_its_rooms_only(package):
    users = {
        room(path) for path in modules() if package in {n.split(".")[0] for n in imports_of(path)}
    }
    assert users == ONLY_IN[package]


def loaded_by(*words: str) -> set[str]:
    """Modules that a fresh Python loads."""
    code = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("words", [["-c", "import lrfinder"], ["-m", "lrfinder", "--help"]])
def test_neither_import_nor_help_loads_torch(words):
    loaded = loaded_by(*words)
    assert "lrfinder" in loaded
    assert not loaded & {"torch", "optuna", "pandas", "matplotlib", "scipy", "sklearn", "numpy"}


def test_training_loads_neither_optuna_nor_matplotlib():
    loaded = loaded_by("-c", "import lrfinder.training.fit")
    assert "torch" in loaded
    assert not loaded & {"optuna", "matplotlib", "sqlalchemy"}


def test_rooms_and_files_are_small(capsys):
    """A room of more files, or a file of more lines, is worth a look: printed, no failure."""
    folders: dict[Path, int] = {}
    seen: list[str] = []
    for path in modules():
        folders[path.parent] = folders.get(path.parent, 0) + 1
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            seen.append(f"{relative(path)} has {lines} lines")
    for folder, files in folders.items():
        if files > MOST_FILES and folder != PACKAGE:
            seen.append(f"{relative(folder)} has {files} files")
    with capsys.disabled():
        sys.stdout.write("".join(f"\n{line}" for line in seen))
