"""Plugins: how they are found, what happens when one is broken, and that strangers can do all that built-ins can."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_store import write_classes
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
    "import error": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "syntax": ("def", "SyntaxError: invalid syntax"),
    "message of several lines": ("raise ValueError('one\\n two')", "ValueError: one two"),
    "no hook": ("x = 1", "registers nothing; it needs one of the hooks mirembed_register_datasets, "),
    "misspelled hook": (
        "def mirembed_register_similarity(register): ...",
        "there is no hook 'mirembed_register_similarity'; 'mirembed_register_similarities' was probably meant",
    ),
    "no decorator": (
        "def mirembed_register_learners(register): register('x', dict)",
        "mirembed_register_learners lacks the decorator @hookimpl (from mirembed import hookimpl)",
    ),
    "wrong argument": (
        HOOK.replace("(register)", "(registry)") + "...",
        "Argument(s) {'registry'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "hook that raises": (
        HOOK + "raise OSError('no license')",
        "OSError: no license",
    ),
    "hook that exits": (
        HOOK + "raise SystemExit",
        "SystemExit",
    ),
    "name that is none": (
        HOOK + "register('a b', dict)",
        "'a b' is not a plugin's name",
    ),
    "full name": (
        HOOK + "register('a/b', dict)",
        "'a/b' cannot be a name: letters, digits, '.', '_' and '-' only",
    ),
    "no factory": (
        HOOK + "register('a', 3)",
        "the factory of learner 'a' is 3, which cannot be called",
    ),
    "one name twice": (
        HOOK + "register('a', dict); register('a', list)",
        "learner 'a' is registered twice",
    ),
}
"""Modules that are no plugins, and what is said about them."""


def similarity(name: str, distribution: str = HOST, factory: object = dict) -> Plugin:
    return Plugin("similarity", name, factory, "", distribution, "1.0")


def discover(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Registry:
    """Return what is found with a folder of distributions before all others."""
    monkeypatch.syspath_prepend(folder)
    return Registry.discover()


def test_all_plugins_come_through_the_entry_points(monkeypatch):
    assert Registry.discover().plugins
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [])
    assert Registry.discover().plugins == ()


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


def test_what_a_plugin_prints_does_not_spoil_standard_output(monkeypatch, tmp_path, capsys):
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


def test_a_broken_plugin_costs_one_line_and_nothing_else(mirembed, tones, tmp_path):
    install(tmp_path / "site", "mirembed-broken", "import nothing_of_this_name")
    environment = install(tmp_path / "site", "mirembed-extra", SIMILARITY.format(name="same"))
    line = "plugin 'plugin' of mirembed-broken 1.0: ModuleNotFoundError: No module named 'nothing_of_this_name'"

    extracted = mirembed("extract", "--dataset", "folder", "--audio", tones, env=environment)
    assert "18 of 18 tracks in the store" in extracted.stdout
    warnings = [text for text in extracted.stderr.splitlines() if "nothing_of_this_name" in text]
    remedy = "mend or uninstall it, or leave it out with --no-plugin mirembed-broken"
    assert warnings == [f"warning: {line}; it is left out: {remedy}"]

    listed = mirembed("plugins", env=environment).stdout
    assert "same" in listed
    assert f"broken: {line}; {remedy}" in listed.splitlines()
    assert "Traceback" not in listed
    verbose = mirembed("plugins", "--verbose", env=environment).stdout
    assert "Traceback (most recent call last)" in verbose
    assert "import nothing_of_this_name" in verbose

    [broken] = json.loads(mirembed("plugins", "--json", env=environment).stdout)["broken"]
    assert broken["distribution"] == "mirembed-broken"
    assert broken["error"].startswith("ModuleNotFoundError")


def test_strict_plugins_make_a_broken_one_fatal(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-broken", "1 / 0")
    strict = {**environment, "MIREMBED_STRICT_PLUGINS": "1"}
    failed = mirembed("plugins", env=strict, code=1)
    assert failed.stdout == ""
    assert failed.stderr == (
        "error: plugin 'plugin' of mirembed-broken 1.0: ZeroDivisionError: division by zero; "
        "mend or uninstall it, or unset MIREMBED_STRICT_PLUGINS\n"
    )
    mirembed("plugins", env={**environment, "MIREMBED_STRICT_PLUGINS": "0"})


def test_strict_plugins_are_content_when_all_is_well(mirembed):
    mirembed("plugins", env={"MIREMBED_STRICT_PLUGINS": "1"})


@pytest.mark.parametrize("reason", BROKEN)
def test_whatever_is_wrong_with_a_plugin_the_others_work(reason, monkeypatch, tmp_path):
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


def test_an_unknown_name_tells_the_near_ones():
    registry = Registry([similarity("rbf"), similarity("cosine"), Plugin("learner", "rfb", dict, "", HOST, "1")])
    with pytest.raises(UnknownNameError) as error:
        registry.find("similarity", "rfb")
    assert str(error.value) == "no similarity is called 'rfb'; did you mean rbf?"
    with pytest.raises(UnknownNameError, match=r"no similarity is called 'COSINE'; did you mean cosine\?"):
        registry.find("similarity", "COSINE")
    with pytest.raises(UnknownNameError) as error:
        registry.find("similarity", "zzz")
    assert str(error.value) == "no similarity is called 'zzz'; there are cosine, rbf"
    with pytest.raises(UnknownNameError) as error:
        registry.find("dataset", "zzz")
    assert str(error.value) == "no dataset is called 'zzz'; there are none"


def test_an_unknown_name_tells_what_is_broken_and_might_have_had_it():
    registry = Registry([], [BrokenPlugin("kernels", "mirembed-extra", "1.0", "ImportError: no cupy", "")])
    with pytest.raises(UnknownNameError) as error:
        registry.find("similarity", "laplacian")
    assert "Broken, and so not looked in: plugin 'kernels' of mirembed-extra 1.0: ImportError: no cupy" in str(
        error.value
    )


def test_a_name_of_two_distributions_is_an_error_and_the_full_name_picks_one():
    first, second = similarity("laplacian", "mirembed-a"), similarity("laplacian", "mirembed-b")
    registry = Registry([similarity("rbf"), first, second])
    with pytest.raises(NameClashError) as error:
        registry.find("similarity", "laplacian")
    assert str(error.value) == (
        "similarity 'laplacian' is registered more than once; write mirembed-a/laplacian or mirembed-b/laplacian"
    )
    assert registry.find("similarity", "mirembed-b/laplacian") is second
    assert {registry.shown_name(plugin) for plugin in registry.plugins} == {
        "rbf",
        "mirembed-a/laplacian",
        "mirembed-b/laplacian",
    }


def test_an_intruder_is_reached_by_its_full_name_and_the_built_in_keeps_its_own(mirembed, tmp_path):
    environment = install(tmp_path / "site", "a-intruder", SIMILARITY.format(name="rbf"))
    listed = json.loads(mirembed("plugins", "--json", env=environment).stdout)["plugins"]
    places = {p["name"]: p["distribution"] for p in listed if p["kind"] == "similarity"}
    assert places["rbf"] == "mirembed"
    assert places["a-intruder/rbf"] == "a-intruder"

    registry = Registry([similarity("rbf", "a-intruder"), similarity("rbf")])
    assert registry.find("similarity", "rbf").distribution == HOST
    assert registry.find("similarity", "mirembed/rbf").distribution == HOST
    assert registry.find("similarity", "a-intruder/rbf").distribution == "a-intruder"


def test_one_name_may_stand_for_things_of_different_kinds():
    learner = Plugin("learner", "rbf", dict, "", "mirembed-a", "1.0")
    registry = Registry([similarity("rbf"), learner])
    assert registry.find("learner", "rbf") is learner


def test_a_factory_gets_its_parameters_and_is_called_only_when_it_is_used():
    calls = []

    def factory(*, gamma: float = 1.0) -> str:
        calls.append(gamma)
        return f"kernel of {gamma}"

    registry = Registry([similarity("rbf", factory=factory)])
    assert registry.find("similarity", "rbf").parameters == "gamma: float = 1.0"
    assert calls == []
    assert registry.create("similarity", Spec.parse("rbf:gamma=2")) == "kernel of 2.0"
    assert calls == [2.0]


def test_a_factory_whose_annotations_cannot_be_read_is_listed_all_the_same():
    def factory(*, gamma: Missing = 1.0) -> None: ...  # noqa: F821

    assert similarity("odd", factory=factory).parameters == "unknown (NameError: name 'Missing' is not defined)"


def test_provenance_holds_all_parameters_that_count():
    def factory(*, gamma: float = 1.0, table: Path = Path("a/b"), c: float | None = None) -> None: ...

    registry = Registry([similarity("rbf", "mirembed-extra", factory)])
    assert registry.provenance("similarity", Spec.parse("mirembed-extra/rbf:gamma=2")) == {
        "spec": "mirembed-extra/rbf:gamma=2",
        "name": "rbf",
        "distribution": "mirembed-extra",
        "version": "1.0",
        "parameters": {"gamma": 2.0, "table": "a/b", "c": None},
    }


@pytest.mark.parametrize("error", [RuntimeError("no graphics card"), SystemExit("no graphics card")])
def test_a_factory_that_fails_is_blamed_on_its_distribution(error):
    def factory() -> None:
        raise error

    registry = Registry([similarity("laplacian", "mirembed-extra", factory)])
    with pytest.raises(PluginError) as caught:
        registry.create("similarity", Spec("laplacian"))
    assert str(caught.value) == (
        f"similarity laplacian of mirembed-extra 1.0 fails: {type(error).__name__}: no graphics card; "
        "report it to that plugin's authors"
    )


def test_a_value_that_a_factory_refuses_is_an_error_of_the_parameter():
    def factory(*, gamma: float) -> None:
        raise ValueError(f"gamma is {gamma}: expected a number above 0")

    registry = Registry([similarity("laplacian", "mirembed-extra", factory)])
    with pytest.raises(ParameterError, match=r"^similarity laplacian:gamma=-1: gamma is -1\.0: expected"):
        registry.create("similarity", Spec.parse("laplacian:gamma=-1"))


STRANGERS = """
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
def strangers(tmp_path_factory):
    """The environment with a plugin of every kind."""
    return install(tmp_path_factory.mktemp("site"), "mirembed-strangers", STRANGERS)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store with three classes of tracks."""
    root = tmp_path_factory.mktemp("store")
    write_classes(root)
    return root


def test_a_strangers_dataset_is_extracted(mirembed, tones, strangers):
    done = mirembed("extract", "--dataset", "initials", "--audio", tones, env=strangers)
    assert "initials: 18 of 18 tracks in the store" in done.stdout
    assert "2 annotated tracks without audio here" in done.stdout
    assert "initials are labels" in done.stderr
    [shard] = mirembed.folder.glob("mirembed-store/datasets/initials/spectrograms/*.parquet")
    table = pq.read_table(shard, columns=["id", "label", "group"])
    assert {"id": "low-3.wav", "label": "l", "group": "low"} in table.to_pylist()


def test_a_strangers_similarities_and_learner_are_fitted_and_used(mirembed, store, strangers):
    """Also an estimator whose class only the plugin defines: it is saved and loaded again without pickle."""
    options = ["--store", store, "--epochs", 4, "--jobs", 1]
    approaches = ["--similarity", "laplacian:gamma=0.5", "--approach", "with-cross-sl"]
    fitted = mirembed("fit", *options, *approaches, "--learner", "means", "--json", env=strangers)
    models = {entry["approach"]: Path(entry["model"]) for entry in json.loads(fitted.stdout)["models"]}
    used = read_json(models["laplacian:gamma=0.5-sl"] / "model.json")["provenance"]["settings"]["approaches"]
    assert used["laplacian:gamma=0.5-sl"]["similarity"]["distribution"] == "mirembed-strangers"
    assert used["laplacian:gamma=0.5-sl"]["similarity"]["parameters"] == {"gamma": 0.5}

    for approach, has_cross in [("laplacian:gamma=0.5-sl", False), ("with-cross-sl", True)]:
        found = mirembed("similar", models[approach], "001", "--store", store, "--top", 3, env=strangers)
        same_class = {f"{number:03d}" for number in range(4, 18, 3)}
        ranked = [line.split("│")[2].strip() for line in found.stdout.splitlines() if line.startswith("│")]
        assert len(ranked) == 3
        assert set(ranked) <= same_class
        assert ("cross was called" in found.stderr) is has_cross


def test_a_strangers_similarity_and_learner_are_evaluated(mirembed, store, strangers):
    options = ["--store", store, "--epochs", 4, "--jobs", 1, "--cv", 2]
    approaches = ["--similarity", "laplacian:gamma=0.5", "--similarity", "with-cross"]
    evaluated = mirembed("evaluate", *options, *approaches, "--learner", "neighbors:k=1", "--json", env=strangers)
    scores = json.loads(evaluated.stdout)["approaches"]
    assert set(scores) == {"laplacian:gamma=0.5-sl", "with-cross-sl"}
    assert all(score["accuracy"]["mean"] > 0.8 for score in scores.values())
