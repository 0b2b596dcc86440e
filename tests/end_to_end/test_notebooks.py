"""Every notebook runs from top to bottom without a warning, and its stored outputs can be shown."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
STRICT = "import warnings\nwarnings.simplefilter('error')"
SHOWN = {"stream", "display_data", "execute_result"}
HERE = re.escape(str(Path(__file__).parents[2]))
FOREIGN = re.compile(rf"{HERE}|(?:/home|/root|/tmp|/Users|/var|[A-Z]:\\)[/\\]\S+|wall_seconds=\d")


def outputs(notebook):
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_a_warning_and_leaves_nothing_behind(path, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    first = nbformat.v4.new_code_cell(STRICT)
    first["id"] = "strict"
    notebook.cells.insert(0, first)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(here)}})
    client.execute()
    assert [out.text for out in outputs(notebook) if out.get("name") == "stderr"] == []
    assert list(here.iterdir()) == []
    assert not [left for left in home.glob("tmp*") if left.is_dir()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_whole_small_and_of_no_particular_machine(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {out.output_type for out in outputs(notebook)} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert not any("execution" in cell.metadata for cell in cells)  # when it ran is no result
    shown = [str(part) for out in outputs(notebook) for part in out.get("data", out).values()]
    assert [FOREIGN.search(part) for part in shown if FOREIGN.search(part)] == []
    assert len(text) < 500_000


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


RUN = """
import lrfinder
run = lrfinder.run(
    'quadratic', families=['step'], trials=2, confirm_seeds=2, engine='sequential', out='first'
)
run
"""


@pytest.mark.slow
def test_a_run_in_a_notebook_shows_its_progress_in_one_output_of_its_cell(tmp_path):
    cells = [nbformat.v4.new_code_cell(text) for text in (STRICT, RUN)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    options = {"timeout": 300, "resources": {"metadata": {"path": str(tmp_path)}}}
    NotebookClient(notebook, **options).execute()
    progress, shown = outputs(notebook)
    assert progress.output_type == "display_data"
    for act in ("range test", "studies", "comparison"):
        assert f"<td>{act}</td><td><progress" in progress.data["text/html"]
    assert "range test: lr " in progress.data["text/html"]
    assert "Best of each family on fresh seeds" in shown.data["text/html"]
    assert (tmp_path / "first" / "report.md").is_file()
