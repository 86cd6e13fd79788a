"""The documentation: its commands parse, its examples run, and what it lists is what there is."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import inspect
import itertools
import json
import re
import runpy
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_args

import pytest
from conftest import CLASSES, write_tones
from pages import MADE, ROOT, blocks, invoke, named_files, read, sections, table, transcripts, write_examples
from small_store import workers_run
from test_architecture import LAYER
from test_docs_names import find
from third_party import found_in

import mirembed
from mirembed import (
    Archive,
    Card,
    Classification,
    Dataset,
    Estimator,
    Features,
    Learner,
    Listing,
    Network,
    NetworkModule,
    Regression,
    Similarity,
    Split,
    Tags,
    Target,
    Track,
    hookspecs,
)
from mirembed.audio.files import AUDIO_SUFFIXES
from mirembed.datasets.catalog import describe
from mirembed.errors import MirembedError
from mirembed.registry import HOOKS, Registry
from mirembed.registry.plugins import COMMANDS_HOOK
from mirembed.specs import Spec, parameters_of

REGISTRY = Registry.discover()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
TABLE = re.compile(r"^\| (\w+) \|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", re.MULTILINE)
"""The first heading and the rows of a table."""
FIRST_CELL = re.compile(r"^\|([^|]*)\|", re.MULTILINE)
OPTIONAL = re.compile(r"``(\w+(?:\([\w, ]*\))?)``(?:\n| for)")
"""Members that the docstring of a protocol says are looked for."""
KINDS = {"--dataset": "dataset", "--similarity": "similarity", "--learner": "learner"}
"""Flags whose value is the spec of a plugin."""


# Commands


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_transcript_is_one_that_the_program_takes(name):
    for words, printed in transcripts(read(name)):
        command, rest = find(words)
        command.make_context("mirembed", rest.copy())
        for flag, value in itertools.pairwise(rest):
            if flag in KINDS and "error:" not in printed:
                check_spec(KINDS[flag], value)


@functools.cache
def check_spec(kind: str, spec: str, registry: Registry = REGISTRY) -> None:
    with contextlib.suppress(MirembedError):
        registry.find(kind, Spec.parse(spec).name)  # of an example's plugin, which is not installed here
        registry.create(kind, Spec.parse(spec))
        return
    examples = {"laplacian", "knn", "moods", "csvmood", "forest", "shape", "tcn"}
    assert Spec.parse(spec).name.rpartition("/")[2] in {*examples, "rbf"}, f"{kind} {spec}"


def test_the_three_commands_of_the_first_run_are_those_of_make_demo():
    demo = re.findall(r"\bmirembed (.*)", read("Makefile").split("\ndemo:")[1].split("\n\n")[0])
    first_run = blocks(sections(read("README.md"), 2)["A first run"], "console")[0]
    assert [" ".join(words) for words, _ in transcripts(f"```console\n{first_run}```")] == demo


# Links, picture, version


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        name, _, anchor = target.partition("#")
        if target.startswith("https://") or name in MADE:
            continue
        linked = page.parent / name if name else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_page_names_a_folder_of_some_machine(page):
    assert re.findall(r"/(?:tmp|home|root|work)/\S*", page.read_text(encoding="utf-8")) == []


def test_the_picture_is_sound():
    picture = ElementTree.parse(ROOT / "docs" / "pipeline.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert picture.get("viewBox")
    words = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"dataset", "similarity S", "learner", "embedding", "loss", "prediction"} <= words
    assert 'src="docs/pipeline.svg"' in read("README.md")


def test_the_version_is_the_same_everywhere():
    latest = re.search(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)[1]
    cited = re.search(r"version = \{(.+?)\}", read("README.md"))[1]
    assert {latest, cited, tomllib.loads(read("pyproject.toml"))["project"]["version"]} == {mirembed.__version__}


# Architecture and parameters


def test_the_architecture_lists_the_packages_in_their_layers():
    rows = table(sections(read("docs/architecture.md"), 2)["The packages"])
    assert {(package.strip("`").rstrip("/"), int(layer)) for layer, package, _ in rows} == set(LAYER.items())


def test_the_architecture_names_every_built_in_plugin():
    [rows] = [rows for first, rows in TABLE.findall(read("docs/architecture.md")) if first == "Package"]
    told = {
        (package, name)
        for package, *names in (re.findall(r"`(\w+)`", row) for row in rows.splitlines())
        for name in names
    }
    own = [plugin for plugin in REGISTRY.plugins if plugin.distribution == "mirembed"]
    assert told == {(plugin.factory.__module__.partition(".")[0], plugin.name) for plugin in own}


def test_the_similarities_are_described_with_their_parameters():
    [rows] = [rows for first, rows in TABLE.findall(read("docs/method.md")) if first == "Similarity"]
    cells = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows.splitlines()]
    told = {name: dict(re.findall(r"`?(\w+)`? = (\d+)", parameters)) for name, _, parameters in cells}
    plugins = [p for p in REGISTRY.plugins if p.kind == "similarity" and p.distribution == "mirembed"]
    assert told == {p.name: {q.name: f"{q.default:g}" for q in parameters_of(p.factory)} for p in plugins}


def test_the_features_are_described_with_their_parameters():
    features = {p.name: p for p in REGISTRY.plugins if p.kind == "features" and p.distribution == "mirembed"}
    page = sections(read("docs/features.md"), 2)
    for name, plugin in features.items():
        described = re.findall(r"`(\w+)`", " ".join(re.findall(r"(?m)^\| ((?:`\w+`(?:, )?)+) \|", page[name])))
        expected = [parameter.name for parameter in parameters_of(plugin.factory)]
        assert [one for one in described if one in expected] == expected, name


def test_the_datasets_are_described_with_their_official_folds_and_faults():
    registry = REGISTRY
    for name, tracks, labels, folds, faults in table(sections(read("docs/datasets.md"), 2)["The datasets"]):
        known = describe(registry, Spec(name))
        assert (tracks, labels) == (str(known.card.n_tracks), known.card.labels)
        assert dict(re.findall(r"`(\w+)` \((\d+)\)", folds)) == {key: str(n) for key, n in known.schemes.items()}
        assert all(f"`{scheme}`" in folds for scheme in known.card.folds[:1] + known.card.folds[-1:])
        assert faults == str(len(known.faults) or "")


def test_the_folder_dataset_is_described_with_its_parameters_and_endings():
    told = set(re.findall(r"(\w+)=(?:FILE|COLUMN|WORD)", read("docs/labels.md")))
    assert told == {parameter.name for parameter in parameters_of(REGISTRY.find("dataset", "folder").factory)}
    paragraph = read("docs/audio-files.md").split("recognized by their extension:")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\.\w+)`", paragraph)) == AUDIO_SUFFIXES


def test_the_library_dataset_is_described_with_its_parameters_and_labels():
    page = read("docs/music-folder.md")
    parameters = {p.name: p for p in parameters_of(REGISTRY.find("dataset", "library").factory)}
    assert {name for name in parameters if re.search(rf"`{name}=", page)} == parameters.keys()
    rows = table(sections(page, 2)["Which label to choose"])
    assert {re.search(r"\w+", first)[0] for first, *_ in rows} == set(get_args(parameters["label"].annotation))


# Plugin examples


@pytest.fixture
def examples(tmp_path) -> list[Path]:
    """The distributions of docs/plugin-tutorial.md and docs/plugin-authors.md."""
    pages = read("docs/plugin-tutorial.md") + read("docs/plugin-authors.md")
    return write_examples(pages, tmp_path / "examples")


def test_the_tutorial_writes_the_tested_example():
    written = dict(named_files(read("docs/plugin-tutorial.md")))
    example = ROOT / "docs" / "examples" / "mirembed-laplacian"
    tested = {path for path in example.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert written == {path.relative_to(example.parent).as_posix(): path.read_text() for path in tested}


def test_the_tutorial_begins_with_what_plugins_new_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words, printed = next(transcripts(read("docs/plugin-tutorial.md")))
    invoke(*words)
    assert capsys.readouterr().out == printed


def test_every_hook_has_its_section_and_no_other():
    titles = [title for title in sections(read("docs/plugin-authors.md"), 2) if "`mirembed_" in title]
    assert sorted(re.search(r"`(\w+)`", title)[1] for title in titles) == sorted([*HOOKS.values(), COMMANDS_HOOK])
    for title in titles:
        hook = re.search(r"`(.+)`", title)[1]
        code = read("docs/plugin-authors.md") + read("docs/plugin-tutorial.md")
        parameters = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
        assert re.search(rf"def {hook}\({parameters}\b", code)


@pytest.mark.parametrize(
    ("kind", "protocols", "types"),
    [
        ("similarity", [Similarity], []),
        ("learner", [Learner, Estimator], []),
        ("dataset", [Dataset], [Listing, Track, Classification, Tags, Regression, Target, Card, Archive, Split]),
    ],
)
def test_the_section_of_a_hook_tells_every_member_and_field_that_it_knows_and_no_other(kind, protocols, types):
    [section] = [text for title, text in sections(read("docs/plugin-authors.md"), 2).items() if HOOKS[kind] in title]
    members = {
        f"{name}({', '.join([*inspect.signature(function).parameters][1:])})"
        for protocol in protocols
        for name, function in vars(protocol).items()
        if inspect.isfunction(function) and (name == "__call__" or not name.startswith("_"))
    }
    optional = {name for protocol in protocols for name in OPTIONAL.findall(protocol.__doc__)}
    tables = TABLE.findall(section)
    listed = {cell.strip(" `") for rows in tables if rows[0] == "Member" for cell in FIRST_CELL.findall(rows[1])}
    told_in_prose = {"listing(audio)"} if kind == "dataset" else set()
    assert listed | told_in_prose == members | optional

    fields = {each.__name__: {field.name for field in dataclasses.fields(each)} for each in types}
    rows = [row for rows in tables if rows[0] == "Class" for row in rows[1].splitlines()]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {first.strip("`"): set(re.findall(r"`(\w+)`", text)) for first, text in cells} == fields


@pytest.mark.parametrize(("kind", "protocols"), [("features", [Features]), ("network", [Network, NetworkModule])])
def test_the_section_of_features_and_networks_tells_every_member(kind, protocols):
    [section] = [text for title, text in sections(read("docs/plugin-authors.md"), 2).items() if HOOKS[kind] in title]
    members = set()
    for protocol in protocols:
        members |= {*protocol.__annotations__}
        members |= {*re.findall(r"^``(\w+(?:\([\w, ]*\))?)``(?: :|$)", inspect.getdoc(protocol), re.MULTILINE)}
        members |= {
            f"{name}({', '.join([*inspect.signature(function).parameters][1:])})"
            for name, function in vars(protocol).items()
            if inspect.isfunction(function) and (name == "__call__" or not name.startswith("_"))
        }
    rows = [row for first, row in TABLE.findall(section) if first == "Member"]
    assert {cell.strip(" `") for row in rows for cell in FIRST_CELL.findall(row)} == members


def test_the_public_names_are_listed():
    rows = table(read("docs/plugin-authors.md"))
    assert {name for row in rows for name in re.findall(r"\w+", row[0])} == set(mirembed.__all__)


def test_the_examples_are_found(mirembed, examples):
    env = {**found_in(*examples), "MIREMBED_STRICT_PLUGINS": "1"}
    listed = json.loads(mirembed("plugins", "--json", env=env).stdout)["plugins"]
    assert {p["distribution"] for p in listed} == {"mirembed", *(path.name for path in examples)}


def test_the_examples_are_used_and_refused_as_the_page_says(examples, tmp_path, monkeypatch, capsys):
    music = write_tones(tmp_path / "MOODS", n_tracks=2, seconds=0.5)
    with (music / "annotations.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "artist", "valence", "arousal"])
        rows.writerows([f"{name}/{name}-{i}.wav", f"{name} band", 1 + i, 9 - i] for name in CLASSES for i in range(3))
    monkeypatch.chdir(tmp_path)
    for path in examples:
        monkeypatch.syspath_prepend(path)

    with workers_run():
        invoke("extract", "--dataset", "moods", "--audio", "MOODS", "--json")
        summary = json.loads(capsys.readouterr().out)
        assert (summary["extracted"], summary["absent"]) == (6, 3)
        options = ["--similarity", "laplacian:gamma=0.2", "--learner", "knn:k=3,weights=uniform"]
        options += ["--epochs", "1", "--network", "mlp"]
        invoke("evaluate", "--folds", "grouped", "--cv", "3", *options)
        invoke("fit", *options, "--name", "example")
        capsys.readouterr()
        invoke("predict", "example", "MOODS/low", "--json")
        predictions = json.loads(capsys.readouterr().out)["predictions"]
        assert [sorted(row) for row in predictions] == [["arousal", "known", "path", "valence"]] * 2

    errors = list(transcripts(sections(read("docs/plugin-authors.md"), 2)["Errors"]))
    assert errors
    for words, printed in errors:
        invoke(*words, code=1)
        assert f"{capsys.readouterr().err.splitlines()[-1]}\n" == printed


def test_the_ten_lines_of_the_readme_are_the_laplacian_too():
    import torch

    (code,) = blocks(sections(read("README.md"), 2)["Plugins"], "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    short: dict[str, object] = {}
    exec(code, short)
    laplacian = ROOT / "docs" / "examples" / "mirembed-laplacian"
    full = runpy.run_path(str(laplacian / "mirembed_laplacian.py"))
    vectors = torch.linspace(-1, 1, 24).reshape(2, 4, 3)
    torch.testing.assert_close(short["laplacian"](gamma=0.5)(vectors), full["Laplacian"](gamma=0.5)(vectors))
    (entry,) = blocks(sections(read("README.md"), 2)["Plugins"], "toml")
    points = tomllib.loads((laplacian / "pyproject.toml").read_text())["project"]["entry-points"]
    assert tomllib.loads(entry)["project"]["entry-points"] == points
