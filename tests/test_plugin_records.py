"""What the store remembers of plugins: who supplied them, and what to install when they are gone."""

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
OPTIONS = ["--similarity", "linear", "--learner", "knn:k=1", "--epochs", "1", "--jobs", "1"]
EVALUATE = ["evaluate", "--dataset", "initials", "--cv", "2", *OPTIONS]


@contextlib.contextmanager
def installed(*sites: Path) -> Iterator[None]:
    """Let Python find the distributions in folders until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mirembed_everything", "mirembed_other", "mirembed_twin"):
            patch.delitem(sys.modules, name, raising=False)
        for site in sites:
            patch.syspath_prepend(site)
        yield


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> tuple[Path, Path]:
    """Two folders: one with a plugin of each kind, one with another similarity of the same name."""
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    install(first, "mirembed-everything", EVERYTHING)
    install(second, "mirembed-other", OTHER)
    return first, second


@pytest.fixture(scope="module")
def work(tmp_path_factory, sites) -> Path:
    """A folder whose store has a dataset, a run and a model made with the plugins of ``mirembed-everything``."""
    folder = tmp_path_factory.mktemp("work")
    write_tones(folder / "tones", n_tracks=4, seconds=1.0)
    with pytest.MonkeyPatch.context() as patch, installed(sites[0]), workers_run():
        patch.chdir(folder)
        invoke("extract", "--dataset", "initials", "--audio", "tones")
        invoke(*EVALUATE)
        invoke("fit", *OPTIONS, "--name", "model")
    return folder


@pytest.fixture
def said(work, monkeypatch, capsys):
    """Run a command in the folder; return its last line on standard error."""
    monkeypatch.chdir(work)

    def run(*words: str, code: int = 1) -> str:
        capsys.readouterr()
        with workers_run():
            invoke(*words, code=code)
        return capsys.readouterr().err.splitlines()[-1]

    return run


def test_a_run_and_a_model_say_who_supplied_dataset_similarity_and_learner(work):
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


def test_an_evaluation_without_its_dataset_plugin_says_what_to_install(said):
    assert said("evaluate", "--approach", "mel") == (
        "error: the dataset initials of the store needs the dataset 'initials' of mirembed-everything 1.0, "
        "which is not installed here; install mirembed-everything==1.0"
    )


@pytest.mark.parametrize(
    ("options", "kind", "name"),
    [
        (["--similarity", "linear"], "similarity", "linear"),
        (["--approach", "fl", "--learner", "knn"], "learner", "knn"),
    ],
)
def test_a_run_that_cannot_be_repeated_says_what_to_install(work, said, tmp_path, options, kind, name):
    """With the dataset at hand, but without similarity or learner."""
    install(
        tmp_path, "mirembed-everything", EVERYTHING.split("    @hookimpl\n    def mirembed_register_similarities")[0]
    )
    [run] = work.glob("mirembed-store/runs/*")
    with installed(tmp_path):
        assert said("evaluate", "--cv", "2", "--epochs", "1", *options) == (
            f"error: as in the run {run.name}, this needs the {kind} {name!r} of mirembed-everything 1.0, "
            "which is not installed here; install mirembed-everything==1.0"
        )


def test_a_name_that_no_run_knows_is_just_unknown(said, sites):
    with installed(sites[0]):
        assert said(*EVALUATE, "--learner", "forest") == (
            "error: no learner is called 'forest'; there are knn, svm, unsaved"
        )


def test_neighbors_without_the_similarity_say_what_to_install(said):
    assert said("similar", "model", "low-0.wav") == (
        "error: the model model needs the similarity 'linear' of mirembed-everything 1.0, which is not installed here; "
        "install mirembed-everything==1.0"
    )


def test_neighbors_are_ranked_by_the_similarity_that_was_learned_and_by_no_namesake(work, said, sites, capsys):
    with installed(sites[1]):
        assert "needs the similarity 'linear' of mirembed-everything 1.0" in said("similar", "model", "low-0.wav")
    with installed(*sites):
        invoke("similar", "model", "low-0.wav", "--json")
    assert json.loads(capsys.readouterr().out)["similarity"] == "mirembed-everything/linear"


def test_a_plugin_that_is_broken_or_left_out_is_not_to_be_installed(said, sites, monkeypatch, tmp_path):
    with installed(sites[0]):
        monkeypatch.setenv("MIREMBED_PLUGINS", "")
        assert said("similar", "model", "low-0.wav").endswith(
            "which is not usable here: plugin 'plugin' of mirembed-everything (not in MIREMBED_PLUGINS)"
        )
    monkeypatch.delenv("MIREMBED_PLUGINS")
    install(tmp_path, "mirembed-everything", "1 / 0")
    with installed(tmp_path):
        assert said("similar", "model", "low-0.wav").endswith(
            "not usable here: plugin 'plugin' of mirembed-everything 1.0: ZeroDivisionError: division by zero"
        )


def test_runs_are_compared_and_models_of_known_types_used_without_their_plugins(work, monkeypatch, capsys):
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


def test_a_clash_is_settled_by_the_full_name_for_every_kind(said, sites, tmp_path, monkeypatch):
    install(tmp_path, "mirembed-twin", EVERYTHING)
    with installed(sites[0], tmp_path):
        for words, kind, name in (
            (["extract", "--audio", "tones", "--dataset", "initials"], "dataset", "initials"),
            (["fit", "--epochs", "1", "--approach", "linear-sl"], "similarity", "linear"),
            (["fit", "--epochs", "1", "--learner", "knn"], "learner", "knn"),
        ):
            full = [f"{distribution}/{name}" for distribution in ("mirembed-everything", "mirembed-twin")]
            assert said(*words) == (f"error: {kind} {name!r} is registered more than once; write {' or '.join(full)}")
        twin = ["--similarity", "mirembed-twin/linear", "--learner", "mirembed-twin/knn:k=1", "--epochs", "1"]
        said(
            "extract", "--dataset", "mirembed-twin/initials", "--audio", "tones", "--store", str(tmp_path / "s"), code=0
        )
        with workers_run():
            invoke("fit", *twin, "--store", str(tmp_path / "s"), "--name", "twin")
    provenance = read_json(tmp_path / "s/models/twin/model.json")["provenance"]
    learned = provenance["settings"]["approaches"]["mirembed-twin/linear-sl"]["similarity"]
    used = [provenance["dataset"]["plugin"], learned, provenance["learner"]]
    assert {plugin["distribution"] for plugin in used} == {"mirembed-twin"}


def test_models_of_folds_that_could_not_be_loaded_are_refused_before_anything_is_trained(said, sites, work):
    before = list(work.glob("mirembed-store/runs/*"))
    with installed(sites[0]):
        error = said(*EVALUATE[:-2], "--learner", "unsaved", "--keep-models")
    assert error.startswith("error: the learner's KNeighborsClassifier cannot be saved without pickle (")
    assert list(work.glob("mirembed-store/runs/*")) == before
