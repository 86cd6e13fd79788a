"""``mirembed plugins``, its ``show`` and its ``check``."""

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
MISSPELT = """
    from mirembed import hookimpl

    @hookimpl
    def {name}(register):
        register("x", dict)
"""


@pytest.fixture
def extra(tmp_path) -> dict[str, str]:
    return install(tmp_path / "site", "mirembed-extra", EXTRA)


@pytest.mark.parametrize("hook", ["similarity", "mirembed_register_similarities"])
def test_a_hook_is_chosen_by_its_kind_or_its_name(mirembed, extra, hook):
    listed = json.loads(mirembed("plugins", "--hook", hook, "--json", env=extra).stdout)["plugins"]
    assert {plugin["kind"] for plugin in listed} == {"similarity"}
    assert {"rbf", "mirembed-extra/rbf", "documented"} <= {plugin["name"] for plugin in listed}
    table = mirembed("plugins", "--hook", hook, env=extra).stdout
    assert "documented" in table
    assert "gtzan" not in table


def test_a_hook_that_is_none_is_an_error(mirembed):
    done = mirembed("plugins", "--hook", "kernel", code=1)
    assert done.stderr == (
        f"error: --hook kernel: expected dataset, similarity, learner, or one of {', '.join(HOOKS.values())}\n"
    )


def test_names_that_clash_are_listed_with_the_way_out(mirembed, extra, tmp_path):
    install(tmp_path / "site", "mirembed-more", EXTRA)
    clashes = [
        "similarity 'rbf' is built in; for the other one write mirembed-extra/rbf or mirembed-more/rbf",
        "similarity 'documented' is registered more than once; write mirembed-extra/documented or "
        "mirembed-more/documented",
    ]
    listed = json.loads(mirembed("plugins", "--json", env=extra).stdout)
    assert set(clashes) <= set(listed["clashes"])
    assert {f"clash: {clash}" for clash in clashes} <= set(mirembed("plugins", env=extra).stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mirembed_register_similarity", "mirembed_register_similarities"),
        ("miremebd_register_learners", "mirembed_register_learners"),
        ("register_dataset", "mirembed_register_datasets"),
    ],
)
def test_a_misspelled_hook_is_reported_with_the_name_that_was_meant(mirembed, tmp_path, name, meant):
    environment = install(tmp_path / "site", "mirembed-typo", MISSPELT.format(name=name))
    done = mirembed("plugins", env=environment)
    assert done.stdout.splitlines()[-1] == (
        f"broken: plugin 'plugin' of mirembed-typo 1.0: there is no hook {name!r}; {meant!r} was probably meant; "
        "mend or uninstall it, or leave it out with --no-plugin mirembed-typo"
    )


def test_show_tells_parameters_with_type_default_and_doc_and_where_the_plugin_is_from(mirembed, extra, tmp_path):
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
    assert text.startswith("broken: plugin 'plugin' of mirembed-broken 1.0: ZeroDivisionError: division by zero; mend")
    assert "mirembed_broken.py" in text


def test_show_of_an_unknown_name_tells_the_near_ones(mirembed):
    done = mirembed("plugins", "show", "cosin", code=1)
    assert done.stderr == "error: no plugin is called 'cosin'; did you mean cosine?\n"


def test_every_parameter_of_the_built_in_plugins_is_documented():
    registry = Registry.discover()
    parameters = [(p.full_name, each) for p in registry.plugins for each in describe(registry, p).parameters]
    assert len(parameters) > 10
    assert [f"{name}: {parameter.name}" for name, parameter in parameters if not parameter.doc] == []


def test_a_factory_without_a_signature_or_a_docstring_is_described_all_the_same():
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
    with pytest.raises(UnknownNameError, match=r"^no plugin is called 'x'; there are none$"):
        Registry([]).matching("x")


def test_check_tells_which_promise_is_kept_and_which_broken(mirembed, extra):
    done = mirembed("plugins", "check", "lopsided", env=extra, code=1)
    assert "lopsided: 12 checks, 1 failed" in done.stdout
    assert "symmetric: is not symmetric" in done.stdout
    assert "usual cause:" in done.stdout
    found = json.loads(mirembed("plugins", "check", "lopsided", "--json", env=extra, code=1).stdout)
    assert [o["check"] for o in found["similarity"] if o["status"] == "failed"] == ["symmetric"]


def test_check_is_neither_ended_nor_spoiled_by_what_it_checks(mirembed, extra):
    done = mirembed("plugins", "check", "leaves", "--json", env=extra, code=1)
    assert "SystemExit" in json.loads(done.stdout)["similarity"][0]["reason"]
    assert "called" in done.stderr.splitlines()


def test_check_takes_a_parameter_that_has_to_be_given(mirembed, extra):
    assert " 0 failed" in mirembed("plugins", "check", "documented:gamma=2", env=extra).stdout


def test_check_takes_parameters_and_a_name_of_several_kinds(mirembed, extra):
    assert "whole:gamma=2: 12 checks, 0 failed" in mirembed("plugins", "check", "whole:gamma=2", env=extra).stdout
    found = json.loads(mirembed("plugins", "check", "svm", "--json", env=extra, code=1).stdout)
    assert set(found) == {"learner", "similarity"}


def test_check_of_a_dataset_takes_its_audio_folder(mirembed, tones):
    done = mirembed("plugins", "check", "folder", code=1)
    assert done.stderr == "error: the dataset folder is checked on a copy of its audio: give the folder (--audio)\n"
    assert " 0 failed" in mirembed("plugins", "check", "folder", "--audio", tones).stdout


def test_check_of_an_unknown_name_is_an_error(mirembed):
    done = mirembed("plugins", "check", "rfb", code=1)
    assert done.stderr == "error: no plugin is called 'rfb'; did you mean rbf?\n"
