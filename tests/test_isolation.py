"""Broken plugins: errors name the plugin and what it did, and everything else works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import invoke
from small_store import workers_run, write_classes, write_targets
from third_party import install

from mirembed.registry import Registry
from mirembed.specs import Spec

pytestmark = pytest.mark.slow

GUILTY = """
    import os
    import sys

    print("imported")
    from mirembed import Classification, Listing, Regression, Track, hookimpl

    def squared(x):
        return x @ x.mT

    def similarity(call):
        return lambda: call

    def fails(x):
        raise RuntimeError("no graphics card")

    def leaves(x):
        sys.exit(0)

    def backwards(x):
        import torch

        class Squared(torch.autograd.Function):
            @staticmethod
            def forward(context, x):
                return x @ x.mT

            @staticmethod
            def backward(context, gradient):
                raise NotImplementedError("no gradient yet")

        return Squared.apply(x)

    def factory_that_fails():
        raise OSError("no license")

    def factory_that_leaves():
        sys.exit("no license")

    class Constant:
        def __init__(self, answer):
            self.answer = answer

        def fit(self, X, y):
            print("fitted")
            os.write(1, b"fitted natively\\n")
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self

        def predict(self, X):
            import numpy as np
            return np.asarray([self.answer] * len(X))

    class Learner:
        def __init__(self, answer):
            self.answer = answer

        def estimator(self, task):
            return Constant(self.answer)

    def learner(answer):
        return lambda: Learner(answer)

    class Dataset:
        def __init__(self, answer):
            self.answer = answer

        def listing(self, audio):
            print("listed")
            return self.answer()

    def dataset(answer):
        return lambda: Dataset(answer)

    CLASSES = Classification(("a", "b"))

    @hookimpl
    def mirembed_register_similarities(register):
        print("registered")
        register("fails", similarity(fails))
        register("leaves", similarity(leaves))
        register("backwards", similarity(backwards))
        register("misshapen", similarity(lambda x: x))
        register("nan", similarity(lambda x: squared(x) / 0))
        register("half-nan", similarity(lambda x: squared(x) * float("nan") if x.shape[-1] == 50 else squared(x)))
        register("factory-fails", factory_that_fails)
        register("factory-leaves", factory_that_leaves)
        register("rbf", similarity(fails))

    @hookimpl
    def mirembed_register_learners(register):
        register("fails", learner(ZeroDivisionError("division by zero")))
        register("leaves", learner(SystemExit(0)))
        register("misshapen", learner([0, 1]))
        register("nan", learner(float("nan")))
        register("stranger", learner(7))
        register("nothing", lambda: None)

    @hookimpl
    def mirembed_register_datasets(register):
        register("none", dataset(lambda: None))
        register("no-task", dataset(lambda: Listing(("a", "b"), [])))
        register("no-tracks", dataset(lambda: Listing(CLASSES, ["a.wav"])))
        register("leaves", dataset(lambda: sys.exit(0)))
        register("letters", dataset(lambda: Listing(Classification("ab"), [])))
        register("no-targets", dataset(lambda: Listing(Regression(("valence",)), [])))
        register("generator", dataset(lambda: Listing(CLASSES, (track for track in []))))
        register("absent", dataset(lambda: Listing(CLASSES, [], absent=None)))
        register("note", dataset(lambda: Listing(CLASSES, [], notes="a note")))
