"""Which plugins are loaded: all, some, or those in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_store import give_files, write_classes
from third_party import install

from mirembed.errors import UnknownNameError
from mirembed.registry.discovery import FOLDER, REFUSED, Selection, selecting
from mirembed.store.files import read_json

SIMILARITY = """\
from mirembed import hookimpl

@hookimpl
def mirembed_register_similarities(register):
    register("{name}", lambda: lambda x: x @ x.mT)
"""
WITH_LEARNER = """\
import os

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from mirembed import hookimpl

print("imported")


def say(what):
    print(what)
    os.write(1, f"{what} natively\\n".encode())


class Nearest(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        say("fitted")
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == c].mean(axis=0) for c in self.classes_])
        return self

    def predict(self, X):
        return self.classes_[((X[:, None] - self.means_) ** 2).sum(axis=2).argmin(axis=1)]


class Means:
    def estimator(self, task):
        return Nearest()


def plain(x):
    say("similarity called")
    return x @ x.mT


@hookimpl
def mirembed_register_similarities(register):
    print("registered")
    register("plain", lambda: plain)


@hookimpl
def mirembed_register_learners(register):
    register("means", Means)
"""


@pytest.fixture
def two(tmp_path) -> dict[str, str]:
    """The environment variables that add two distributions with one similarity each, both as entry point ``plugin``."""
    install(tmp_path / "site", "mirembed-first", SIMILARITY.format(name="one"))
    return install(tmp_path / "site", "mirembed_Second", SIMILARITY.format(name="two"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a one-file plugin and other files."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "my-plugin.py").write_text(SIMILARITY.format(name="plain"))
    for name in ("_helper.py", "test_my_plugin.py", "notes.txt"):
        (folder / name).write_text("1 / 0")
    return folder


def names(mirembed, *options: object, env: dict[str, str]) -> set[str]:
    """Return the names of third-party similarities."""
    listed = json.loads(mirembed(*options, "plugins", "--hook", "similarity", "--json", env=env).stdout)
    assert listed["broken"] == []
    assert {"rbf", "cosine", "polynomial"} <= {plugin["name"] for plugin in listed["plugins"]}
    return {plugin["name"] for plugin in listed["plugins"] if plugin["distribution"] != "mirembed"}


def test_all_plugins_are_loaded_by_default(mirembed, two):
    assert names(mirembed, env=two) == {"one", "two"}


@pytest.mark.parametrize(
    ("allowed", "loaded"),
    [
        ("mirembed-first", {"one"}),
        ("mirembed-second", {"two"}),
        ("MIREMBED.First, mirembed_second", {"one", "two"}),
        ("plugin", {"one", "two"}),
        ("", set()),
    ],
)
def test_an_allow_list_of_distributions_or_entry_points_keeps_the_built_in_plugins(mirembed, two, allowed, loaded):
    assert names(mirembed, env={**two, "MIREMBED_PLUGINS": allowed}) == loaded


def test_plugins_are_left_out_by_name_even_if_allowed(mirembed, two):
    assert names(mirembed, "--no-plugin", "mirembed-first", env=two) == {"two"}
    both = ["--no-plugin", "mirembed-first", "--no-plugin", "mirembed-second"]
    assert names(mirembed, *both, env=two) == set()
    assert names(mirembed, "--no-plugin", "plugin", env={**two, "MIREMBED_PLUGINS": "mirembed-first"}) == set()
    assert names(mirembed, env={**two, "MIREMBED_NO_PLUGINS": "mirembed-first"}) == {"two"}


def test_a_plugin_that_is_left_out_is_not_imported(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-broken", "1 / 0")
    done = mirembed("--no-plugin", "mirembed-broken", "plugins", env={**environment, "MIREMBED_STRICT_PLUGINS": "1"})
    assert "left out: plugin 'plugin' of mirembed-broken (--no-plugin)" in done.stdout.splitlines()


def test_the_error_about_an_unknown_name_lists_plugins_that_were_left_out(mirembed, two):
    done = mirembed("--no-plugin", "mirembed-first", "plugins", "show", "one", env=two, code=1)
    assert done.stderr.endswith("plugin 'plugin' of mirembed-first (--no-plugin)\n")
    done = mirembed("plugins", "show", "one", env={**two, "MIREMBED_PLUGINS": "mirembed-second"}, code=1)
    assert done.stderr.endswith("plugin 'plugin' of mirembed-first (not in MIREMBED_PLUGINS)\n")


def test_a_selection_that_names_no_plugin_is_an_error(mirembed, two):
    done = mirembed("--no-plugin", "mirembed-frist", "plugins", env=two, code=1)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: --no-plugin mirembed-frist: ")
    assert "mirembed-first" in line
    with pytest.raises(UnknownNameError, match=r"^MIREMBED_PLUGINS a: .* none$"):
        Selection(allowed=("a",)).check(set())


def test_the_files_in_a_folder_are_plugins(mirembed, two, folder):
    assert names(mirembed, "--plugins-dir", folder, env=two) == {"one", "two", "plain"}
    assert names(mirembed, env={**two, "MIREMBED_PLUGINS_DIR": str(folder)}) == {"one", "two", "plain"}
    only = {**two, "MIREMBED_PLUGINS": ""}
    assert names(mirembed, "--plugins-dir", folder, env=only) == {"plain"}
    assert names(mirembed, "--plugins-dir", folder, "--no-plugin", "my-plugin", env=only) == set()


def test_a_missing_folder_of_plugins_is_an_error(mirembed, tmp_path):
    done = mirembed("--plugins-dir", tmp_path / "gone", "plugins", code=1)
    [line] = done.stderr.splitlines()
    for fact in ("error: ", str(tmp_path / "gone"), "--plugins-dir", "MIREMBED_PLUGINS_DIR"):
        assert fact in line


def test_a_file_that_fails_is_reported_like_any_plugin(mirembed, folder):
    (folder / "wrong.py").write_text("1 / 0")
    done = mirembed("--plugins-dir", folder, "plugins", "--json")
    [broken] = json.loads(done.stdout)["broken"]
    assert (broken["entry_point"], broken["distribution"]) == ("wrong", "wrong.py")
    assert broken["error"] == "ZeroDivisionError: division by zero"


def test_a_file_may_have_the_name_of_a_module(mirembed, folder):
    (folder / "random.py").write_text(SIMILARITY.format(name="rand"))
    assert names(mirembed, "--plugins-dir", folder, env={}) == {"plain", "rand"}


@pytest.mark.slow
def test_a_one_file_plugin_trains_in_workers_and_is_recorded_with_its_hash(mirembed, folder, tmp_path):
    """Including an estimator of a class that the file defines, which is saved and loaded.

    What it prints, natively too, never mixes with the JSON.
    """
    (folder / "my-plugin.py").write_text(WITH_LEARNER)
    give_files(write_classes(tmp_path / "store", 9), tmp_path / "audio")
    options = ["--store", tmp_path / "store", "--network", "mlp", "--epochs", 1, "--jobs", 1]
    chosen = ["--approach", "my-plugin.py/plain-sl", "--learner", "means"]
    fitted = mirembed("--plugins-dir", "../experiments", "fit", *options, *chosen, "--json", process=True)
    models = {model["approach"]: Path(model["model"]) for model in json.loads(fitted.stdout)["models"]}
    said = {"similarity called", "similarity called natively", "fitted", "fitted natively"}
    assert set(fitted.stderr.splitlines()) >= {"imported", "registered", *said}
    used = read_json(models["my-plugin.py/plain-sl"] / "model.json")["provenance"]["settings"]
    for plugin in (*used["learners"].values(), used["approaches"]["my-plugin.py/plain-sl"]["similarity"]):
        assert (plugin["distribution"], len(plugin["file_hash"])) == ("my-plugin.py", len("sha256:") + 64)
        assert plugin["file_hash"].startswith(plugin["version"])

    find = ["similar", models["my-plugin.py/plain-sl"], "001", "--store", tmp_path / "store"]
    mirembed("--plugins-dir", folder, *find)
    gone = mirembed(*find, code=1)
    [line] = gone.stderr.splitlines()
    assert line.startswith(f"error: the model {models['my-plugin.py/plain-sl'].name} ")
    assert f"the similarity 'plain' of my-plugin.py {plugin['version']}" in line
    assert "--plugins-dir" in line


def test_a_selection_ends_with_its_block(monkeypatch, tmp_path):
    monkeypatch.delenv(REFUSED, raising=False)
    monkeypatch.setenv(FOLDER, "elsewhere")
    with selecting(["a", "b"], tmp_path):
        assert Selection.from_environment() == Selection(None, ("a", "b"), tmp_path)
        with selecting(["c"], None):
            assert Selection.from_environment() == Selection(None, ("a", "b", "c"), tmp_path)
    assert Selection.from_environment() == Selection(None, (), Path("elsewhere"))
