"""What the store records about plugins: which distribution provided them, and what to install if they are missing."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_tones
from pages import invoke
from small_store import workers_run
from third_party import install

from mirembed.registry import Registry
from mirembed.store.files import read_json

pytestmark = pytest.mark.slow

EVERYTHING = """
    from mirembed import Classification, Listing, Track, hookimpl

    class Initials:
        def listing(self, audio):
            files = sorted(audio.rglob("*.wav"))
            tracks = [Track(file.name, file, file.name[0], group=file.parent.name) for file in files]
            return Listing(Classification(("h", "l", "m")), tracks)

    class Knn:
        def __init__(self, k: int = 3):
            self.k = k

        def estimator(self, task):
            from sklearn.neighbors import KNeighborsClassifier
            return KNeighborsClassifier(self.k)

    class Unsaved:
        def estimator(self, task):
            from sklearn.neighbors import KNeighborsClassifier
            estimator = KNeighborsClassifier(1)
            estimator.numbers = (number for number in range(3))
            return estimator

    @hookimpl
    def mirembed_register_datasets(register):
        register("initials", Initials)

    @hookimpl
    def mirembed_register_similarities(register):
        register("linear", lambda: lambda x: x @ x.mT)

    @hookimpl
    def mirembed_register_learners(register):
        register("knn", Knn)
        register("unsaved", Unsaved)
"""
OTHER = """
    from mirembed import hookimpl

    @hookimpl
    def mirembed_register_similarities(register):
        register("linear", lambda: lambda x: 2 * x @ x.mT)
"""
OPTIONS = ["--similarity", "linear", "--learner", "knn:k=1", "--network", "mlp", "--epochs", "1", "--jobs", "1"]
EVALUATE = ["evaluate", "--dataset", "initials", "--cv", "2", *OPTIONS]


@contextlib.contextmanager
def installed(*sites: Path) -> Iterator[None]:
    """Put folders of distributions on Python's path until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mirembed_everything", "mirembed_other", "mirembed_twin"):
            patch.delitem(sys.modules, name, raising=False)
        for site in sites:
            patch.syspath_prepend(site)
        yield


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> tuple[Path, Path]:
    """Two folders: one with a plugin of every kind, one with another similarity of the same name."""
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    install(first, "mirembed-everything", EVERYTHING)
    install(second, "mirembed-other", OTHER)
    return first, second


@pytest.fixture(scope="module")
def work(tmp_path_factory, sites) -> Path:
    """A folder with a store that holds a dataset, a run and a model made with ``mirembed-everything``."""
    folder = tmp_path_factory.mktemp("work")
    write_tones(folder / "tones", n_tracks=4, seconds=1.0)
    with pytest.MonkeyPatch.context() as patch, installed(sites[0]), workers_run():
        patch.chdir(folder)
        invoke("extract", "--dataset", "initials", "--audio", "tones")
        invoke(*EVALUATE)
        invoke("fit", *OPTIONS, "--name", "model")
    return folder


@pytest.fixture
def last_line(work, monkeypatch, capsys):
    """Run a command in the folder and return the last line of standard error."""
    monkeypatch.chdir(work)

    def run(*words: str, code: int = 1) -> str:
        capsys.readouterr()
        with workers_run():
            invoke(*words, code=code)
        return capsys.readouterr().err.splitlines()[-1]

    return run


def assert_says_what_to_install(line: str, kind: str, name: str) -> None:
    assert line.startswith("error: ")
    assert f"the {kind} {name!r} of mirembed-everything 1.0" in line
    assert line.endswith("install mirembed-everything==1.0")


def test_a_run_and_a_model_record_the_distribution_of_every_plugin(work):
    [run] = work.glob("mirembed-store/runs/*/manifest.json")
    configuration = read_json(run)["configuration"]
    provenance = read_json(work / "mirembed-store/models/model/model.json")["provenance"]
    for dataset, settings in (
        (configuration["dataset"]["plugin"], configuration),
        (provenance["dataset"]["plugin"], provenance["settings"]),
    ):
        approach = settings["approaches"]["linear-sl"]
        used = [dataset, approach["similarity"], approach["label_similarity"], *settings["learners"].values()]
        assert [plugin["name"] for plugin in used] == ["initials", "linear", "linear", "knn"]
        assert {(plugin["distribution"], plugin["version"]) for plugin in used} == {("mirembed-everything", "1.0")}
        assert [learner["parameters"] for learner in settings["learners"].values()] == [{"k": 1}]


def test_an_evaluation_without_its_dataset_plugin_says_what_to_install(last_line):
    assert_says_what_to_install(last_line("evaluate", "--approach", "stats"), "dataset", "initials")


