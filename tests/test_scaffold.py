"""``mirembed plugins new``: what it writes works as it is, and nothing is overwritten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import clean_environment
from third_party import found_in

from mirembed.errors import PluginError, SpecError
from mirembed.registry import HOOKS, Registry
from mirembed.scaffold import write_plugin
from mirembed.specs import Spec

REGISTRY = Registry.discover()


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env={**clean_environment(), **found_in()},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_new_plugins_pass_their_tests_and_the_linter(mirembed):
    for kind in HOOKS:
        done = mirembed("plugins", "new", kind, f"my-{kind}")
        folder = mirembed.folder / f"mirembed-my-{kind}"
        files = ["pyproject.toml", f"mirembed_my_{kind}.py", f"test_my_{kind}.py", "README.md"]
        assert done.stdout.splitlines()[:4] == [f"{folder.name}/{name}" for name in files]
        assert sorted(path.name for path in folder.iterdir()) == sorted(files)

    tested = run("pytest", "-p", "no:cacheprovider", folder=mirembed.folder)
    assert tested.returncode == 0, tested.stdout
    assert "failed" not in tested.stdout
    for kind in HOOKS:
        assert re.search(rf"test_my_{kind}\.py \.+", tested.stdout), tested.stdout
    lines = ["--config", "line-length = 120", "--isolated"]
    for folder in mirembed.folder.iterdir():
        linted = run("ruff", "check", *lines, "--select", "E,F,W,I,N,UP,B", ".", folder=folder)
        assert linted.stdout == "All checks passed!\n"
        styled = run("ruff", "format", "--check", *lines, ".", folder=folder)
        assert styled.returncode == 0, styled.stdout


@pytest.mark.parametrize("kind", HOOKS)
def test_a_new_plugin_is_found_under_its_name(kind, tmp_path, monkeypatch):
    written = write_plugin(kind, f"new-{kind}", tmp_path / "deep" / "down", REGISTRY)
    assert written.folder == tmp_path / "deep" / "down" / f"mirembed-new-{kind}"
    project = tomllib.loads((written.folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"mirembed-new-{kind}"
    assert project["entry-points"]["mirembed"] == {f"new-{kind}": written.module.stem}
    assert f"mirembed plugins check new-{kind}" in (written.folder / "README.md").read_text()

    monkeypatch.setenv("MIREMBED_PLUGINS_DIR", str(written.folder))
    registry = Registry.discover()
    assert not registry.broken
    assert registry.find(kind, f"new-{kind}").summary
    registry.create(kind, Spec(f"new-{kind}"))


def test_nothing_is_overwritten(tmp_path):
    folder = write_plugin("learner", "mine", tmp_path, REGISTRY).folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(PluginError, match=r"mirembed-mine .*--in"):
        write_plugin("similarity", "mine", tmp_path, REGISTRY)
    (tmp_path / "mirembed-file").write_text("kept")
    with pytest.raises(PluginError, match="mirembed-file "):
        write_plugin("similarity", "file", tmp_path, REGISTRY)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert (tmp_path / "mirembed-file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mirembed-file", "mirembed-mine"]


@pytest.mark.parametrize("name", ["", "Mine", "my_own", "-x", "x-", "a/b", "../x", "1st", "a b", "ä", "x" * 51])
def test_an_invalid_name_is_refused(tmp_path, name):
    with pytest.raises(SpecError, match=f"{re.escape(repr(name))}.*lower-case"):
        write_plugin("learner", name, tmp_path, REGISTRY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "facts"),
    [
        ("similarity", "rbf", ["mirembed already has", "similarity 'rbf'"]),
        ("learner", "similarities", ["module mirembed_similarities", "'similarities'"]),
        ("learner", "mirembed-x", ["'mirembed-x'", "mirembed-NAME"]),
        ("kernel", "x", ["'kernel'", "dataset, features, network, similarity, learner"]),
    ],
)
def test_a_name_that_is_taken_is_refused(mirembed, kind, name, facts):
    done = mirembed("plugins", "new", kind, name, code=1)
    [line] = done.stderr.splitlines()
    assert done.stdout == ""
    for fact in ["error: ", *facts]:
        assert fact in line
    assert list(mirembed.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["none", "track", "path", "listing", "estimator"])
def test_a_name_used_by_python_or_mirembed_still_gives_a_usable_class(name, tmp_path, monkeypatch):
    for kind in HOOKS:
        written = write_plugin(kind, name, tmp_path / kind, REGISTRY)
        monkeypatch.setenv("MIREMBED_PLUGINS_DIR", str(written.folder))
        assert Registry.discover().create(kind, Spec(name)) is not None


@pytest.mark.slow
def test_a_new_plugin_can_be_checked_without_installing_it(mirembed, tmp_path):
    mirembed("plugins", "new", "similarity", "quick", "--in", tmp_path)
    folder = tmp_path / "mirembed-quick"
    checked = json.loads(mirembed("--plugins-dir", folder, "plugins", "check", "quick", "--json").stdout)
    assert {outcome["status"] for outcome in checked["similarity"]} == {"passed"}
