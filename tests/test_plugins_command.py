"""``mirembed plugins`` and its subcommands ``show`` and ``check``."""

from __future__ import annotations

import json

import pytest
from third_party import install

from mirembed.errors import UnknownNameError
from mirembed.registry import HOOKS, Plugin, Registry
from mirembed.registry.descriptions import describe, parameter_docs

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


def assert_suggests(errors: str, name: str, similar: str) -> None:
    [line] = errors.splitlines()
    assert line.startswith("error: ")
    assert repr(name) in line
    assert line.endswith(f" {similar}?")


@pytest.fixture
def extra(tmp_path) -> dict[str, str]:
    return install(tmp_path / "site", "mirembed-extra", EXTRA)


@pytest.mark.parametrize("hook", ["similarity", "mirembed_register_similarities"])
def test_plugins_are_selected_by_their_kind_or_their_hook(mirembed, extra, hook):
    listed = json.loads(mirembed("plugins", "--hook", hook, "--json", env=extra).stdout)["plugins"]
    assert {plugin["kind"] for plugin in listed} == {"similarity"}
    assert {"rbf", "mirembed-extra/rbf", "documented"} <= {plugin["name"] for plugin in listed}
    table = mirembed("plugins", "--hook", hook, env=extra).stdout
    assert "documented" in table
    assert "gtzan" not in table


def test_an_unknown_hook_is_an_error(mirembed):
    done = mirembed("plugins", "--hook", "kernel", code=1)
    [line] = done.stderr.splitlines()
    for fact in ("error: ", "--hook kernel", *HOOKS, *HOOKS.values()):
        assert fact in line


def test_clashes_are_listed_with_the_full_names(mirembed, extra, tmp_path):
    install(tmp_path / "site", "mirembed-more", EXTRA)
    clashes = json.loads(mirembed("plugins", "--json", env=extra).stdout)["clashes"]
    for name in ("rbf", "documented"):
        [clash] = [clash for clash in clashes if clash.startswith(f"similarity '{name}'")]
        assert f"mirembed-extra/{name} or mirembed-more/{name}" in clash
    assert {f"clash: {clash}" for clash in clashes} <= set(mirembed("plugins", env=extra).stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mirembed_register_similarity", "mirembed_register_similarities"),
        ("miremebd_register_learners", "mirembed_register_learners"),
        ("register_dataset", "mirembed_register_datasets"),
    ],
)
def test_a_misspelled_hook_is_reported_with_the_correct_name(mirembed, tmp_path, name, meant):
    environment = install(tmp_path / "site", "mirembed-typo", MISSPELLED.format(name=name))
    done = mirembed("plugins", env=environment)
    line = done.stdout.splitlines()[-1]
    for fact in ("broken: ", "mirembed-typo 1.0", repr(name), repr(meant), "--no-plugin mirembed-typo"):
        assert fact in line


def test_show_describes_the_parameters_and_the_origin_of_a_plugin(mirembed, extra, tmp_path):
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


def test_show_takes_a_full_name_a_name_of_several_kinds_and_a_distribution(mirembed, extra):
    def shown(name: str) -> list[tuple[str, str]]:
        listed = json.loads(mirembed("plugins", "show", name, "--json", env=extra).stdout)["plugins"]
        return [(plugin["kind"], plugin["name"]) for plugin in listed]

    assert shown("mirembed-extra/rbf") == [("similarity", "mirembed-extra/rbf")]
    assert shown("svm") == [("learner", "svm"), ("similarity", "svm")]
    assert len(shown("mirembed-extra")) == 6


def test_show_prints_the_traceback_of_a_broken_plugin(mirembed, tmp_path):
    environment = install(tmp_path / "site", "mirembed-broken", "1 / 0")
    text = mirembed("plugins", "show", "mirembed-broken", env=environment).stdout
    assert text.startswith("broken: plugin 'plugin' of mirembed-broken 1.0: ZeroDivisionError: division by zero")
    assert "mirembed_broken.py" in text


def test_show_suggests_similar_names_for_an_unknown_one(mirembed):
    done = mirembed("plugins", "show", "cosin", code=1)
    assert_suggests(done.stderr, "cosin", "cosine")


def test_every_parameter_of_the_built_in_plugins_is_documented():
    registry = Registry.discover()
    parameters = [(p.full_name, each) for p in registry.plugins for each in describe(registry, p).parameters]
    assert len(parameters) > 10
    assert [f"{name}: {parameter.name}" for name, parameter in parameters if not parameter.doc] == []


def test_a_factory_without_a_signature_or_a_docstring_can_be_described():
    registry = Registry([Plugin("learner", "odd", dict, "", "mirembed-odd", "1.0")])
    described = describe(registry, registry.plugins[0])
    assert described.parameters == []
    assert described.problem.startswith("ValueError: no signature found")
    assert parameter_docs(lambda: None) == {}


def test_a_function_is_documented_too():
    def factory(alpha: float = 1.0) -> None:
        """Make it.

        Parameters
        ----------
        alpha : float
            How much.
        """

    assert parameter_docs(factory) == {"alpha": "How much."}


def test_a_name_that_matches_nothing_is_unknown():
    with pytest.raises(UnknownNameError, match=r"'x'.* none"):
        Registry([]).matching("x")


def test_check_says_which_promises_are_kept_and_which_are_broken(mirembed, extra):
    done = mirembed("plugins", "check", "lopsided", env=extra, code=1)
    assert "lopsided: 12 checks, 1 failed" in done.stdout
    assert "\nsymmetric: " in done.stdout
    assert "usual cause:" in done.stdout
    found = json.loads(mirembed("plugins", "check", "lopsided", "--json", env=extra, code=1).stdout)
    assert [o["check"] for o in found["similarity"] if o["status"] == "failed"] == ["symmetric"]


def test_a_plugin_that_exits_or_prints_does_not_disturb_its_check(mirembed, extra):
    done = mirembed("plugins", "check", "leaves", "--json", env=extra, code=1)
    assert "SystemExit" in json.loads(done.stdout)["similarity"][0]["reason"]
    assert "called" in done.stderr.splitlines()


def test_check_accepts_a_required_parameter(mirembed, extra):
    assert " 0 failed" in mirembed("plugins", "check", "documented:gamma=2", env=extra).stdout


def test_check_accepts_parameters_and_a_name_of_several_kinds(mirembed, extra):
    assert "whole:gamma=2: 12 checks, 0 failed" in mirembed("plugins", "check", "whole:gamma=2", env=extra).stdout
    found = json.loads(mirembed("plugins", "check", "svm", "--json", env=extra, code=1).stdout)
    assert set(found) == {"learner", "similarity"}


def test_check_of_a_dataset_takes_its_audio_folder(mirembed, tones):
    done = mirembed("plugins", "check", "folder", code=1)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "dataset folder" in line
    assert "--audio" in line
    assert " 0 failed" in mirembed("plugins", "check", "folder", "--audio", tones).stdout


def test_check_of_an_unknown_name_is_an_error(mirembed):
    done = mirembed("plugins", "check", "rfb", code=1)
    assert_suggests(done.stderr, "rfb", "rbf")
