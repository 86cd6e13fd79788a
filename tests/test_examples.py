"""The example distributions: built as wheels, installed by pip, used as their pages describe, and uninstalled."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CLASSES, clean_environment, run_here, write_tones
from pages import ROOT, transcripts
from test_docs_names import find
from third_party import found_in

pytestmark = pytest.mark.slow

EXAMPLES = sorted(path.parent for path in (ROOT / "docs" / "examples").glob("*/pyproject.toml"))
NAMES = {path.name for path in EXAMPLES}

BUILD = """
import os, sys
from hatchling.build import build_wheel
wheels, *projects = sys.argv[1:]
for project in projects:
    os.chdir(project)
    build_wheel(wheels)
"""
"""Makes the wheels of projects: pip would start two processes for each."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python(tmp_path: Path) -> Run:
    """Python in a fresh virtual environment that also sees the packages installed for the tests.

    ``python("-m", "pip", ...)`` runs in an empty folder, and checks the exit code (default 0).
    """
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    # addsitedir follows .pth files, which a plain path entry does not: mirembed may be an editable install.
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "seen.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in seen))
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments: object, code: int = 0, cwd: Path = work) -> subprocess.CompletedProcess[str]:
        completed = subprocess.run(
            [folder / "bin" / "python", *map(str, arguments)],
            cwd=cwd,
            env=clean_environment({"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert completed.returncode == code, (completed.stdout, completed.stderr)
        assert "Traceback" not in completed.stderr, completed.stderr
        return completed

    run.packages = packages
    run.folder = work
    return run


def write_music(folder: Path) -> Path:
    """Write nine tones of three artists, and their ratings."""
    write_tones(folder, n_tracks=3, seconds=0.5)
    rows = [f"{name}/{name}-{i}.wav,artist {i},{1 + 3 * j},{9 - i}" for j, name in enumerate(CLASSES) for i in range(3)]
    (folder / "annotations.csv").write_text("\n".join(["file,artist,valence,arousal", *rows]))
    return folder


def test_the_examples_are_built_installed_used_and_uninstalled(python, tmp_path):
    def mirembed(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command in this process, with the packages of that environment."""
        completed = run_here(python.folder, list(map(str, arguments)), found_in(python.packages))
        assert completed.returncode == code, (completed.stdout, completed.stderr)
        return completed

    wheels = tmp_path / "wheels"
    for example in EXAMPLES:  # as pip does, in a process of its own and in the folder of the project
        assert '"hatchling.build"' in (example / "pyproject.toml").read_text()
    python("-c", BUILD, wheels, *EXAMPLES)
    built = sorted(wheels.iterdir())
    assert {wheel.name.partition("-")[0].replace("_", "-") for wheel in built} == NAMES
    python("-m", "pip", "install", "--no-deps", "--no-index", *built)
    listed = json.loads(python("-m", "mirembed", "plugins", "--json").stdout)
    own = {(p["kind"], p["name"], p["distribution"]) for p in listed["plugins"] if p["distribution"] in NAMES}
    assert own == {
        ("similarity", "laplacian", "mirembed-laplacian"),
        ("dataset", "csvmood", "mirembed-csvmood"),
        ("learner", "forest", "mirembed-forest"),
        ("features", "shape", "mirembed-shape"),
        ("network", "tcn", "mirembed-tcn"),
    }
    assert [(c["name"], c["distribution"]) for c in listed["commands"]] == [("sheet", "mirembed-sheet")]
    assert "sheet" in mirembed("--help").stdout
    assert listed["broken"] == []

    music = write_music(tmp_path / "MUSIC")
    extracted = mirembed("extract", "--dataset", "csvmood", "--audio", music, "--json")
    assert json.loads(extracted.stdout)["extracted"] == 9
    how = ["--similarity", "laplacian:gamma=0.2", "--learner", "forest:trees=10", "--epochs", 1, "--engine", "torch"]
    evaluated = mirembed("evaluate", "--folds", "grouped", "--cv", 3, *how, "--network", "mlp", "--json")
    assert set(json.loads(evaluated.stdout)["approaches"]) == {"laplacian:gamma=0.2-sl"}
    mirembed("extract", "--dataset", "csvmood", "--audio", music, "--features", "logmel+shape")
    chosen = ["--network", "tcn:channels=8,layers=2", "--features", "logmel+shape", "--features", "shape"]
    evaluated = mirembed("evaluate", "--folds", "grouped", "--cv", 3, *how, *chosen, "--json")
    assert len(json.loads(evaluated.stdout)["approaches"]) == 2

    done = mirembed("sheet", music)
    assert "9 rows" in done.stdout
    again = mirembed("sheet", music, code=1)
    [error] = again.stderr.splitlines()
    assert error.startswith("error: labels.csv ")

    mirembed("fit", *how, "--network", "tcn:channels=8,layers=2", "--name", "moods")
    predicted = json.loads(mirembed("predict", "moods", music / "low", "--json").stdout)
    assert all(1 <= row[mood] <= 9 for row in predicted["predictions"] for mood in ("valence", "arousal"))

    # With importlib, so that the installed modules are tested and not the files beside the tests.
    tested = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode", "importlib", *EXAMPLES)
    assert re.search(r"^\d+ passed", tested.stdout, re.MULTILINE), tested.stdout

    python("-m", "pip", "uninstall", "--yes", *NAMES)
    left = json.loads(mirembed("plugins", "--json").stdout)["plugins"]
    assert {p["distribution"] for p in left}.isdisjoint(NAMES)
    gone = mirembed("fit", "--similarity", "laplacian", code=1)
    assert "'laplacian'" in gone.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_imports_only_public_modules(example):
    for path in example.rglob("*.py"):
        modules = re.findall(r"^\s*(?:from|import) (mirembed(?:\.[\w.]+)?)\b", path.read_text(), re.MULTILINE)
        assert set(modules) <= {"mirembed", "mirembed.testing"}, path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_commands_on_an_example_page_are_valid(example):
    page = (example / "README.md").read_text(encoding="utf-8")
    commands = list(transcripts(page))
    assert commands
    for words, _ in commands:
        if words[0] == "sheet" or words[-1] == "sheet":
            continue  # its own command, see above
        command, rest = find(words)
        command.make_context("mirembed", rest.copy())
