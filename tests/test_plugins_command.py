"""``mirembed plugins``, ``plugins show`` and ``plugins check``."""

from __future__ import annotations

import json

import pytest
from third_party import install

from mirembed.errors import UnknownNameError
from mirembed.registry import HOOKS, Plugin, Registry
from mirembed.registry.plugins import describe, parameter_docs

EXTRA = '''
    from typing import Literal

    from mirembed import hookimpl

    class Documented:
        """A similarity.

        Parameters
        ----------
        gamma, c : float
            Above 0: the larger,
            the narrower.
        kind : {"a", "b"}

            After a blank line.

        Raises
        ------
        ValueError
            Never.
        """

        def __init__(self, gamma: float, c: float = 2.0, kind: Literal["a", "b"] = "a", more: int | None = None):
            self.gamma = gamma

        def __call__(self, x):
            return x @ x.mT

    def whole(gamma: float = 1.0):
        return lambda x: gamma * x @ x.mT

    def leaves():
        def similarity(x):
            print("called")
            raise SystemExit(0)

        return similarity

    def lopsided():
        def similarity(x):
            return x @ x.mT + x.sum(dim=-1, keepdim=True)

        return similarity

    @hookimpl
    def mirembed_register_similarities(register):
        register("documented", Documented, summary="A documented one")
        register("lopsided", lopsided)
        register("whole", whole)
        register("leaves", leaves)
        register("rbf", lopsided)
        register("svm", lopsided)
'''
MISSPELLED = """
    from mirembed import hookimpl

    @hookimpl
    def {name}(register):
        register("x", dict)
"""


@pytest.fixture
def extra(tmp_path) -> dict[str, str]:
    return install(tmp_path / "site", "mirembed-extra", EXTRA)


@pytest.mark.parametrize("hook", ["similarity", "mirembed_register_similarities"])
def test_hook_takes_a_kind_or_the_name_of_a_hook(mirembed, extra, hook):
    listed = json.loads(mirembed("plugins", "--hook", hook, "--json", env=extra).stdout)["plugins"]
    assert {plugin["kind"] for plugin in listed} == {"similarity"}
    assert {"rbf", "mirembed-extra/rbf", "documented"} <= {plugin["name"] for plugin in listed}
    table = mirembed("plugins", "--hook", hook, env=extra).stdout
    assert "documented" in table
    assert "gtzan" not in table


def test_an_unknown_hook_is_an_error(mirembed):
    [error] = mirembed("plugins", "--hook", "kernel", code=1).stderr.splitlines()
    assert [word for word in ("--hook kernel", *HOOKS, *HOOKS.values()) if word not in error] == []


def test_clashes_are_listed_with_the_names_that_avoid_them(mirembed, extra, tmp_path):
    install(tmp_path / "site", "mirembed-more", EXTRA)
    names = {
        "similarity 'rbf'": ("mirembed-extra/rbf", "mirembed-more/rbf"),
        "similarity 'documented'": ("mirembed-extra/documented", "mirembed-more/documented"),
    }
    clashes = json.loads(mirembed("plugins", "--json", env=extra).stdout)["clashes"]
    for name, full_names in names.items():
        [clash] = [clash for clash in clashes if clash.startswith(name)]
        assert [full_name for full_name in full_names if full_name not in clash] == []
    assert {f"clash: {clash}" for clash in clashes} <= set(mirembed("plugins", env=extra).stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mirembed_register_similarity", "mirembed_register_similarities"),
        ("miremebd_register_learners", "mirembed_register_learners"),
        ("register_dataset", "mirembed_register_datasets"),
    ],
)
def test_a_misspelled_hook_is_reported_with_a_suggestion(mirembed, tmp_path, name, meant):
    environment = install(tmp_path / "site", "mirembed-typo", MISSPELLED.format(name=name))
    broken = mirembed("plugins", env=environment).stdout.splitlines()[-1]
    assert broken.startswith("broken: plugin 'plugin' of mirembed-typo 1.0: ")
    assert [fact for fact in (repr(name), repr(meant), "--no-plugin mirembed-typo") if fact not in broken] == []


def test_show_prints_type_default_and_doc_of_each_parameter_and_the_origin_of_the_plugin(mirembed, extra, tmp_path):
    [shown] = json.loads(mirembed("plugins", "show", "documented", "--json", env=extra).stdout)["plugins"]
    doc = "Above 0: the larger, the narrower."
    assert shown["parameters"] == [
        {"name": "gamma", "type": "float", "default": None, "doc": doc},
        {"name": "c", "type": "float", "default": "2.0", "doc": doc},
        {"name": "kind", "type": "a | b", "default": "a", "doc": "After a blank line."},
        {"name": "more", "type": "int", "default": "None", "doc": ""},
    ]
    assert (shown["distribution"], shown["version"]) == ("mirembed-extra", "1.0")
    assert (shown["module"], shown["file"]) == ("mirembed_extra", str(tmp_path / "site" / "mirembed_extra.py"))

    text = mirembed("plugins", "show", "documented", env=extra).stdout
    assert "from    mirembed-extra 1.0, mirembed_register_similarities" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows[0] == ["gamma", "float", "required", doc]