@pytest.mark.parametrize(
    ("options", "kind", "name"),
    [
        (["--similarity", "linear"], "similarity", "linear"),
        (["--approach", "fl", "--learner", "knn"], "learner", "knn"),
    ],
)
def test_a_run_that_cannot_be_repeated_says_what_to_install(work, last_line, tmp_path, options, kind, name):
    """With the dataset installed, but not the similarity or the learner."""
    install(
        tmp_path, "mirembed-everything", EVERYTHING.split("    @hookimpl\n    def mirembed_register_similarities")[0]
    )
    [run] = work.glob("mirembed-store/runs/*")
    with installed(tmp_path):
        line = last_line("evaluate", "--cv", "2", "--epochs", "1", *options)
        assert_says_what_to_install(line, kind, name)
        assert run.name in line


def test_a_name_that_no_run_has_recorded_is_unknown(last_line, sites):
    with installed(sites[0]):
        line = last_line(*EVALUATE, "--learner", "forest")
    assert "'forest'" in line
    assert "knn, svm, unsaved" in line
    assert "install" not in line


def test_similar_says_what_to_install_for_a_missing_similarity(last_line):
    assert_says_what_to_install(last_line("similar", "model", "low-0.wav"), "similarity", "linear")


def test_neighbors_are_ranked_by_the_learned_similarity_and_not_by_a_namesake(work, last_line, sites, capsys):
    with installed(sites[1]):
        assert_says_what_to_install(last_line("similar", "model", "low-0.wav"), "similarity", "linear")
    with installed(*sites):
        invoke("similar", "model", "low-0.wav", "--json")
    assert json.loads(capsys.readouterr().out)["similarity"] == "mirembed-everything/linear"


def test_a_plugin_that_is_broken_or_left_out_need_not_be_installed(last_line, sites, monkeypatch, tmp_path):
    with installed(sites[0]):
        monkeypatch.setenv("MIREMBED_PLUGINS", "")
        line = last_line("similar", "model", "low-0.wav")
        assert line.endswith("plugin 'plugin' of mirembed-everything (not in MIREMBED_PLUGINS)")
    monkeypatch.delenv("MIREMBED_PLUGINS")
    install(tmp_path, "mirembed-everything", "1 / 0")
    with installed(tmp_path):
        line = last_line("similar", "model", "low-0.wav")
        assert line.endswith("plugin 'plugin' of mirembed-everything 1.0: ZeroDivisionError: division by zero")


def test_comparing_runs_and_using_models_of_trusted_types_needs_no_plugins(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert "knn" not in {plugin.name for plugin in Registry.discover().plugins}
    [run] = work.glob("mirembed-store/runs/*")
    again = run.with_name("again")
    shutil.copytree(run, again)
    invoke("compare", run.name, again.name, "--json")
    shutil.rmtree(again)
    with workers_run():
        invoke("predict", "model", "tones/low", "--json")
    assert "label" in capsys.readouterr().out


def test_the_full_name_resolves_a_clash_for_every_kind(last_line, sites, tmp_path, monkeypatch):
    install(tmp_path, "mirembed-twin", EVERYTHING)
    with installed(sites[0], tmp_path):
        for words, kind, name in (
            (["extract", "--audio", "tones", "--dataset", "initials"], "dataset", "initials"),
            (["fit", "--epochs", "1", "--approach", "linear-sl"], "similarity", "linear"),
            (["fit", "--epochs", "1", "--learner", "knn"], "learner", "knn"),
        ):
            full = [f"{distribution}/{name}" for distribution in ("mirembed-everything", "mirembed-twin")]
            line = last_line(*words)
            assert line.startswith(f"error: {kind} {name!r}")
            assert " or ".join(full) in line
        twin = ["--similarity", "mirembed-twin/linear", "--learner", "mirembed-twin/knn:k=1", "--epochs", "1"]
        last_line(
            "extract", "--dataset", "mirembed-twin/initials", "--audio", "tones", "--store", str(tmp_path / "s"), code=0
        )
        with workers_run():
            invoke("fit", *twin, "--store", str(tmp_path / "s"), "--name", "twin")
    provenance = read_json(tmp_path / "s/models/twin/model.json")["provenance"]
    learned = provenance["settings"]["approaches"]["mirembed-twin/linear-sl"]["similarity"]
    used = [provenance["dataset"]["plugin"], learned, provenance["learner"]]
    assert {plugin["distribution"] for plugin in used} == {"mirembed-twin"}


def test_fold_models_that_could_not_be_loaded_are_refused_before_training(last_line, sites, work):
    before = list(work.glob("mirembed-store/runs/*"))
    with installed(sites[0]):
        error = last_line(*EVALUATE[:-2], "--learner", "unsaved", "--keep-models")
    assert error.startswith("error: ")
    assert "KNeighborsClassifier" in error
    assert "pickle" in error
    assert list(work.glob("mirembed-store/runs/*")) == before
