"""The notebooks of the documentation run from top to bottom in a new folder, and show what the page has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from made_once import made_once
from nbclient import NotebookClient
from pages import ROOT

import mirembed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Jupyter, about the kernel's connection
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The kinds of the outputs of each cell."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[kind for output in cell.outputs for kind in sorted(output.get("data", ["text"]))] for cell in cells]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder with a store of the demo."""

    def extract(folder: Path) -> None:
        mirembed.extract("demo", store=folder / "mirembed-store", progress=False)

    return made_once(tmp_path_factory, "demo-store", extract)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_with_one_epoch(path, tmp_path, demo):
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    notebook = nbformat.read(path, as_version=4)
    shown = outputs(notebook)
    assert any("image/png" in kinds for kinds in shown)
    for cell in notebook.cells:
        cell.source = cell.source.replace("epochs=20", 'epochs=1, network="mlp"').replace("cv=5", "cv=2")
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert outputs(notebook) == shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_names_no_folder_of_some_machine_and_is_small(path):
    text = path.read_text(encoding="utf-8")
    assert [start for start in ("/tmp/", "/root/", "/work/") if start in text] == []
    assert len(text) < 200_000
    assert all("metadata" not in cell or not cell["metadata"] for cell in json.loads(text)["cells"])