def test_show_takes_a_full_name_a_shared_name_or_a_distribution(mirembed, extra):
    def shown(name: str) -> list[tuple[str, str]]:
        listed = json.loads(mirembed("plugins", "show", name, "--json", env=extra).stdout)["plugins"]
        return [(plugin["kind"], plugin["name"]) for plugin in listed]

    assert shown("mirembed-extra/rbf") == [("similarity", "mirembed-extra/rbf")]
    assert shown("svm") == [("learner", "svm"), ("similarity", "svm")]
    assert len(shown("mirembed-extra")) == 6


def test_show_prints_the_traceback_of_a_broken_plugin(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-broken", "1 / 0")
    text = mirembed("plugins", "show", "mirembed-broken", env=environment).stdout
    assert text.startswith("broken: plugin 'plugin' of mirembed-broken 1.0: ZeroDivisionError: division by zero; ")
    assert "mirembed_broken.py" in text


@pytest.mark.parametrize("command", ["show", "check"])
def test_an_unknown_name_is_an_error_with_a_suggestion(mirembed, command):
    [error] = mirembed("plugins", command, "cosin", code=1).stderr.splitlines()
    assert error.startswith("error: ")
    assert "'cosin'" in error
    assert "cosine" in error


def test_every_parameter_of_the_built_in_plugins_is_documented():
    registry = Registry.discover()
    parameters = [(p.full_name, each) for p in registry.plugins for each in describe(p, p.name).parameters]
    assert len(parameters) > 10
    assert [f"{name}: {parameter.name}" for name, parameter in parameters if not parameter.doc] == []


def test_a_factory_without_signature_or_docstring_can_be_described():
    registry = Registry([Plugin("learner", "odd", dict, "", "mirembed-odd", "1.0")])
    described = describe(registry.plugins[0], registry.plugins[0].name)
    assert described.parameters == []
    assert described.problem.startswith("ValueError: no signature found")
    assert parameter_docs(lambda: None) == {}


def test_parameters_of_a_function_are_documented():
    def factory(alpha: float = 1.0) -> None:
        """Make it.

        Parameters
        ----------
        alpha : float
            How much.
        """

    assert parameter_docs(factory) == {"alpha": "How much."}


def test_a_name_that_matches_nothing_is_unknown():
    with pytest.raises(UnknownNameError, match="'x'"):
        Registry([]).matching("x")


@pytest.mark.slow
def test_check_names_the_broken_promise_and_its_usual_cause(mirembed, extra):
    done = mirembed("plugins", "check", "lopsided", env=extra, code=1)
    assert "lopsided: 12 checks, 1 failed" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("symmetric: ")] != []
    assert "usual cause:" in done.stdout
    found = json.loads(mirembed("plugins", "check", "lopsided", "--json", env=extra, code=1).stdout)
    assert [o["check"] for o in found["similarity"] if o["status"] == "failed"] == ["symmetric"]


@pytest.mark.slow
def test_check_survives_a_plugin_that_exits_and_prints(mirembed, extra):
    done = mirembed("plugins", "check", "leaves", "--json", env=extra, code=1)
    assert "SystemExit" in json.loads(done.stdout)["similarity"][0]["reason"]
    assert "called" in done.stderr.splitlines()


@pytest.mark.slow
def test_check_accepts_a_required_parameter(mirembed, extra):
    assert " 0 failed" in mirembed("plugins", "check", "documented:gamma=2", env=extra).stdout


@pytest.mark.slow
def test_check_takes_parameters_and_a_shared_name(mirembed, extra):
    assert "whole:gamma=2: 12 checks, 0 failed" in mirembed("plugins", "check", "whole:gamma=2", env=extra).stdout
    found = json.loads(mirembed("plugins", "check", "svm", "--json", env=extra, code=1).stdout)
    assert set(found) == {"learner", "similarity"}


@pytest.mark.parametrize(
    ("spec", "facts"),
    [
        ("documented:gama=2", ["'gama'", "gamma: float"]),
        ("documented:gamma=wide", ["gamma=wide", "expected float"]),
        ("documented", ["gamma=..."]),
    ],
)
def test_check_refuses_parameters_that_the_plugin_does_not_take(mirembed, extra, spec, facts):
    done = mirembed("plugins", "check", spec, env=extra, code=1)
    assert done.stdout == ""
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [fact for fact in facts if fact not in error] == []


def test_check_of_a_dataset_takes_its_audio_folder(mirembed, tones):
    [error] = mirembed("plugins", "check", "folder", code=1).stderr.splitlines()
    assert error.startswith("error: ")
    assert "dataset folder" in error
    assert "--audio" in error
    assert " 0 failed" in mirembed("plugins", "check", "folder", "--audio", tones).stdout
