"""The documentation: its commands parse, its examples run, and its tables say what the program does."""

from __future__ import annotations

import ast
import contextlib
import csv
import fnmatch
import importlib.util
import itertools
import json
import re
import runpy
import shlex
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import typer
from conftest import CLASSES, RATE, tone, write_tones
from safetensors.numpy import load_file
from small_store import workers_run
from test_architecture import ROOMS

import mirembed
from mirembed.cli.main import app, main
from mirembed.errors import MirembedError
from mirembed.inference import AUDIO_SUFFIXES
from mirembed.registry import HOOKS, Registry
from mirembed.specs import Spec, parameters_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
KINDS = {
    "--dataset": "dataset",
    "--similarity": "similarity",
    "--label-similarity": "similarity",
    "--learner": "learner",
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sections(text: str, level: int) -> dict[str, str]:
    """The text under each heading of a level, up to the next of that level or above; code is no heading."""
    prose = re.sub(r"^```.*?^```$", lambda code: code[0].replace("\n#", "\n "), text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(rf"^(#{{1,{level}}}) (.*)$", prose, flags=re.MULTILINE)
    return {
        title: body
        for marks, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        if len(marks) == level
    }


def table(text: str) -> list[list[str]]:
    """The rows of the first table, without its heading; bare code in the first cell."""
    rows = re.search(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [[first.strip("`"), *others] for first, *others in cells]


def transcripts(text: str) -> Iterator[tuple[list[str], str]]:
    """The words after ``mirembed``, and what was printed, of every command in a console block."""
    for block in blocks(text, "console"):
        for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
            if "mirembed" in words:
                words = shlex.split(re.split(r" [;|>]|;", command)[0])
                yield words[words.index("mirembed") + 1 :], printed


def invoke(*words: str, code: int = 0) -> None:
    """Run a command in this process, where torch need not be imported again."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["mirembed", *words])
        main()
    assert end.value.code == code


# Commands


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_transcript_is_one_that_the_program_takes(name):
    program = typer.main.get_command(app)
    for words, printed in transcripts(read(name)):
        context = program.make_context("mirembed", words.copy())
        command, found, rest = program.resolve_command(context, words)
        found.make_context(command, rest, parent=context)
        for flag, value in itertools.pairwise(words):
            if flag in KINDS and "error:" not in printed:
                check_spec(KINDS[flag], Spec.parse(value))


def check_spec(kind: str, spec: Spec) -> None:
    registry = Registry.discover()
    with contextlib.suppress(MirembedError):
        registry.find(kind, spec.name)  # of an example's plugin, which is not installed here
        registry.create(kind, spec)
        return
    assert spec.name in {"laplacian", "knn", "moods", "mirembed-steep/rbf"}, f"{kind} {spec}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_flag_in_the_text_exists(name):
    program = typer.main.get_command(app)
    flags = {flag for command in program.commands.values() for p in command.params for flag in p.opts} | {"--help"}
    prose = re.sub(r"^```.*?^```$", "", read(name), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", prose):
        words = code.split()
        if words[:1] == ["mirembed"] and len(words) > 1 and not words[1].startswith("-"):
            known = {flag for p in program.commands[words[1]].params for flag in [*p.opts, *p.secondary_opts]}
            assert {word for word in words if word.startswith("--")} <= known | {"--help"}, code
        elif words[0].startswith("--") and words != ["--version"]:
            assert words[0] in flags or (name == "CONTRIBUTING.md"), code


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
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
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


def test_the_architecture_lists_the_modules_in_their_order():
    parts = sections(read("docs/architecture.md"), 2)
    assert [name.rstrip("/") for name, _ in table(parts["The core, from top to bottom"])] == ROOMS
    told = {cell for names, _ in table(parts["Where a command goes"]) for cell in re.findall(r"mirembed (\w+)", names)}
    assert told == {command.name for command in app.registered_commands}


def test_the_architecture_names_every_built_in_plugin():
    told = {
        (package, name)
        for package, names in table(sections(read("docs/architecture.md"), 2)["Plugins"])
        for name in re.findall(r"`(\w+)`", names)
    }
    own = [plugin for plugin in Registry.discover().plugins if plugin.distribution == "mirembed"]
    assert told == {(plugin.factory.__module__.partition(".")[0], plugin.name) for plugin in own}


def test_the_similarities_are_described_with_their_parameters():
    rows = table(sections(read("docs/researchers.md"), 2)["The method"])
    told = {name: dict(re.findall(r"`(\w+)` = (\d+)", parameters)) for name, _, parameters in rows}
    plugins = [p for p in Registry.discover().plugins if p.kind == "similarity" and p.distribution == "mirembed"]
    assert told == {p.name: {q.name: f"{q.default:g}" for q in parameters_of(p.factory)} for p in plugins}


def test_the_folder_dataset_is_described_with_its_parameters_and_endings():
    page = read("docs/music-folder.md")
    told = set(re.findall(r"(\w+)=(?:FILE|COLUMN)", page))
    assert told == {
        parameter.name for parameter in parameters_of(Registry.discover().find("dataset", "folder").factory)
    }
    assert set(re.findall(r"`(\.\w+)`", page.split("Audio is what ends in")[1].split("\n\n")[0])) == AUDIO_SUFFIXES


# Plugin examples


def write_examples(text: str, folder: Path) -> list[Path]:
    """Write the files that a page names before its code blocks, and install those that are distributions."""
    for name, code in re.findall(r"^`([\w/-]+\.\w+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
    projects = sorted(folder.glob("*/pyproject.toml"))
    for path in projects:
        project = tomllib.loads(path.read_text())["project"]
        information = path.parent / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["mirembed"].items())
        (information / "entry_points.txt").write_text(f"[mirembed]\n{points}")
    return [path.parent for path in projects]


@pytest.fixture
def examples(tmp_path) -> list[Path]:
    """The distributions of docs/plugin-authors.md."""
    return write_examples(read("docs/plugin-authors.md"), tmp_path / "examples")


def test_every_hook_has_its_section_and_no_other():
    titles = [title for title in sections(read("docs/plugin-authors.md"), 2) if "`mirembed_" in title]
    assert sorted(re.search(r"`(\w+)`", title)[1] for title in titles) == sorted(HOOKS.values())
    for title in titles:
        assert f"def {re.search(r'`(.+)`', title)[1]}(register)" in read("docs/plugin-authors.md").split(title)[-1]


def test_the_public_names_are_listed():
    rows = table(read("docs/plugin-authors.md"))
    assert {name for row in rows for name in re.findall(r"\w+", row[0])} == set(mirembed.__all__)


def test_the_examples_are_found(mirembed, examples):
    env = {"PYTHONPATH": ":".join(map(str, examples)), "MIREMBED_STRICT_PLUGINS": "1"}
    listed = json.loads(mirembed("plugins", "--json", env=env).stdout)["plugins"]
    assert {p["distribution"] for p in listed} == {"mirembed", *(path.name for path in examples)}


def test_the_examples_are_used_and_refused_as_the_page_says(examples, tmp_path, monkeypatch, capsys):
    music = write_tones(tmp_path / "MOODS", n_tracks=2, seconds=1.0)
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
        options = ["--similarity", "laplacian:gamma=0.2", "--learner", "knn:k=3,weights=uniform", "--epochs", "1"]
        invoke("evaluate", "--folds", "grouped", "--cv", "3", *options)
        invoke("fit", *options, "--name", "example")
        capsys.readouterr()
        invoke("predict", "example", "MOODS/low", "--json")
        predictions = json.loads(capsys.readouterr().out)["predictions"]
        assert [sorted(row) for row in predictions] == [["arousal", "path", "valence"]] * 2

    errors = list(transcripts(sections(read("docs/plugin-authors.md"), 2)["Errors"]))
    assert errors
    for words, printed in errors:
        invoke(*words, code=1)
        assert capsys.readouterr().err == printed


def test_the_test_of_the_example_passes(examples, monkeypatch):
    folder = next(path for path in examples if path.name == "mirembed-laplacian")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "mirembed_laplacian", raising=False)
    tests = [f for name, f in runpy.run_path(str(folder / "test_laplacian.py")).items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


def test_the_ten_lines_of_the_readme_are_the_laplacian_too(examples):
    import torch

    (code,) = blocks(sections(read("README.md"), 2)["Plugins"], "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    short: dict[str, object] = {}
    exec(code, short)
    full = runpy.run_path(str(examples[1] / "mirembed_laplacian.py"))
    vectors = torch.linspace(-1, 1, 24).reshape(2, 4, 3)
    torch.testing.assert_close(short["laplacian"](gamma=0.5)(vectors), full["Laplacian"](gamma=0.5)(vectors))
    (entry,) = blocks(sections(read("README.md"), 2)["Plugins"], "toml")
    points = tomllib.loads((examples[1] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert tomllib.loads(entry)["project"]["entry-points"] == points


# The store


TASKS = {"classification": [], "regression": ["arousal", "valence"]}
"""The targets of each task."""


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Iterator[Path]:
    """A folder with a folder for each task, with a store that holds every kind of file; the music is tones."""
    folder = tmp_path_factory.mktemp("work")
    for style, frequency in zip(("bossa", "house", "jig"), CLASSES.values(), strict=True):
        (folder / "audio" / style).mkdir(parents=True)
        for number in range(4):
            clip = folder / "audio" / style / f"{style}-{number:02d}.wav"
            soundfile.write(clip, tone(frequency, 1.0, seed=number), RATE)
    (folder / "audio" / "jig" / "jig-05.wav").write_bytes(b"no audio")
    approaches = [word for name in ("nn", "fl", "rbf-sl", "cosine-sl") for word in ("--approach", name)]
    with workers_run():
        for task in TASKS:
            (folder / task).mkdir()
            with contextlib.chdir(folder / task):
                dataset = "demo" if task == "classification" else f"demo:task={task}"
                invoke("extract", "--dataset", dataset, "--audio", "../audio", code=2)
                invoke("fit", *approaches, "--epochs", "1")
                invoke("evaluate", "--cv", "2", *approaches, "--epochs", "1", "--keep-models")
    return folder


def described_files() -> dict[str, str]:
    """The section of docs/store.md for each file that it describes, by the pattern of its path."""
    page = read("docs/store.md")
    titled = {**sections(page, 2), **sections(page, 3)}
    paths = {title: re.search(r"`(.+)`", title) for title in titled}
    return {re.sub(r"[A-Z]+", "*", path[1]): titled[title] for title, path in paths.items() if path}


def described_columns(body: str, targets: list[str]) -> dict[str, str]:
    """The columns of a section's table and their types; of classification where there are no targets."""
    columns = {}
    for name, kind, what in table(body):
        if "TARGET" in name:
            columns |= {name.replace("TARGET", target): kind for target in targets}
        elif not targets or "classification only" not in what:
            columns[name] = kind
    return columns


def short_type(kind: pa.DataType) -> str:
    """An Arrow type in the words of docs/store.md."""
    if pa.types.is_list(kind):
        return short_type(kind.value_type).replace("[", "[n_frames, ")
    if pa.types.is_fixed_size_list(kind):
        return f"float32 [{kind.list_size}]"
    return {"double": "float64"}.get(str(kind), str(kind))


@pytest.mark.parametrize("task", TASKS)
def test_every_file_of_a_store_is_described(task, work):
    store = work / task / "mirembed-store"
    files = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path.name != ".lock"}
    files = {re.sub(r"^runs/[^/]+/models/", "models/", file) for file in files if "/cache/" not in file}
    patterns = [*described_files(), "models/*/learner.skops"]
    assert [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not fnmatch.filter(files, pattern)] == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pattern", [pattern for pattern in described_files() if pattern.endswith(".parquet")])
def test_the_columns_are_those_that_the_program_writes(pattern, task, work):
    described = described_columns(described_files()[pattern], TASKS[task])
    files = list((work / task / "mirembed-store").glob(pattern))
    assert files
    for file in files:
        assert {field.name: short_type(field.type) for field in pq.read_schema(file)} == described


@pytest.mark.parametrize("pattern", [p for p in described_files() if p.endswith(".json") and "scores" not in p])
def test_the_keys_are_those_that_the_program_writes(pattern, work):
    files = list(work.glob(f"*/mirembed-store/{pattern}"))
    assert files
    for file in files:
        assert list(json.loads(file.read_text())) == [key for key, _ in table(described_files()[pattern])]


def test_the_scores_are_described(work):
    scores = [json.loads(file.read_text()) for file in work.glob("*/mirembed-store/runs/*/scores.json")]
    keys = {key for run in scores for of_approach in run.values() for key in of_approach}
    assert keys == set(re.findall(r"`(\w+)`", described_files()["runs/*/scores.json"])) - {"mean", "low", "high"}


def test_the_tensors_are_those_that_the_program_writes(work):
    described = {name: kind for name, kind, _ in table(described_files()["models/*/network.safetensors"])}
    seen = set()
    for file in work.glob("*/mirembed-store/models/*/network.safetensors"):
        for name, tensor in load_file(file).items():
            kind = re.sub("outputs|targets", str(len(tensor)), described[name])
            assert kind == f"{tensor.dtype} {list(tensor.shape)}", name
            seen.add(name)
    assert seen == set(described)


def test_the_lines_that_open_the_files_work(work, monkeypatch):
    monkeypatch.chdir(work / "classification")
    (run,) = Path("mirembed-store/runs").iterdir()
    optional = {"pd": "pandas", "duckdb": "duckdb"}
    missing = {alias for alias, module in optional.items() if importlib.util.find_spec(module) is None}
    scope: dict[str, object] = {}
    for block in blocks(read("docs/store.md"), "python"):
        for statement in ast.parse(block.replace("/RUN/", f"/{run.name}/")).body:
            names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            names |= {alias.asname or alias.name for alias in getattr(statement, "names", [])}
            if not names & missing:
                exec(ast.unparse(statement), scope)


def test_the_comparison_of_approaches_works(work, tmp_path, monkeypatch, capsys):
    write_examples(read("docs/researchers.md"), tmp_path)
    (run,) = (work / "classification" / "mirembed-store" / "runs").iterdir()
    monkeypatch.setattr(sys, "argv", ["compare.py", str(run)])
    runpy.run_path(str(tmp_path / "compare.py"))
    printed = [re.sub(r"-?\d\.\d+", "0", line) for line in capsys.readouterr().out.splitlines()]
    (told,) = blocks(sections(read("docs/researchers.md"), 2)["Comparing"], "text")
    assert printed == [re.sub(r"-?\d\.\d+", "0", line) for line in told.splitlines()]
