"""How plugins are found, what happens if one is broken, and that third-party plugins can do what built-in ones can."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_store import give_files, write_classes
from third_party import install

from mirembed.errors import NameClashError, ParameterError, PluginError, UnknownNameError
from mirembed.registry import HOST, BrokenPlugin, Plugin, Registry
from mirembed.specs import Spec
from mirembed.store.files import read_json

SIMILARITY = """
    from mirembed import hookimpl

    class Same:
        def __call__(self, x):
            return x @ x.mT

    @hookimpl
    def mirembed_register_similarities(register):
        register("{name}", Same, summary="A test")
"""

HOOK = "from mirembed import hookimpl\n@hookimpl\ndef mirembed_register_learners(register): "
BROKEN = {
    "import error": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "syntax": ("def", "SyntaxError: invalid syntax"),
    "message of several lines": ("raise ValueError('one\\n two')", "ValueError: one two"),
    "no hook": ("x = 1", "mirembed_register_datasets"),
    "misspelled hook": (
        "def mirembed_register_similarity(register): ...",
        "'mirembed_register_similarity' (did you mean 'mirembed_register_similarities'?)",
    ),
    "no decorator": (
        "def mirembed_register_learners(register): register('x', dict)",
        "@hookimpl",
    ),
    "wrong argument": (
        HOOK.replace("(register)", "(registry)") + "...",
        "{'registry'}",
    ),
    "hook that raises": (
        HOOK + "raise OSError('no license')",
        "OSError: no license",
    ),
    "hook that exits": (
        HOOK + "raise SystemExit",
        "SystemExit",
    ),
    "invalid name": (
        HOOK + "register('a b', dict)",
        "'a b'",
    ),
    "full name": (
        HOOK + "register('a/b', dict)",
        "'a/b'",
    ),
    "no factory": (
        HOOK + "register('a', 3)",
        "factory of learner 'a' is 3",
    ),
    "one name twice": (
        HOOK + "register('a', dict); register('a', list)",
        "learner 'a' is registered twice",
    ),
}
"""Modules that are not plugins, and a fact from the error about each."""


def similarity(name: str, distribution: str = HOST, factory: object = dict) -> Plugin:
    return Plugin("similarity", name, factory, "", distribution, "1.0")


def discover(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Registry:
    """Discover plugins with a folder of distributions first on the path."""
    monkeypatch.syspath_prepend(folder)
    return Registry.discover()


def test_all_plugins_come_from_entry_points(monkeypatch):
    assert Registry.discover().plugins
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [])
    assert not Registry.discover().plugins


def test_plugins_are_listed_with_kind_name_distribution_and_version(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-extra", SIMILARITY.format(name="same"))
    listed = json.loads(mirembed("plugins", "--json", env=environment).stdout)["plugins"]
    keys = ("kind", "name", "distribution", "version", "summary", "parameters")
    assert ("similarity", "same", "mirembed-extra", "1.0", "A test", []) in [tuple(map(p.get, keys)) for p in listed]
    own = {(p["kind"], p["name"]) for p in listed if p["distribution"] == "mirembed"}
    assert own >= {("dataset", "folder"), ("similarity", "rbf"), ("similarity", "cosine"), ("learner", "svm")}

    table = mirembed("plugins", env=environment).stdout
    assert [line.split() for line in table.splitlines() if "mirembed-extra" in line] == [
        ["│", "similarity", "│", "same", "│", "A", "test", "│", "mirembed-extra", "│", "1.0", "│"]
    ]


def test_what_a_plugin_prints_goes_to_standard_error(monkeypatch, tmp_path, capsys):
    source = """
        print("imported")
        from mirembed import hookimpl

        def loud():
            print("made")

        @hookimpl
        def mirembed_register_learners(register):
            print("registered")
            register("loud", loud)
    """
    install(tmp_path, "mirembed-loud", source)
    discover(monkeypatch, tmp_path).create("learner", Spec("loud"))
    assert capsys.readouterr() == ("", "imported\nregistered\nmade\n")


def test_a_broken_plugin_costs_one_line_and_affects_nothing_else(mirembed, tones, tmp_path):
    install(tmp_path / "site", "mirembed-broken", "import no_such_module")
    environment = install(tmp_path / "site", "mirembed-extra", SIMILARITY.format(name="same"))

    extracted = mirembed("extract", "--dataset", "folder", "--audio", tones, env=environment)
    assert "18 of 18" in extracted.stdout
    [warning] = [line for line in extracted.stderr.splitlines() if "no_such_module" in line]
    assert warning.startswith("warning: plugin 'plugin' of mirembed-broken 1.0: ModuleNotFoundError")
    assert "--no-plugin mirembed-broken" in warning

    listed = mirembed("plugins", env=environment).stdout
    assert "same" in listed
    [line] = [line for line in listed.splitlines() if "no_such_module" in line]
    assert line.startswith("broken: plugin 'plugin' of mirembed-broken 1.0: ModuleNotFoundError")
    assert "--no-plugin mirembed-broken" in line
    assert "Traceback" not in listed
    verbose = mirembed("plugins", "--verbose", env=environment).stdout
    assert "Traceback (most recent call last)" in verbose
    assert "import no_such_module" in verbose

    [broken] = json.loads(mirembed("plugins", "--json", env=environment).stdout)["broken"]
    assert broken["distribution"] == "mirembed-broken"
    assert broken["error"].startswith("ModuleNotFoundError")


def test_strict_plugins_make_a_broken_plugin_fatal(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-broken", "1 / 0")
    strict = {**environment, "MIREMBED_STRICT_PLUGINS": "1"}
    failed = mirembed("plugins", env=strict, code=1)
    assert failed.stdout == ""
    [line] = failed.stderr.splitlines()
    assert line.startswith("error: plugin 'plugin' of mirembed-broken 1.0: ZeroDivisionError: division by zero")
    assert "MIREMBED_STRICT_PLUGINS" in line
    mirembed("plugins", env={**environment, "MIREMBED_STRICT_PLUGINS": "0"})


def test_strict_plugins_change_nothing_if_no_plugin_is_broken(mirembed):
    mirembed("plugins", env={"MIREMBED_STRICT_PLUGINS": "1"})


@pytest.mark.parametrize("reason", BROKEN)
def test_the_other_plugins_work_whatever_is_wrong_with_one(reason, monkeypatch, tmp_path):
    source, message = BROKEN[reason]
    number = list(BROKEN).index(reason)
    install(tmp_path, f"mirembed-broken{number}", source)
    install(tmp_path, f"mirembed-whole{number}", SIMILARITY.format(name=f"same{number}"))
    registry = discover(monkeypatch, tmp_path)

    [broken] = registry.broken
    assert (broken.distribution, broken.version) == (f"mirembed-broken{number}", "1.0")
    assert message in broken.error
    assert "\n" not in str(broken)
    assert "Traceback" in broken.details
    assert registry.find("similarity", f"same{number}").distribution == f"mirembed-whole{number}"
    assert registry.find("similarity", "rbf").distribution == HOST
    assert not [plugin for plugin in registry.plugins if plugin.distribution == broken.distribution]


@pytest.mark.parametrize(
    ("kind", "name", "told", "not_told"),
    [
        ("similarity", "rfb", "rbf", "cosine"),
        ("similarity", "COSINE", "cosine", "rbf"),
        ("similarity", "zzz", "cosine, rbf", "?"),
        ("dataset", "zzz", "none", "rbf"),
    ],
)
def test_an_unknown_name_is_answered_with_similar_names_or_all(kind, name, told, not_told):
    registry = Registry([similarity("rbf"), similarity("cosine"), Plugin("learner", "rfb", dict, "", HOST, "1")])
    with pytest.raises(UnknownNameError) as error:
        registry.find(kind, name)
    asked, _, answer = str(error.value).partition(";")
    assert kind in asked
    assert repr(name) in asked
    assert told in answer
    assert not_told not in answer


def test_the_error_about_an_unknown_name_lists_broken_plugins():
    registry = Registry([], [BrokenPlugin("kernels", "mirembed-extra", "1.0", "ImportError: no cupy", "")])
    with pytest.raises(UnknownNameError, match=r"'kernels' of mirembed-extra 1\.0: ImportError: no cupy"):
        registry.find("similarity", "laplacian")


def test_a_name_in_two_distributions_is_an_error_and_the_full_name_picks_one():
    first, second = similarity("laplacian", "mirembed-a"), similarity("laplacian", "mirembed-b")
    registry = Registry([similarity("rbf"), first, second])
    with pytest.raises(NameClashError, match=r"'laplacian'.* mirembed-a/laplacian or mirembed-b/laplacian"):
        registry.find("similarity", "laplacian")
    assert registry.find("similarity", "mirembed-b/laplacian") is second
    assert {registry.shown_name(plugin) for plugin in registry.plugins} == {
        "rbf",
        "mirembed-a/laplacian",
        "mirembed-b/laplacian",
    }


def test_a_built_in_name_keeps_its_meaning_and_a_namesake_is_reached_by_its_full_name(mirembed, tmp_path):
    environment = install(tmp_path / "site", "a-namesake", SIMILARITY.format(name="rbf"))
    listed = json.loads(mirembed("plugins", "--json", env=environment).stdout)["plugins"]
    distributions = {p["name"]: p["distribution"] for p in listed if p["kind"] == "similarity"}
    assert distributions["rbf"] == "mirembed"
    assert distributions["a-namesake/rbf"] == "a-namesake"

    registry = Registry([similarity("rbf", "a-namesake"), similarity("rbf")])
    assert registry.find("similarity", "rbf").distribution == HOST
    assert registry.find("similarity", "mirembed/rbf").distribution == HOST
    assert registry.find("similarity", "a-namesake/rbf").distribution == "a-namesake"


def test_plugins_of_different_kinds_may_share_a_name():
    learner = Plugin("learner", "rbf", dict, "", "mirembed-a", "1.0")
    registry = Registry([similarity("rbf"), learner])
    assert registry.find("learner", "rbf") is learner


def test_a_factory_gets_its_parameters_and_is_called_only_when_used():
    calls = []

    def factory(*, gamma: float = 1.0) -> str:
        calls.append(gamma)
        return f"kernel of {gamma}"

    registry = Registry([similarity("rbf", factory=factory)])
    assert registry.find("similarity", "rbf").parameters == "gamma: float = 1.0"
    assert calls == []
    assert registry.create("similarity", Spec.parse("rbf:gamma=2")) == "kernel of 2.0"
    assert calls == [2.0]


def test_a_factory_with_unreadable_annotations_is_listed_nevertheless():
    def factory(*, gamma: Missing = 1.0) -> None: ...  # noqa: F821

    assert "NameError: name 'Missing'" in similarity("odd", factory=factory).parameters


def test_provenance_contains_all_parameters():
    def factory(*, gamma: float = 1.0, table: Path = Path("a/b"), c: float | None = None) -> None: ...

    registry = Registry([similarity("rbf", "mirembed-extra", factory)])
    assert registry.provenance("similarity", Spec.parse("mirembed-extra/rbf:gamma=2")) == {
        "kind": "similarity",
        "spec": "mirembed-extra/rbf:gamma=2",
        "name": "rbf",
        "distribution": "mirembed-extra",
        "version": "1.0",
        "code": registry.plugins[0].code,
        "parameters": {"gamma": 2.0, "table": "a/b", "c": None},
    }


@pytest.mark.parametrize("error", [RuntimeError("no graphics card"), SystemExit("no graphics card")])
def test_the_error_about_a_failing_factory_names_its_distribution(error):
    def factory() -> None:
        raise error

    registry = Registry([similarity("laplacian", "mirembed-extra", factory)])
    blamed = r"^similarity laplacian of mirembed-extra 1\.0 "
    with pytest.raises(PluginError, match=f"{blamed}.*{type(error).__name__}: no graphics card"):
        registry.create("similarity", Spec("laplacian"))


def test_a_value_that_a_factory_rejects_is_a_parameter_error():
    def factory(*, gamma: float) -> None:
        raise ValueError(f"gamma is {gamma}; expected a number above 0")

    registry = Registry([similarity("laplacian", "mirembed-extra", factory)])
    with pytest.raises(ParameterError, match=r"^similarity laplacian:gamma=-1: gamma is -1\.0;"):
        registry.create("similarity", Spec.parse("laplacian:gamma=-1"))


THIRD_PARTY = """
    from pathlib import Path

    import numpy as np
    from mirembed import Classification, Listing, Track, hookimpl
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Laplacian:
        def __init__(self, gamma: float = 1.0):
            self.gamma = gamma

        def __call__(self, x):
            return (-self.gamma * (x[..., :, None, :] - x[..., None, :, :]).abs().sum(-1)).exp()

    class WithCross(Laplacian):
        def cross(self, x, y):
            print("cross was called")
            return (-self.gamma * (x[..., :, None, :] - y[..., None, :, :]).abs().sum(-1)).exp()

    class Neighbors:
        def __init__(self, k: int = 3):
            self.k = k

        def estimator(self, task):
            from sklearn.neighbors import KNeighborsClassifier
            return KNeighborsClassifier(self.k)

    class Nearest(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            self.means_ = np.stack([X[y == c].mean(axis=0) for c in self.classes_])
            return self

        def predict(self, X):
            return self.classes_[((X[:, None] - self.means_) ** 2).sum(axis=2).argmin(axis=1)]

    class Means:
        def estimator(self, task):
            return Nearest()

    class Initials:
        def listing(self, audio: Path):
            files = sorted(audio.rglob("*.wav"))
            tracks = [Track(file.name, file, file.name[0], group=file.parent.name) for file in files]
            return Listing(Classification(("h", "l", "m")), tracks, absent=2, notes=["initials are labels"])

    @hookimpl
    def mirembed_register_similarities(register):
        register("laplacian", Laplacian)
        register("with-cross", WithCross)

    @hookimpl
    def mirembed_register_learners(register):
        register("neighbors", Neighbors)
        register("means", Means)

    @hookimpl
    def mirembed_register_datasets(register):
        register("initials", Initials)
"""


@pytest.fixture(scope="module")
def third_party(tmp_path_factory):
    """The environment variables that add a distribution with plugins of every kind."""
    return install(tmp_path_factory.mktemp("site"), "mirembed-everything", THIRD_PARTY)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store with three classes of tracks."""
    root = tmp_path_factory.mktemp("store")
    give_files(write_classes(root), tmp_path_factory.mktemp("music") / "audio")
    return root


@pytest.mark.slow
def test_a_third_party_dataset_is_extracted(mirembed, tones, third_party):
    done = mirembed("extract", "--dataset", "initials", "--audio", tones, env=third_party)
    assert "18 of 18" in done.stdout
    assert "2 annotated tracks" in done.stdout
    assert "initials are labels" in done.stderr
    tracks = mirembed.folder / "mirembed-store" / "datasets" / "initials" / "tracks.parquet"
    table = pq.read_table(tracks, columns=["id", "label", "group"])
    assert {"id": "low-3.wav", "label": "l", "group": "low"} in table.to_pylist()


@pytest.mark.slow
def test_third_party_similarities_and_learners_are_fitted_and_used(mirembed, store, third_party):
    """Including an estimator of a class that the plugin defines, which is saved and loaded without pickle."""
    options = ["--store", store, "--network", "mlp", "--epochs", 4, "--jobs", 1]
    approaches = ["--similarity", "laplacian:gamma=0.5", "--approach", "with-cross-sl"]
    fitted = mirembed("fit", *options, *approaches, "--learner", "means", "--json", env=third_party)
    models = {entry["approach"]: Path(entry["model"]) for entry in json.loads(fitted.stdout)["models"]}
    used = read_json(models["laplacian:gamma=0.5-sl"] / "model.json")["provenance"]["settings"]["approaches"]
    assert used["laplacian:gamma=0.5-sl"]["similarity"]["distribution"] == "mirembed-everything"
    assert used["laplacian:gamma=0.5-sl"]["similarity"]["parameters"] == {"gamma": 0.5}

    for approach, has_cross in [("laplacian:gamma=0.5-sl", False), ("with-cross-sl", True)]:
        found = mirembed("similar", models[approach], "001", "--store", store, "--top", 3, env=third_party)
        same_class = {f"{number:03d}" for number in range(4, 18, 3)}
        ranked = [line.split("│")[2].strip() for line in found.stdout.splitlines() if line.startswith("│")]
        assert len(ranked) == 3
        assert set(ranked) <= same_class
        assert ("cross was called" in found.stderr) is has_cross


@pytest.mark.slow
def test_third_party_similarities_and_learners_are_evaluated(mirembed, store, third_party):
    options = ["--store", store, "--network", "mlp", "--epochs", 4, "--jobs", 1, "--cv", 2]
    approaches = ["--similarity", "laplacian:gamma=0.5", "--similarity", "with-cross"]
    evaluated = mirembed("evaluate", *options, *approaches, "--learner", "neighbors:k=1", "--json", env=third_party)
    scores = json.loads(evaluated.stdout)["approaches"]
    assert set(scores) == {"laplacian:gamma=0.5-sl", "with-cross-sl"}
    assert all(score["accuracy"]["mean"] > 0.8 for score in scores.values())