"""
HOOK = "from mirembed import hookimpl\n@hookimpl\ndef mirembed_register_learners(register): "
BLAME = "of mirembed-guilty 1.0"


def said(error: str, *facts: str) -> bool:
    """Whether an error contains all of these; fails with the first one that is missing."""
    for fact in facts:
        assert fact in error, error
    return True


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the distribution that is to blame."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "mirembed-guilty", GUILTY)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("store")
    write_classes(root, 9)
    return root


@pytest.fixture(scope="module")
def target_store(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("targets")
    write_targets(root, 6)
    return root


@pytest.fixture
def error_of(site, monkeypatch, capsys):
    """Run a command that fails; return its error. Nothing may be on standard output."""
    monkeypatch.syspath_prepend(site)

    def run(*words: object) -> str:
        with workers_run():
            invoke(*map(str, words), code=1)
        out, err = capsys.readouterr()
        assert out == ""
        [error] = [line for line in err.splitlines() if line.startswith("error: ")]
        return error.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("fails", ["(9, 3)", "RuntimeError: no graphics card"]),
        ("leaves", ["(9, 3)", "SystemExit: 0"]),
        ("backwards", ["gradient", "NotImplementedError: no gradient yet"]),
        ("misshapen", ["(9, 3)", "(9, 9)"]),
        ("nan", ["not finite", "(9, 3)", "mirembed plugins check"]),
        ("half-nan", ["not finite", "(9, 50)", "mirembed plugins check"]),
        ("factory-fails", ["OSError: no license"]),
        ("factory-leaves", ["SystemExit: no license"]),
        ("mirembed-guilty/rbf", ["(9, 3)", "RuntimeError: no graphics card"]),
    ],
)
def test_a_similarity_that_breaks_a_training_is_blamed(error_of, store, name, facts):
    error = error_of("fit", "--store", store, "--similarity", name, "--network", "mlp", "--epochs", 1)
    assert said(error, f"similarity {name} {BLAME} ", *facts)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("fails", ["6 tracks", "ZeroDivisionError: division by zero"]),
        ("leaves", ["6 tracks", "SystemExit: 0"]),
        ("misshapen", ["Constant", "(3, 2)", "int64", "0 to 2", "(3,)"]),
        ("nan", ["Constant", " nan ", "track 0", "3 ", "0 to 2"]),
        ("stranger", ["Constant", " 7 ", "track 0", "3 ", "0 to 2"]),
        ("nothing", ["AttributeError: 'NoneType' object has no attribute 'estimator'"]),
    ],
)
def test_a_learner_that_breaks_an_evaluation_is_blamed(error_of, store, name, facts):
    options = ["--store", store, "--approach", "fl", "--cv", 3, "--network", "mlp", "--epochs", 1, "--jobs", 1]
    assert said(error_of("evaluate", *options, "--learner", name), f"learner {name} {BLAME} ", *facts)


def test_predictions_of_targets_that_are_not_finite_are_blamed(error_of, target_store):
    options = ["--store", target_store, "--approach", "fl", "--cv", 3, "--network", "mlp", "--epochs", 1, "--jobs", 1]
    assert said(error_of("evaluate", *options, "--learner", "nan"), "Constant", f"learner nan {BLAME} ", "nan")


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("none", "NoneType"),
        ("no-task", "('a', 'b')"),
        ("no-tracks", "'a.wav'"),
        ("leaves", "SystemExit: 0"),
        ("letters", "'ab'"),
        ("no-targets", "('valence',)"),
        ("generator", "generator"),
        ("absent", "absent=None"),
        ("note", "'a note'"),
    ],
)
def test_a_dataset_with_a_malformed_listing_is_blamed(error_of, tmp_path, name, fact):
    error = error_of("extract", "--dataset", name, "--audio", tmp_path, "--store", tmp_path / "store")
    assert said(error, f"dataset {name} {BLAME} ", fact)


def test_a_keyboard_interrupt_is_never_blamed_on_a_plugin(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-interrupting", "raise KeyboardInterrupt")
    done = mirembed("plugins", env=environment, code=1)
    [line] = done.stderr.splitlines()
    assert line.startswith("interrupted")


def test_a_base_exception_breaks_its_plugin_alone(mirembed, tmp_path):
    """Such as the one with which pytest skips a module."""
    source = "class Skipped(BaseException): ...\nraise Skipped('no torch')"
    environment = install(tmp_path / "site", "mirembed-skipping", source)
    listed = json.loads(mirembed("plugins", "--json", env=environment).stdout)
    [broken] = listed["broken"]
    assert (broken["distribution"], broken["error"]) == ("mirembed-skipping", "Skipped: no torch")
    assert "rbf" in {plugin["name"] for plugin in listed["plugins"]}


def test_a_hook_that_raises_is_named(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-guilty", HOOK + "register(3, dict)")
    [broken] = json.loads(mirembed("plugins", "--json", env=environment).stdout)["broken"]
    assert said(broken["error"], "name 3")
    (tmp_path / "site" / "mirembed_guilty.py").write_text(HOOK + "1 / 0")
    [broken] = json.loads(mirembed("plugins", "--json", env=environment).stdout)["broken"]
    assert said(broken["error"], "mirembed_register_learners", "ZeroDivisionError: division by zero")


def test_unreadable_metadata_breaks_its_distribution_alone(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-odd", "")
    [points] = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    points.write_text("[mirembed]\nno equals sign\n")
    listed = json.loads(mirembed("plugins", "--json", env=environment).stdout)
    assert "rbf" in {plugin["name"] for plugin in listed["plugins"]}
    [broken] = listed["broken"]
    assert "mirembed_odd" in broken["distribution"]


def test_a_hook_may_have_another_name_if_it_declares_its_specname(monkeypatch, tmp_path):
    source = HOOK.replace("@hookimpl", "@hookimpl(specname='mirembed_register_learners')")
    source = source.replace("def mirembed_register_learners", "def bring") + "register('x', lambda: 'made')"
    install(tmp_path, "mirembed-renamed", source)
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry.discover().create("learner", Spec("x")) == "made"


def test_two_distributions_may_share_a_module(monkeypatch, tmp_path):
    source = HOOK + "register('x', lambda: 'made')"
    for name in ("mirembed-one", "mirembed-two"):
        install(tmp_path, name, source)
    (tmp_path / "mirembed_two-1.0.dist-info" / "entry_points.txt").write_text("[mirembed]\nplugin = mirembed_one\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.discover()
    assert not registry.broken
    assert registry.create("learner", Spec("mirembed-two/x")) == "made"


def test_one_distribution_may_not_register_a_name_twice(monkeypatch, tmp_path):
    install(tmp_path, "mirembed-double", HOOK + "register('x', dict)")
    points = tmp_path / "mirembed_double-1.0.dist-info" / "entry_points.txt"
    points.write_text("[mirembed]\none = mirembed_double\ntwo = mirembed_double\n")
    monkeypatch.syspath_prepend(tmp_path)
    [broken] = Registry.discover().broken
    assert said(str(broken), "plugin 'two' of mirembed-double 1.0", "learner 'x'", "another entry point")
